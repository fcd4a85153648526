"""Measures a machine with a GPU in under eight minutes, one JSON line a step.

Each step is a process of its own.

python -m benchmarks.gpu_smoke > smoke.jsonl
python -m benchmarks.gpu_smoke --capture captures/anna --step fit

A step that fails or takes too long says so in its line, and the next one runs. After `build` or `parity` fails nothing
else would mean anything, and the rest is left out. `--backend cpu` tries the script itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

_BENCH = (sys.executable, "-m", "m2dao.cli", "bench")
_WORKLOADS = ((256, 13_500), (512, 30_000))  # size, Gaussians
_AT_ONCE = (1, 16, 64)
_MUST_PASS = ("build", "parity")
_MOST_FLIPPED, _MOST_MEAN_ERROR = 1e-3, 1e-4  # Gaussians that one of two backends draws, and mean error of a pixel


def machine(args: argparse.Namespace) -> dict:
    """Versions, the device, nvcc, and whether the chip encodes video."""
    import av
    import torch

    cuda = torch.cuda.is_available()
    try:
        av.CodecContext.create("h264_nvenc", "w").open()
        encoder = "open"
    except Exception as error:  # whatever a missing encoder raises is the finding
        encoder = f"{type(error).__name__}: {error}"
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name(0) if cuda else None,
        "nvcc": shutil.which("nvcc"),
        "h264_nvenc": encoder,
    }


def build(args: argparse.Namespace) -> dict:
    """Compiles and loads the backend's kernels."""
    from m2dao.render.api import warm_up

    began = time.monotonic()
    warm_up(args.backend)
    return {"warm_up_s": round(time.monotonic() - began, 1)}


def parity(args: argparse.Namespace) -> dict:
    """The worst differences from the reference; raises if they are no rounding."""
    import torch

    inputs, Ks, camera = _scene(2_000, 64, 1)
    drawn = {name: _draw(name, inputs, Ks, camera, 64) for name in (args.backend, "reference")}
    ours, truth = drawn[args.backend], drawn["reference"]
    flipped = float(((ours.radii.cpu() > 0) != (truth.radii > 0)).float().mean())
    errors = (torch.cat([ours.colors, ours.alphas], -1).cpu() - torch.cat([truth.colors, truth.alphas], -1)).abs()
    found = {"flipped_share": flipped, "mean_error": float(errors.mean()), "worst_error": float(errors.max())}
    if flipped > _MOST_FLIPPED or found["mean_error"] > _MOST_MEAN_ERROR:
        raise RuntimeError(f"not the reference's picture: {found}")
    return found


def render(args: argparse.Namespace) -> dict:
    """Milliseconds of drawing and differentiating, by size, Gaussians and pictures at once."""
    rows = []
    for size, num in _WORKLOADS:
        for at_once in _AT_ONCE:
            inputs, Ks, camera = _scene(num, size, at_once)
            forward, backward = _draw_times(args, inputs, Ks, camera, size)
            row = {"size": size, "num_gaussians": num, "at_once": at_once}
            rows.append(row | {"forward_ms": round(1e3 * forward, 3), "backward_ms": round(1e3 * backward, 3)})
    return {"rows": rows}


def posing(args: argparse.Namespace) -> dict:
    """Milliseconds of posing a head, by frames at once, and of Python in a frame."""
    from m2dao.identity.batches import BatchedHead
    from m2dao.identity.specimen import make_specimen
    from m2dao.render.api import device_of

    device = device_of(args.backend)
    identity = make_specimen(size=256, num_gaussians=13_500)
    head, times = BatchedHead(identity.head.to(device)), {}
    for at_once in _AT_ONCE:
        frames = _moving(identity, at_once)()
        times[at_once] = round(1e3 * _median_s(args, partial(head.pose, frames)), 3)
    return {"ms_by_frames_at_once": times, "python_ms_a_frame": round(_python_ms(args, device), 4)}


def _python_ms(args: argparse.Namespace, device) -> float:
    """Of motion, conditions and posing of a frame, with so few Gaussians that nothing else takes time."""
    import torch

    from m2dao.identity.batches import BatchedHead
    from m2dao.identity.renderers import SharedRenderer
    from m2dao.identity.specimen import make_specimen

    at_once = SharedRenderer.frames_at_once
    identity = make_specimen(size=64, num_gaussians=60)
    head, frames = BatchedHead(identity.head.to(device)), _moving(identity, at_once)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other would count
    try:
        return 1e3 * _median_s(args, lambda: head.pose(frames()), clock=time.process_time) / at_once
    finally:
        torch.set_num_threads(threads)


def _moving(identity, num_frames: int):
    """A function that gives the next frames of somebody who keeps silent."""
    import torch

    from m2dao.identity.performance import next_frames, perform

    names = ("poses", "slow_poses", "expression", "cuts")
    motion = perform(*(identity.signals[name].numpy() for name in names), seed=0)
    silence = torch.zeros(num_frames, identity.head.config.embedding_size)
    return partial(next_frames, motion, silence, identity.signals["reference_viewmat"])


