"""What ``render`` refuses, and how it says so."""

import subprocess
import sys

import pytest
import torch

from m2dao.errors import InputError, RenderBackendUnavailable
from m2dao.render import api
from tests.support.gaussian_scenes import draw, make_scene
from tests.support.pretend_cuda import pretend_cuda


def refused(match, **changes):
    scene = make_scene(num_gaussians=5, width=8, height=8)
    scene = {name: tensor.float() for name, tensor in scene.items()} | changes.pop("scene", {})
    with pytest.raises(InputError, match=match):
        api.render(**scene, **({"width": 8, "height": 8, "backend": "cpu"} | changes))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("means", (5, 2), r"render: means: expected shape \[..., N, 3\]; got \[5, 2\]"),
        ("quats", (5, 3), r"render: quats: expected shape \[..., N, 4\]; got \[5, 3\]"),
        ("scales", (4, 3), r"render: scales: expected N=5 like means; got N=4"),
        ("opacities", (4,), r"render: opacities: expected N=5 like means; got N=4"),
        ("colors", (3, 4), r"render: colors: expected N=5 like means; got N=3"),
        ("colors", (5, 0), r"at least one channel and one camera; got D=0"),
        ("viewmats", (4, 4), r"render: viewmats: expected shape \[..., C, 4, 4\]; got \[4, 4\]"),
        ("Ks", (2, 3, 3), r"render: Ks: expected C=1 like viewmats; got C=2"),
        ("backgrounds", (1, 3), r"render: backgrounds: expected D=4 channels like colors; got D=3"),
        ("backgrounds", (2, 4), r"render: backgrounds: expected C=1 like viewmats; got C=2"),
    ],
)
def test_a_wrong_shape_names_the_tensor_and_both_shapes(name, shape, message):
    refused(message, scene={name: torch.zeros(shape)})


def test_batch_dimensions_that_do_not_broadcast_are_listed():
    refused(
        r"batch dimensions.*means \[2\].*scales \[3\]",
        scene={"means": torch.zeros(2, 5, 3), "scales": torch.zeros(3, 5, 3)},
    )


def test_another_dtype_is_refused_by_name():
    refused(
        r"render: colors: expected dtype torch.float32.*backend 'cpu'; got torch.float64",
        scene={"colors": torch.zeros(5, 4).double()},
    )
    refused(r"render: means: expected a torch.Tensor; got list", scene={"means": [[0.0, 0.0, 1.0]] * 5})


def test_another_device_is_refused():
    refused(
        r"render: quats: expected device cpu like means; got meta", scene={"quats": torch.zeros(5, 4, device="meta")}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "render: width: expected a whole number from 1 to 16384; got 0"),
        ({"height": 8.0}, "render: height: .* got 8.0"),
        ({"near_plane": 0.0}, "render: near_plane: expected a positive distance; got 0.0"),
        ({"eps2d": float("nan")}, "render: eps2d: expected a positive variance"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    refused(message, **changes)


def test_an_unknown_backend_is_refused_with_the_known_ones():
    refused(r"backend 'cuda': expected one of 'cpu', 'gsplat', 'reference'", backend="cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_gsplat_without_a_gpu_says_what_to_use_and_never_falls_back():
    scene = make_scene(num_gaussians=5)
    with pytest.raises(RenderBackendUnavailable, match="^backend 'gsplat': needs a CUDA device; use 'cpu'$"):
        draw(scene, "gsplat")
    assert api.default_backend() == "cpu"


def test_gsplat_without_compiled_kernels_and_a_toolkit_says_so_before_anything_is_drawn(monkeypatch):
    scene = make_scene(num_gaussians=5)
    with pretend_cuda():
        from gsplat.cuda import _backend

        monkeypatch.setattr(_backend, "_C", None)  # what gsplat leaves where it finds no nvcc
        with pytest.raises(
            RenderBackendUnavailable, match=r"compiled kernels.*got neither; compile them where nvcc is"
        ):
            draw(scene, "gsplat")


def test_a_build_of_gsplat_that_fails_names_what_is_missing(monkeypatch):
    scene = make_scene(num_gaussians=5)
    with pretend_cuda():
        monkeypatch.setitem(sys.modules, "gsplat.cuda", None)
        with pytest.raises(RenderBackendUnavailable, match=r"cannot be imported .* CUDA toolkit"):
            draw(scene, "gsplat")


def test_importing_the_interface_loads_no_backend():
    program = (
        "import sys, m2dao.render.api, m2dao.render.composite;"
        "sys.exit(sum(name in sys.modules for name in ('numba', 'gsplat', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
