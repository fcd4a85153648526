"""The fast D-SSIM equals the plain one, forward and backward."""

from __future__ import annotations

import pytest
import torch

from m2dao.errors import InputError
from m2dao.training.losses.ssim import dssim_loss, dssim_loss_reference, ssim_map_reference


def pair(height: int, width: int, channels: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 9, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0)
    noisy = smooth + 0.05 * torch.randn(height, width, channels, generator=generator)
    return smooth.clamp(0, 1).contiguous(), noisy.clamp(0, 1).contiguous()


@pytest.mark.parametrize(
    "shape", [(64, 64, 3), (37, 53, 3), (11, 7, 3), (3, 4, 3), (40, 21, 1), (30, 30, 4), (420, 24, 3)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_fast_value_and_gradient_equal_the_reference(shape, weighted):
    target, image = pair(*shape)
    weights = torch.rand(shape[:2], generator=torch.Generator().manual_seed(5)) if weighted else None
    image.requires_grad_()
    loss = dssim_loss(image, target, weights)
    (gradient,) = torch.autograd.grad(loss, image)

    exact = image.detach().double().requires_grad_()
    expected = dssim_loss_reference(exact, target.double(), None if weights is None else weights.double())
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    # Worst seen: 1e-7 for the value, 1e-5 of the largest gradient.
    assert abs(loss.item() - expected.item()) < 1e-6
    assert (gradient - expected_gradient).abs().max() < 5e-5 * expected_gradient.abs().max()


def test_the_reference_gradient_is_that_of_finite_differences():
    target, image = pair(12, 13, 3)
    image = image.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dssim_loss_reference(x, target.double()), (image,), fast_mode=True)


def test_equal_images_have_no_loss():
    target, _ = pair(40, 40, 3)
    assert dssim_loss(target.clone(), target).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_scales_the_gradient_that_comes_in():
    target, image = pair(32, 32, 3)
    image.requires_grad_()
    (one,) = torch.autograd.grad(dssim_loss(image, target), image)
    (three,) = torch.autograd.grad(3 * dssim_loss(image, target), image)
    torch.testing.assert_close(three, 3 * one)


def test_a_later_call_leaves_an_earlier_gradient_alone():
    target, image = pair(32, 32, 3)
    image.requires_grad_()
    loss = dssim_loss(image, target)
    (expected,) = torch.autograd.grad(dssim_loss(image, target), image)
    dssim_loss(target.clone().requires_grad_(), image.detach())
    (gradient,) = torch.autograd.grad(loss, image)
    torch.testing.assert_close(gradient, expected)


def test_pixels_without_weight_do_not_count():
    target, image = pair(64, 64, 3)
    weights = torch.zeros(64, 64)
    weights[:20] = 1
    changed = image.clone()
    changed[40:] = 0
    torch.testing.assert_close(dssim_loss(changed, target, weights), dssim_loss(image, target, weights))


def test_strided_and_double_images_give_the_same_loss():
    target, image = pair(48, 40, 3)
    expected = dssim_loss(image, target)
    strided = image.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    torch.testing.assert_close(dssim_loss(strided, target), expected)
    torch.testing.assert_close(dssim_loss(image.double(), target.double()).float(), expected)


def test_the_map_agrees_with_scikit_image_away_from_the_border():
    from skimage.metrics import structural_similarity

    target, image = pair(60, 50, 3)
    _, expected = structural_similarity(
        image.double().numpy(),
        target.double().numpy(),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        use_sample_covariance=False,
        sigma=1.5,
        full=True,
    )
    ours = ssim_map_reference(image.double(), target.double()).numpy()
    assert abs(ours - expected)[5:-5, 5:-5].max() < 1e-6


def test_mismatched_or_differentiable_targets_are_refused():
    target, image = pair(16, 16, 3)
    with pytest.raises(InputError):
        dssim_loss(image, target[:8])
    with pytest.raises(InputError):
        dssim_loss(image, target.requires_grad_())
    with pytest.raises(InputError):
        dssim_loss(image, target.detach(), torch.ones(8, 8))
