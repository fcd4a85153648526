"""Properties of the ``cpu`` backend that a comparison with the reference does not show."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from m2dao.kernels.threads import get_num_threads, set_num_threads
from m2dao.render import cpu, cpu_raster
from m2dao.render.api import warm_up
from tests.support.gaussian_scenes import draw, draw_and_differentiate, make_scene

SIZE = {"width": 70, "height": 50}


@pytest.fixture
def many_threads(monkeypatch):
    """Work is shared between threads however little there is."""
    monkeypatch.setattr(cpu, "GAUSSIANS_PER_THREAD", 1)
    monkeypatch.setattr(cpu, "PAIRS_PER_THREAD", 1)
    before = get_num_threads()
    set_num_threads(4)
    yield
    set_num_threads(before)


def busy_scene():
    scene = make_scene(num_gaussians=3000, num_cameras=2, **SIZE)
    scene["scales"] *= 0.4
    return scene


def parts_of(result):
    output, gradients = result
    return [*output, *gradients.values()]


def test_the_number_of_threads_does_not_change_a_bit(many_threads):
    scene = busy_scene()
    shared = [parts_of(draw_and_differentiate(scene, "cpu", **SIZE)) for _ in range(2)]
    set_num_threads(1)
    alone = parts_of(draw_and_differentiate(scene, "cpu", **SIZE))
    for parts in shared:
        assert all(torch.equal(part, expected) for part, expected in zip(parts, alone, strict=True))


def test_calls_from_several_threads_do_not_disturb_each_other(many_threads):
    scenes = [make_scene(num_gaussians=500, seed=seed, num_channels=3 + seed, **SIZE) for seed in range(4)]
    alone = [parts_of(draw_and_differentiate(scene, "cpu", **SIZE)) for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda index: parts_of(draw_and_differentiate(scenes[index % 4], "cpu", **SIZE)), range(16))
        )
    for index, parts in enumerate(together):
        assert all(torch.equal(part, expected) for part, expected in zip(parts, alone[index % 4], strict=True))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
def test_a_broken_gaussian_is_left_out_and_spoils_nothing(backend, value, name):
    scene = make_scene(num_gaussians=30, num_channels=3)
    whole = {key: tensor.clone() for key, tensor in scene.items()}
    whole["opacities"][7] = 0.0
    scene[name][7] = value
    output, gradients = draw_and_differentiate(scene, backend)
    expected, expected_gradients = draw_and_differentiate(whole, backend)
    assert torch.equal(output.colors, expected.colors)
    assert torch.equal(output.alphas, expected.alphas)
    assert int(output.radii[0, 7]) == 0
    for key, gradient in gradients.items():
        assert torch.equal(gradient, expected_gradients[key]), key


@pytest.mark.parametrize("name", ["viewmats", "Ks"])
def test_a_broken_camera_sees_only_the_background(name):
    scene = make_scene(num_gaussians=30)
    scene[name][:] = float("nan")
    output = draw(scene, "cpu")
    assert not output.alphas.any()
    assert torch.equal(output.colors[0, 0, 0], scene["backgrounds"][0].float())


def test_a_quaternion_of_length_zero_is_left_out():
    scene = make_scene(num_gaussians=30)
    scene["quats"][3] = 0
    for backend in ("cpu", "reference"):
        output, gradients = draw_and_differentiate(scene, backend)
        assert int(output.radii[0, 3]) == 0
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_coordinates_at_the_end_of_float32_do_not_crash():
    scene = make_scene(num_gaussians=40)
    scene["means"][:10] *= 1e30
    scene["means"][10:20] *= 1e12
    scene["scales"][20:30] = 1e18
    scene["scales"][30:35] = 1e-30
    output, gradients = draw_and_differentiate(scene, "cpu")
    assert torch.isfinite(output.colors).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_views_of_larger_tensors_are_drawn_like_copies():
    scene = {name: tensor.float() for name, tensor in make_scene(num_gaussians=50).items()}
    wide = torch.cat([scene["means"], scene["scales"], scene["quats"]], dim=1)
    views = scene | {"means": wide[:, :3], "scales": wide[:, 3:6], "quats": wide[:, 6:]}
    assert torch.equal(draw(views, "cpu").colors, draw(scene, "cpu").colors)


def test_gradients_of_means2d_are_those_of_moving_a_gaussian_on_screen():
    """Half the chain: dLoss/dmeans of a far, flat camera is this times focal length over depth."""
    scene = make_scene(num_gaussians=20, num_channels=3)
    scene["viewmats"] = torch.eye(4, dtype=torch.float64)[None]
    scene["viewmats"][:, 2, 3] = 1e4
    scene["Ks"][:, 0, 0] = scene["Ks"][:, 1, 1] = 1e4 * 10
    output, gradients = draw_and_differentiate(scene, "cpu")
    drawn = output.radii[0] > 0
    assert drawn.any()
    torch.testing.assert_close(gradients["means"][drawn, :2], 10 * gradients["means2d"][0, drawn], rtol=2e-3, atol=1e-3)
    assert not gradients["means2d"][0, ~drawn].any()


def test_only_what_asks_for_a_gradient_gets_one():
    scene = {name: tensor.float() for name, tensor in make_scene(num_gaussians=20).items()}
    scene["colors"].requires_grad_()
    output = draw(scene, "cpu")
    output.colors.sum().backward()
    assert scene["colors"].grad.abs().sum() > 0
    assert scene["means"].grad is None
    with torch.no_grad():
        assert not draw(scene, "cpu").colors.requires_grad


def test_warming_up_compiles_every_kernel():
    warm_up("cpu")
    assert all(kernel.signatures for kernel in (cpu_raster.forward, cpu_raster.backward, cpu_raster.gather))
