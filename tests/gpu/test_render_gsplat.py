"""The ``gsplat`` backend against the reference; needs a CUDA device, and minutes for its first build."""

import pytest
import torch

from m2dao.render.api import warm_up
from tests.support.gaussian_scenes import draw_and_differentiate, make_scene

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="backend 'gsplat' needs a CUDA device")

# Bounds, not measurements: no machine with a GPU was at hand when this was written. gsplat uses fast exponentials in
# float32, and a pixel may fall on the other side of the 1/255 cut.
MAX_MEAN_PIXEL_ERROR = 1e-4
MAX_PIXEL_ERROR = 1.5 / 255
MAX_GRADIENT_ERROR = 2e-3


@pytest.fixture(scope="module", autouse=True)
def compiled():
    warm_up("gsplat")


def assert_parity(scene, **size):
    output, gradients = draw_and_differentiate(scene, "gsplat", device="cuda", **size)
    expected, expected_gradients = draw_and_differentiate(scene, "reference", dtype=torch.float64, **size)
    for part, expected_part in zip(output[:2], expected[:2], strict=True):
        errors = (part.double().cpu() - expected_part).abs()
        assert float(errors.mean()) <= MAX_MEAN_PIXEL_ERROR
        assert float(errors.max()) <= MAX_PIXEL_ERROR
    assert ((output.radii.cpu() > 0) == (expected.radii > 0)).all()
    for name, gradient in gradients.items():
        scale = float(expected_gradients[name].abs().max())
        error = float((gradient.cpu() - expected_gradients[name]).abs().max())
        assert error <= MAX_GRADIENT_ERROR * scale, f"gradient of {name}: error {error:.2e} at scale {scale:.2e}"


@pytest.mark.parametrize("num_channels", [1, 3, 4, 8])
def test_images_and_gradients_agree(num_channels):
    assert_parity(make_scene(num_channels=num_channels, seed=num_channels))


def test_several_cameras_and_odd_sizes_agree():
    assert_parity(make_scene(num_cameras=2, width=70, height=45, seed=5), width=70, height=45)


def test_gaussians_beyond_the_frustum_margin_agree():
    scene = make_scene(seed=10, num_gaussians=60)
    scene["means"][:, :2] *= 4
    scene["scales"] *= 8
    assert_parity(scene)


def test_no_gaussians_leave_the_background():
    output, _ = draw_and_differentiate(make_scene(num_gaussians=0), "gsplat", device="cuda")
    assert not output.alphas.any()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
def test_a_broken_gaussian_is_left_out(name):
    scene = make_scene(num_gaussians=30)
    scene[name][7] = float("nan")
    output, gradients = draw_and_differentiate(scene, "gsplat", device="cuda")
    assert torch.isfinite(output.colors).all()
    assert all(torch.isfinite(gradients[key]).all() for key in gradients if key != "means2d")
