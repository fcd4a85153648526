"""A fit: capture in, identity out.

A budget is steps or minutes. With a budget of steps a fit stopped anywhere and resumed ends in the same result as one
that ran through; with a budget of minutes, which counts everything from decoding to writing, the schedule follows the
clock and the result depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from m2dao.kernels.threads import one_torch_thread, set_num_threads
from m2dao.render.api import default_backend
from m2dao.training.budget import FitBudget
from m2dao.training.progress import FitProgress
from m2dao.training.recipes import Recipe, get_recipe
from m2dao.training.run import FitResult, FitRun
from m2dao.training.universal import UniversalMotion


def fit(
    capture_dir: Path,
    out_dir: Path,
    *,
    recipe: str | Recipe = "m2dao",
    size: int = 256,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    work_dir: Path | None = None,
    on_progress: Callable[[FitProgress], None] | None = None,
    num_threads: int | None = None,
    backend: str | None = None,
    universal: UniversalMotion | None = None,
) -> FitResult:
    """Fit an identity to the training part of a capture.

    Args:
        capture_dir: from :func:`m2dao.capture.prepare.prepare`.
        out_dir: where the identity goes.
        recipe: name or recipe.
        size: pixels, for a recipe given by name.
        minutes, steps: the budget, one of them.
        seed: of everything random.
        work_dir: for step checkpoints, numbers and pictures; a fit stopped before resumes from there. ``<out_dir>.fit``
            if None.
        on_progress: called every few steps.
        num_threads: for decoding and kernels; all cores if None.
        backend: render backend; the best of this machine if None.
        universal: motion learned from others to start from; None starts from rest.

    Raises:
        CaptureCorrupt, CaptureRejected: the capture cannot be used.
        ConfigError: budget or recipe out of range.
        FitDiverged: the loss is no longer a number.
    """
    budget = FitBudget(steps=steps, minutes=minutes)
    chosen = get_recipe(recipe, size) if isinstance(recipe, str) else recipe
    out_dir = Path(out_dir)
    work_dir = Path(work_dir) if work_dir else out_dir.with_name(out_dir.name + ".fit")
    work_dir.mkdir(parents=True, exist_ok=True)
    set_num_threads(num_threads)
    told = on_progress or (lambda report: None)
    with one_torch_thread():
        run = FitRun(Path(capture_dir), chosen, budget, seed, work_dir, backend or default_backend(), told, universal)
        return run.complete(out_dir)
