"""ST-LPIPS against figures of the published implementation (stlpips-pytorch 0.0.2, computed once)."""

from __future__ import annotations

import pytest
import torch

from m2dao.assets import asset_path
from m2dao.errors import AssetCorrupt, AssetUnavailable, InputError
from m2dao.training.losses.perceptual import StLpips, blur_pool

PUBLISHED = {(64, 64, 0): 0.178093046, (96, 72, 1): 0.106272697, (33, 50, 2): 0.141113698, (128, 128, 3): 0.122056000}


@pytest.fixture(scope="module")
def metric():
    try:
        path = asset_path("lpips_alex")
    except AssetUnavailable as error:
        pytest.skip(f"the weight file cannot be had here: {error}")
    return StLpips(path)


def pair(height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    x, y, channel = x[..., None], y[..., None], torch.arange(3)
    image = 0.5 + 0.4 * torch.sin(2 * torch.pi * ((2 + seed) * x + (1 + channel) * y) + channel)
    other = image + 0.2 * torch.cos(2 * torch.pi * (7 * x - (3 + seed) * y) + channel)
    return image, other.clamp(0, 1)


@pytest.mark.parametrize(("shape", "expected"), PUBLISHED.items())
def test_distances_are_those_of_the_published_implementation(metric, shape, expected):
    assert metric(*pair(*shape)).item() == pytest.approx(expected, abs=2e-6)


def test_equal_images_are_at_no_distance_and_order_does_not_matter(metric):
    image, other = pair(64, 64, 0)
    assert metric(image, image).item() == 0
    torch.testing.assert_close(metric(image, other), metric(other, image))


def test_a_batch_gives_the_distance_of_each_pair(metric):
    first, second = pair(48, 48, 0), pair(48, 48, 1)
    both = metric(torch.stack([first[0], second[0]]), torch.stack([first[1], second[1]]))
    torch.testing.assert_close(both, torch.stack([metric(*first), metric(*second)]))
    kept = metric.features(first[1][None])
    torch.testing.assert_close(metric.distance(metric.features(first[0][None]), kept), both[:1])


def test_a_shift_by_one_pixel_costs_less_than_a_blur(metric):
    from torch.nn.functional import avg_pool2d

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 40, 40, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (80, 80), mode="bicubic").clamp(0, 1)
    blurred = avg_pool2d(image, 5, 1, 2)[0].permute(1, 2, 0)
    shifted = torch.roll(image, 1, dims=3)[0].permute(1, 2, 0)
    image = image[0].permute(1, 2, 0)
    inside = (slice(4, -4), slice(4, -4))
    assert metric(shifted[inside], image[inside]) < 0.5 * metric(blurred[inside], image[inside])


def test_the_gradient_leads_to_a_closer_image(metric):
    image, target = pair(64, 64, 0)
    image.requires_grad_()
    distance = metric(image, target)
    (gradient,) = torch.autograd.grad(distance, image)
    with torch.no_grad():
        assert metric(image - 0.02 * gradient / gradient.abs().max(), target) < distance
    assert not any(parameter.requires_grad for parameter in metric.parameters())


def test_blur_pool_keeps_constants_and_removes_checkerboards():
    constant = torch.full((1, 2, 9, 12), 0.7)
    torch.testing.assert_close(blur_pool(constant), torch.full((1, 2, 6, 7), 0.7))
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    board = ((x + y) % 2).float()[None, None]
    torch.testing.assert_close(blur_pool(board), torch.full((1, 1, 9, 9), 0.5))


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no archive")
    with pytest.raises(AssetCorrupt, match="weights.pth"):
        StLpips(path)
    torch.save({"net.slice1.0.weight": torch.zeros(3)}, path)
    with pytest.raises(AssetCorrupt, match="net.slice1.0.weight"):
        StLpips(path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    import pickle

    class Runs:
        def __reduce__(self):
            return (print, ("ran",))

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"net.slice1.0.weight": Runs()}))
    with pytest.raises(AssetCorrupt):
        StLpips(path)


def test_images_too_small_or_of_different_shapes_are_refused(metric):
    with pytest.raises(InputError):
        metric(torch.zeros(16, 64, 3), torch.zeros(16, 64, 3))
    with pytest.raises(InputError):
        metric(torch.zeros(64, 64, 3), torch.zeros(64, 65, 3))