def fit(args: argparse.Namespace) -> dict:
    """300 steps on a capture."""
    from m2dao.training.fit import fit as run_fit

    if args.capture is None:
        return {"left_out": "no --capture"}
    with tempfile.TemporaryDirectory(prefix="m2dao-smoke-") as folder:
        result = run_fit(args.capture, Path(folder) / "identity", steps=args.steps, backend=args.backend)
    return {name: result.as_dict()[name] for name in ("steps", "steps_per_s", "psnr_train_db", "seconds")}


def talkers(args: argparse.Namespace) -> dict:
    """Whole films, sound to file, by talkers at once."""
    rows = []
    for streams in (1, 8, 32):
        flags = ("--backend", args.backend, "--size", "512", "--streams", str(streams), "--seconds", "10", "--json")
        done = subprocess.run([*_BENCH, "render", *flags], check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
    return {"rows": rows}


def live(args: argparse.Namespace) -> dict:
    """Sixty live streams."""
    flags = ("--backend", args.backend, "--streams", "60", "--talkers", "60", "--size", "512", "--json")
    done = subprocess.run([*_BENCH, "live", *flags], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


STEPS: dict[str, tuple[Callable[[argparse.Namespace], dict], int]] = {  # and the seconds each may take
    "machine": (machine, 30),
    "build": (build, 180),
    "parity": (parity, 40),
    "render": (render, 40),
    "posing": (posing, 30),
    "fit": (fit, 60),
    "talkers": (talkers, 70),
    "live": (live, 60),
}


def run_step(name: str, args: argparse.Namespace) -> dict:
    """One step in a process of its own: what it found, or why it did not."""
    command = [sys.executable, "-m", "benchmarks.gpu_smoke", "--inside", name, "--backend", args.backend]
    command += ["--repeats", str(args.repeats), "--steps", str(args.steps)]
    command += ["--capture", str(args.capture)] if args.capture else []
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEPS[name][1])
    except subprocess.TimeoutExpired:
        return {"step": name, "ok": False, "error": f"over {STEPS[name][1]} s"}
    line = {"step": name, "ok": done.returncode == 0, "seconds": round(time.monotonic() - began, 1)}
    if done.returncode:
        return line | {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word"}
    return line | json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="gsplat", choices=("gsplat", "cpu"))
    parser.add_argument("--capture", type=Path, help="for the step fit, which is left out without one")
    parser.add_argument("--step", choices=STEPS, action="append", help="only this one; may be given several times")
    parser.add_argument("--repeats", type=int, default=10, help="timed calls of each kind (default 10)")
    parser.add_argument("--steps", type=int, default=300, help="of the fit (default 300)")
    parser.add_argument("--inside", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(STEPS[args.inside][0](args)))
        return 0
    failed = []
    for name in args.step or STEPS:
        line = run_step(name, args)
        print(json.dumps(line), flush=True)
        failed += [] if line["ok"] else [name]
        if not line["ok"] and name in _MUST_PASS:
            break
    return 1 if failed else 0


def _scene(num: int, size: int, at_once: int):
    """Gaussians of a head [N, ...] with four channels, and as many cameras as pictures."""
    import torch

    from m2dao.identity.specimen import FOCAL_PER_SIZE, HEAD_DISTANCE_M, shell

    generator = torch.Generator().manual_seed(0)
    means, scales = shell(num, size, generator)
    means = means + torch.tensor([0.0, 0.0, HEAD_DISTANCE_M])
    quats = torch.randn(num, 4, generator=generator)
    opacities, colors = torch.rand(num, generator=generator), torch.rand(num, 4, generator=generator)
    focal = FOCAL_PER_SIZE * size
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return (means, quats, scales, opacities, colors), K.repeat(at_once, 1, 1), torch.eye(4).repeat(at_once, 1, 1)


def _draw(backend: str, inputs, Ks, camera, size: int):
    from m2dao.render.api import device_of
    from m2dao.render.api import render as draw

    device = device_of(backend)
    tensors = [value.to(device) for value in (*inputs, camera, Ks)]
    return draw(*tensors, width=size, height=size, backend=backend)


def _draw_times(args: argparse.Namespace, inputs, Ks, camera, size: int) -> tuple[float, float]:
    """Seconds of a forward pass, and of forward and backward less that."""
    from m2dao.render.api import device_of

    there = [value.to(device_of(args.backend)) for value in inputs]
    forward = _median_s(args, lambda: _draw(args.backend, there, Ks, camera, size))
    there[0].requires_grad_()
    both = _median_s(args, lambda: _draw(args.backend, there, Ks, camera, size).colors.sum().backward())
    return forward, max(0.0, both - forward)


def _median_s(args: argparse.Namespace, call: Callable[[], object], *, clock=time.perf_counter) -> float:
    """Of some calls, after one that warms up."""
    import statistics

    import torch

    taken = []
    for _ in range(args.repeats + 1):
        began = clock()
        call()
        if args.backend == "gsplat":
            torch.cuda.synchronize()
        taken.append(clock() - began)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    sys.exit(main())
