"""`m2dao bench render`: how fast a backend draws and differentiates a head of Gaussians."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from pathlib import Path

from m2dao.commands.shared import Commands, add_command, peak_rss_mb
from m2dao.errors import ConfigError
from m2dao.timeline import FRAME_RATE

EXAMPLES = """examples:
  m2dao bench render --backend cpu --size 512 --gaussians 30000 --json
  m2dao bench render --size 256 --gaussians 13000 --channels 4 --threads 1

the scene: an ellipsoidal shell like a head, seen by one camera; the mean screen radius is 5 px.
forward_ms, backward_ms: medians over --repeats; forward with gradients recorded, backward of a plain sum.
fps, real_time_factor: of the forward pass alone; a factor below 1 is faster than 25 frames a second.

then a talker of as many Gaussians (or --identity) speaks --seconds into H.264, --streams at once:
stages_ms: mean wall time of each stage for a frame; stages of different frames and streams overlap.
frame_ms_p50, _p99: from asking for a frame until it is handed to the encoder. talker_real_time_factor: sound to file.
streams: how many streams of 25 frames a second that throughput carries.
pairs_per_s: Gaussian-pixel pairs in the rasteriser; machine_pairs_per_s: the same of its inner loop alone.
"""
NUM_WARM_UPS = 2


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "render", run, summary="measure the renderer", examples=EXAMPLES)
    parser.add_argument("--backend", choices=("cpu", "gsplat", "reference"), help="default: the best of this machine")
    parser.add_argument("--size", type=int, default=512, help="image width and height in pixels (default 512)")
    parser.add_argument("--gaussians", type=int, default=30000, help="how many (default 30000)")
    parser.add_argument("--channels", type=int, default=3, help="colour channels (default 3)")
    parser.add_argument("--repeats", type=int, default=30, help="timed passes (default 30)")
    parser.add_argument("--threads", type=int, help="threads on the CPU (default: PyTorch's choice)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of sound for the talker; 0 leaves it out (default 10)"
    )
    parser.add_argument("--streams", type=int, default=1, help="how many talkers speak at once (default 1)")
    parser.add_argument("--identity", type=Path, help="a fitted identity in place of a specimen for the talker")
    parser.add_argument("--seed", type=int, default=0, help="of the scene (default 0)")


def run(args: argparse.Namespace) -> dict:
    import torch

    from m2dao.kernels.threads import set_num_threads
    from m2dao.progress import counted
    from m2dao.render.api import default_backend, render

    for name in ("size", "gaussians", "channels", "repeats", "threads", "streams"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}", "a whole number of at least 1", str(value))
    backend = args.backend or default_backend()
    if args.threads is not None:
        set_num_threads(args.threads)
    device = "cuda" if backend == "gsplat" and torch.cuda.is_available() else "cpu"
    scene = {name: tensor.to(device) for name, tensor in make_head(args).items()}
    for name in ("means", "quats", "scales", "opacities", "colors"):
        scene[name].requires_grad_()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    forward_s, backward_s = [], []
    num_passes = NUM_WARM_UPS + args.repeats
    for index in counted(range(num_passes), f"{backend} {args.size} px", total=num_passes, unit="passes"):
        start = time.perf_counter()
        output = render(**scene, width=args.size, height=args.size, backend=backend)
        wait()
        drawn = time.perf_counter()
        loss = output.colors.sum() + output.alphas.sum()
        wait()
        before_backward = time.perf_counter()
        loss.backward()
        wait()
        if index >= NUM_WARM_UPS:
            forward_s.append(drawn - start)
            backward_s.append(time.perf_counter() - before_backward)
    result = _result(backend, args, forward_s, backward_s)
    result["mean_radius_px"] = round(float(output.radii[output.radii > 0].float().mean()), 2)
    result["hardware"] = _hardware(torch, device)
    if args.seconds > 0:
        result |= _talker_figures(args, backend)
        result["peak_rss_mb"] = round(peak_rss_mb(), 1)
    if not args.json:
        _print(result)
    return result


def make_head(args: argparse.Namespace) -> dict:
    """Gaussians of a head and a camera in front of it: the arguments of ``render``."""
    import torch

    from m2dao.identity.specimen import FOCAL_PER_SIZE, HEAD_DISTANCE_M, shell

    generator = torch.Generator().manual_seed(args.seed)
    means, scales = shell(args.gaussians, args.size, generator)
    viewmat = torch.eye(4)
    viewmat[2, 3] = HEAD_DISTANCE_M
    focal_px, center = FOCAL_PER_SIZE * args.size, args.size / 2
    return {
        "means": means,
        "quats": torch.randn(args.gaussians, 4, generator=generator),
        "scales": scales,
        "opacities": 0.1 + 0.85 * torch.rand(args.gaussians, generator=generator),
        "colors": torch.rand(args.gaussians, args.channels, generator=generator),
        "viewmats": viewmat[None],
        "Ks": torch.tensor([[[focal_px, 0, center], [0, focal_px, center], [0, 0, 1]]], dtype=torch.float32),
    }


def _talker_figures(args: argparse.Namespace, backend: str) -> dict:
    """The figures of a whole talker, and of its rasteriser against the machine."""
    from m2dao.commands.bench.talker_clock import measure_talker
    from m2dao.identity.checkpoint import load_identity
    from m2dao.identity.specimen import make_specimen
    from m2dao.identity.talker import Talker

    if args.identity:
        identity = load_identity(args.identity)
    else:
        identity = make_specimen(size=args.size, num_gaussians=args.gaussians, seed=args.seed)
    figures = measure_talker(Talker(identity, backend=backend), seconds=args.seconds, num_streams=args.streams)
    pairs_per_frame, raster_s = figures.pop("pairs_per_frame"), figures["stages_ms"]["raster"] / 1000
    known = backend == "cpu" and raster_s > 0
    if known:
        from m2dao.render.roofline import machine_pairs_per_s
    return figures | {
        "pairs_per_s": round(pairs_per_frame / raster_s) if known else None,
        "machine_pairs_per_s": round(machine_pairs_per_s()) if known else None,
    }


def _result(backend: str, args: argparse.Namespace, forward_s: list[float], backward_s: list[float]) -> dict:
    forward_ms, backward_ms = ([1000 * seconds for seconds in times] for times in (forward_s, backward_s))
    median_forward_s = statistics.median(forward_s)
    return {
        "backend": backend,
        "size": args.size,
        "num_gaussians": args.gaussians,
        "forward_ms": round(statistics.median(forward_ms), 3),
        "backward_ms": round(statistics.median(backward_ms), 3),
        "fps": round(1 / median_forward_s, 4),
        "real_time_factor": round(median_forward_s * FRAME_RATE, 4),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "num_channels": args.channels,
        "repeats": args.repeats,
        "seed": args.seed,
        "forward_ms_min": round(min(forward_ms), 3),
        "forward_ms_max": round(max(forward_ms), 3),
        "backward_ms_min": round(min(backward_ms), 3),
        "backward_ms_max": round(max(backward_ms), 3),
    }


def _hardware(torch, device: str) -> dict:
    from m2dao.kernels.threads import get_num_threads

    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            processor = next(
                (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor
            )
    except OSError:
        pass  # not Linux: the short name will do
    return {
        "processor": processor,
        "threads": get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def _print(result: dict) -> None:
    print(
        f"{result['backend']}: {result['num_gaussians']} Gaussians of {result['mean_radius_px']} px "
        f"at {result['size']} px: "
        f"forward {result['forward_ms']:.1f} ms (best {result['forward_ms_min']:.1f}), "
        f"backward {result['backward_ms']:.1f} ms (best {result['backward_ms_min']:.1f}), "
        f"{result['fps']:.0f} frames/s, real-time factor {result['real_time_factor']:.2f}, "
        f"peak memory {result['peak_rss_mb']:.0f} MB on {result['hardware']['processor']}",
        file=sys.stderr,
    )
    if "stages_ms" in result:
        stages = ", ".join(f"{name} {value:.1f}" for name, value in result["stages_ms"].items())
        print(
            f"talker, sound to H.264: {result['talker_fps']:.0f} frames/s, "
            f"real-time factor {result['talker_real_time_factor']:.2f}, "
            f"frame p50 {result['frame_ms_p50']:.1f} ms, p99 {result['frame_ms_p99']:.1f} ms; stages in ms: {stages}",
            file=sys.stderr,
        )
    if result.get("pairs_per_s"):
        print(
            f"rasteriser: {result['pairs_per_s'] / 1e9:.2f} of {result['machine_pairs_per_s'] / 1e9:.2f} "
            f"billion Gaussian-pixel pairs a second",
            file=sys.stderr,
        )
