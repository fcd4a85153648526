"""The reference against what can be computed by hand."""

import math

import pytest
import torch

from m2dao.errors import InputError
from m2dao.render.api import render

SIZE = 33
FOCAL = 20.0


def one_gaussian(**changes):
    """A round Gaussian on the optical axis, 2 units away: its centre is the middle pixel's."""
    scene = {
        "means": torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64),
        "quats": torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64),
        "scales": torch.full((1, 3), 0.3, dtype=torch.float64),
        "opacities": torch.tensor([0.8], dtype=torch.float64),
        "colors": torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64),
        "viewmats": torch.eye(4, dtype=torch.float64)[None],
        "Ks": torch.tensor([[[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]]], dtype=torch.float64),
    }
    return scene | changes


def draw(scene):
    return render(**scene, width=SIZE, height=SIZE, backend="reference")


def test_a_gaussian_has_its_opacity_in_the_middle_and_falls_off_by_its_projected_variance():
    output = draw(one_gaussian())
    middle = SIZE // 2
    variance = (FOCAL * 0.3 / 2) ** 2 + 0.3  # eps2d
    alphas = output.alphas[0, middle, :, 0]
    assert alphas[middle] == pytest.approx(0.8)
    assert alphas[middle + 3] == pytest.approx(0.8 * math.exp(-0.5 * 9 / variance))
    assert torch.allclose(output.colors[0, middle, middle], 0.8 * torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64))
    assert output.means2d[0, 0].tolist() == [SIZE / 2, SIZE / 2]


def test_alpha_is_cut_off_below_one_level():
    alphas = draw(one_gaussian()).alphas
    assert float(alphas[alphas > 0].min()) >= 1 / 255
    assert (alphas == 0).any()


def test_radius_shrinks_with_opacity():
    radii = [int(draw(one_gaussian(opacities=torch.tensor([o], dtype=torch.float64))).radii) for o in (1.0, 0.1, 0.01)]
    sigma = math.sqrt((FOCAL * 0.3 / 2) ** 2 + 0.3)
    assert radii == [math.ceil(sigma * math.sqrt(2 * math.log(255 * opacity))) for opacity in (1.0, 0.1, 0.01)]


def test_nearer_gaussians_cover_farther_ones_whatever_their_order():
    near, far = [0.0, 0.0, 1.9], [0.0, 0.0, 2.1]
    for means, colors in (([near, far], [[1.0], [0.0]]), ([far, near], [[0.0], [1.0]])):
        scene = one_gaussian(
            means=torch.tensor(means, dtype=torch.float64),
            quats=torch.tensor([[1.0, 0, 0, 0]] * 2, dtype=torch.float64),
            scales=torch.full((2, 3), 0.3, dtype=torch.float64),
            opacities=torch.tensor([0.6, 0.6], dtype=torch.float64),
            colors=torch.tensor(colors, dtype=torch.float64),
        )
        output = draw(scene)
        middle = SIZE // 2
        assert output.colors[0, middle, middle, 0] == pytest.approx(0.6)
        assert output.alphas[0, middle, middle, 0] == pytest.approx(1 - 0.4 * 0.4)


def test_quaternions_are_wxyz_and_of_any_length():
    half = math.sqrt(0.5)
    scales = torch.tensor([[0.6, 0.1, 0.1]], dtype=torch.float64)
    about_z = torch.tensor([[half, 0, 0, half]], dtype=torch.float64)  # a quarter turn: long in y
    turned = draw(one_gaussian(quats=about_z, scales=scales)).alphas[0, ..., 0]
    straight = draw(one_gaussian(scales=scales)).alphas[0, ..., 0]
    assert torch.allclose(turned, straight.T)
    assert torch.allclose(draw(one_gaussian(quats=7 * about_z, scales=scales)).alphas[0, ..., 0], turned)


def test_viewmats_map_world_to_camera():
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[0, 3] = 0.2  # the world moves right in the image, by 0.2 * 20 / 2 = 2 px
    assert draw(one_gaussian(viewmats=viewmat[None])).means2d[0, 0].tolist() == [SIZE / 2 + 2, SIZE / 2]


def test_backgrounds_shine_through_what_is_left():
    output = draw(one_gaussian(backgrounds=torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)))
    middle = SIZE // 2
    assert torch.allclose(output.colors[0, middle, middle], torch.tensor([0.8, 0.6, 0.2], dtype=torch.float64))
    assert output.colors[0, 0, 0].tolist() == [0.0, 1.0, 0.0]


def test_alpha_never_exceeds_its_limit():
    alphas = draw(one_gaussian(opacities=torch.ones(1, dtype=torch.float64))).alphas
    assert float(alphas.max()) == pytest.approx(0.999)


def test_images_beyond_its_size_are_refused_with_the_alternative():
    with pytest.raises(InputError, match=r"backend 'reference': expected images up to 128 px; got 129x64; use 'cpu'"):
        render(**one_gaussian(), width=129, height=64, backend="reference")
