"""The ``cpu`` backend (float32) against the reference in float64.

Worst errors measured over 64 random scenes, 1 to 8 channels, three image sizes (gradients: largest difference over
largest value of each kind): colours 1.4e-6, alphas 1.6e-6; gradients of means 4.4e-6, quats 7.9e-6, scales 5.6e-6,
opacities 1.6e-6, colors 2.2e-6, viewmats 3.0e-6, backgrounds 4.6e-6, means2d 5.1e-6. The bounds below leave a factor
of about five.
"""

import math

import pytest
import torch

from tests.support.gaussian_scenes import draw, draw_and_differentiate, make_scene

MAX_PIXEL_ERROR = 8e-6
MAX_GRADIENT_ERROR = 4e-5  # relative to the largest entry


def assert_parity(
    scene, *, width=40, height=27, max_pixel_error=MAX_PIXEL_ERROR, max_gradient_error=MAX_GRADIENT_ERROR, **options
):
    """Both backends agree on the image, what is drawn, and every gradient; returns the reference's."""
    size = {"width": width, "height": height}
    output, gradients = draw_and_differentiate(scene, "cpu", **size, **options)
    expected, expected_gradients = draw_and_differentiate(scene, "reference", dtype=torch.float64, **size, **options)
    torch.testing.assert_close(output.colors.double(), expected.colors, rtol=0, atol=max_pixel_error)
    torch.testing.assert_close(output.alphas.double(), expected.alphas, rtol=0, atol=max_pixel_error)
    assert torch.equal(output.radii, expected.radii)
    torch.testing.assert_close(output.means2d.double(), expected.means2d, rtol=1e-5, atol=1e-4)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        scale = float(expected_gradients[name].abs().max()) if gradient.numel() else 0.0
        error = float((gradient - expected_gradients[name]).abs().max()) if gradient.numel() else 0.0
        assert error <= max_gradient_error * scale + 1e-7, f"gradient of {name}: error {error:.2e} at scale {scale:.2e}"
    return expected, expected_gradients


def test_reference_gradients_match_finite_differences():
    scene = make_scene(num_gaussians=3, width=6, height=5, num_channels=2)
    scene["scales"] *= 3  # wide enough that no pixel sits at the 1/255 edge
    names = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")
    inputs = [scene[name].clone().requires_grad_() for name in names]

    def image(*tensors):
        changed = scene | dict(zip(names, tensors, strict=True))
        return draw(changed, "reference", width=6, height=5, dtype=torch.float64)[:3]

    assert image(*inputs)[1].mean() > 0.1
    assert torch.autograd.gradcheck(image, inputs, eps=1e-7, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_channels", range(1, 9))
def test_images_and_gradients_agree_for_any_number_of_channels(num_channels):
    expected, gradients = assert_parity(make_scene(num_channels=num_channels, seed=num_channels))
    assert float(expected.alphas.detach().mean()) > 0.3  # the scene covers something
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients.values())


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 50), (33, 17), (100, 7), (31, 16), (64, 48)])
def test_sizes_that_do_not_fit_the_tiles_agree(width, height):
    assert_parity(make_scene(width=width, height=height, seed=2), width=width, height=height)


def test_without_backgrounds_colours_stay_premultiplied():
    scene = make_scene(seed=3)
    del scene["backgrounds"]
    assert_parity(scene)


def test_several_cameras_agree():
    assert_parity(make_scene(num_cameras=3, num_gaussians=60, seed=4))


def test_batches_agree_and_broadcast():
    scene = make_scene(num_gaussians=40, num_cameras=2, seed=5)
    other = make_scene(num_gaussians=40, num_cameras=2, seed=6)
    for name in ("means", "opacities"):
        scene[name] = torch.stack([scene[name], other[name]])
    expected, _ = assert_parity(scene)
    assert expected.colors.shape == (2, 2, 27, 40, 4)
    assert expected.means2d.shape == (2, 2, 40, 2)


def test_opaque_layers_that_finish_pixels_agree():
    scene = make_scene(num_gaussians=400, seed=7)
    scene["scales"] *= 3
    scene["opacities"] = 0.6 + 0.4 * scene["opacities"]  # some reach the alpha limit of 0.999
    scene["opacities"][::7] = 1.0
    expected, _ = assert_parity(scene)
    assert float(expected.alphas.detach().median()) > 0.999


def test_long_thin_gaussians_agree():
    scene = make_scene(seed=8)
    scene["scales"] = scene["scales"] * torch.tensor([30.0, 0.02, 1.0], dtype=torch.float64)
    assert_parity(scene, max_pixel_error=6e-5, max_gradient_error=2e-4)  # needles up to 100 px long, 0.5 px thin


def test_huge_and_tiny_gaussians_agree():
    scene = make_scene(seed=9)
    scene["scales"][::5] *= 40
    scene["scales"][1::5] *= 1e-4
    assert_parity(scene, max_pixel_error=2e-5, max_gradient_error=1e-4)


def test_gaussians_beyond_the_frustum_margin_agree():
    """Their rays are clamped in the Jacobian, which has a gradient of its own."""
    scene = make_scene(seed=10, num_gaussians=60)
    scene["means"][:, :2] *= 4
    scene["scales"] *= 8
    expected, _ = assert_parity(scene)
    x = expected.means2d.detach()[0, :, 0]
    drawn = expected.radii[0] > 0
    assert int((drawn & ((x < -0.15 * 40) | (x > 1.15 * 40))).sum()) >= 3


def test_gaussians_behind_near_and_outside_are_not_drawn():
    scene = make_scene(seed=11, num_gaussians=30)
    behind = scene["viewmats"][0, 2, 3]
    scene["means"][0:10, 2] = -behind - 2
    scene["means"][10:20, 0] += 50
    expected, gradients = assert_parity(scene)
    assert not expected.radii[0, :20].any()
    assert not gradients["means"][:20].any()
    assert expected.radii[0, 20:].any()


def test_opacity_below_one_level_draws_nothing():
    scene = make_scene(seed=12, num_gaussians=20)
    scene["opacities"][:10] = torch.linspace(0, 0.999 / 255, 10, dtype=torch.float64)
    expected, gradients = assert_parity(scene)
    assert not expected.radii[0, :10].any()
    assert not gradients["opacities"][:10].any()


def test_depth_ties_are_drawn_in_order_of_index():
    scene = make_scene(seed=13, num_gaussians=50)
    scene["viewmats"] = torch.eye(4, dtype=torch.float64)[None]
    scene["means"][:, 2] = torch.tensor([3.0, 3.5]).repeat(25)
    assert_parity(scene)


def test_no_gaussians_at_all_leave_the_background():
    scene = make_scene(num_gaussians=0)
    expected, _ = assert_parity(scene)
    assert torch.equal(expected.colors[0, 3, 4], scene["backgrounds"][0])


def test_another_blur_and_near_plane_agree():
    scene = make_scene(seed=14)
    expected, _ = assert_parity(scene, eps2d=2.0, near_plane=4.0)
    depths = scene["means"] @ scene["viewmats"][0, 2, :3] + scene["viewmats"][0, 2, 3]
    assert not expected.radii[0][depths < 4.0].any()
    assert math.isclose(float((depths < 4.0).double().mean()), 0.5, abs_tol=0.2)
