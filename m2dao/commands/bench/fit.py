"""`m2dao bench fit`: how fast a fit takes its steps, and what a step's time goes to."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from m2dao.commands.shared import Commands, add_backend_argument, add_command
from m2dao.errors import ConfigError

EXAMPLES = """examples:
  m2dao bench fit captures/anna --size 256 --gaussians 15000 --json
  m2dao bench fit captures/anna --recipe talking_gaussian --threads 1

Steps are taken from the middle of the schedule, where Gaussians grow and all motion is trained. Nothing is written.
Steps before the measured ones let kernels compile and caches fill.

step_ms: of blocks of steps that share features. On a CPU two steps look at their frames by the same parameters, in a
thread each.

stages_ms: target (waiting for the frame), features (tri-planes and their network, forward and back), pose, render,
loss, backward (of everything but the features), optimiser. Stages of two frames at the same time each count their own.

--json prints {recipe, size, num_gaussians, threads, backend, steps, steps_per_s, step_ms_p50, step_ms_p99, stages_ms}.
"""
_SCHEDULE_STEPS, _START = 10_000, 2000  # where motion trains and density is controlled
_WARM_STEPS = 40


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "fit", run, summary="measure the steps of a fit", examples=EXAMPLES)
    parser.add_argument("capture", type=Path, help="folder made by `m2dao prepare`")
    parser.add_argument("--recipe", default="m2dao", help="m2dao (default), talking_gaussian or talking_gaussian_plus")
    parser.add_argument("--size", type=int, default=256, help="pixels: 64, 128, 256 (default) or 512")
    parser.add_argument("--gaussians", type=int, help="about how many (default: those the recipe begins with)")
    parser.add_argument("--steps", type=int, default=200, help="to measure (default 200)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    add_backend_argument(parser)


def run(args: argparse.Namespace) -> dict:
    import numpy as np

    from m2dao.kernels.threads import get_num_threads, one_torch_thread, set_num_threads
    from m2dao.progress import counted
    from m2dao.render.api import default_backend
    from m2dao.stages import FIT_STAGES, clocked
    from m2dao.training.budget import FitBudget
    from m2dao.training.loop import take_steps
    from m2dao.training.recipes import get_recipe
    from m2dao.training.setup import set_up_fit
    from m2dao.training.state import FitConfig

    if args.steps < 1:
        raise ConfigError("--steps", "at least 1", str(args.steps))
    recipe = get_recipe(args.recipe, args.size)
    if args.gaussians:
        recipe = _with_gaussians(recipe, args.gaussians)
    recipe = replace(
        recipe, speech_steps=1, densify_every=_SCHEDULE_STEPS
    )  # the voice does not matter, the number stays
    set_num_threads(args.threads)
    backend = args.backend or default_backend()
    with tempfile.TemporaryDirectory() as folder, one_torch_thread():
        budget = FitBudget(steps=_SCHEDULE_STEPS)
        fit = set_up_fit(
            FitConfig(capture_dir=args.capture, recipe=recipe, budget=budget, work_dir=Path(folder), backend=backend)
        )
        fit.step = _START
        take_steps(fit, fit.step + _WARM_STEPS)
        times_ms = []
        with clocked(FIT_STAGES) as clock:
            block = recipe.field_block_steps
            for first in counted(range(0, args.steps, block), "steps", total=-(-args.steps // block), unit="blocks"):
                began, num = time.perf_counter(), min(block, args.steps - first)
                take_steps(fit, fit.step + num)
                times_ms += [1e3 * (time.perf_counter() - began) / num] * num
    result = {
        "recipe": recipe.name,
        "size": args.size,
        "num_gaussians": fit.head.num_gaussians,
        "threads": get_num_threads(),
        "backend": backend,
        "steps": args.steps,
        "steps_per_s": round(1e3 / float(np.mean(times_ms)), 2),
        "step_ms_p50": round(float(np.percentile(times_ms, 50)), 2),
        "step_ms_p99": round(float(np.percentile(times_ms, 99)), 2),
        "stages_ms": {stage: round(1e3 * seconds / args.steps, 2) for stage, seconds in clock.seconds.items()},
    }
    if not args.json:
        print(f"{result['steps_per_s']:.1f} steps a second with {result['num_gaussians']} Gaussians at {args.size} px")
        for stage, spent_ms in result["stages_ms"].items():
            print(f"  {stage:<10}{spent_ms:7.2f} ms")
    return result


def _with_gaussians(recipe, wanted: int):
    """The recipe with so many seeds altogether, in its own proportions."""
    scale = wanted / sum(recipe.seeds.values())
    seeds = {name: max(16, round(scale * num)) for name, num in recipe.seeds.items()}
    caps = {name: 2 * max(num, seeds.get(name, 0)) for name, num in recipe.max_gaussians.items()}
    return replace(recipe, seeds=seeds, max_gaussians=caps)
