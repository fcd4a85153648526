"""A fit: capture in, identity out.

A budget is steps or minutes. With a budget of steps a fit stopped anywhere and resumed ends in the same result as one
that ran through; with a budget of minutes, which counts everything from decoding to writing, the schedule follows the
clock and the result depends on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from m2dao.errors import ConfigError
from m2dao.figures import rounded
from m2dao.identity.checkpoint import StoredIdentity, load_identity, save_identity
from m2dao.identity.manifest import IdentityManifest
from m2dao.kernels.threads import one_torch_thread, set_num_threads
from m2dao.render.api import default_backend
from m2dao.training.budget import FitBudget
from m2dao.training.checkpoint import discard_checkpoint
from m2dao.training.loop import take_steps
from m2dao.training.progress import FitProgress
from m2dao.training.recipes import Recipe, get_recipe
from m2dao.training.setup import set_up_fit
from m2dao.training.state import Fit, FitConfig
from m2dao.training.storage_loss import storage_loss_db
from m2dao.training.universal import UniversalMotion


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a fit went; the JSON of `m2dao fit`.

    Attributes:
        steps, seconds, steps_per_s: taken.
        num_gaussians: of all groups.
        loss, psnr_train_db: of the last frames trained on.
        speech_held_out_r: correlation of predicted and recorded lips in the part that the voice was not learned from.
        stored_loss_db: PSNR that half precision costs on the training part.
        frames_left_out: numbers of frames whose losses were not finite.
    """

    steps: int
    seconds: float
    steps_per_s: float
    num_gaussians: int
    loss: float
    psnr_train_db: float
    speech_held_out_r: float
    stored_loss_db: float
    recipe: str
    size: int
    frames_left_out: list[int]

    def as_dict(self) -> dict:
        return rounded(asdict(self))


def usual_work_dir(out: Path) -> Path:
    """Where step checkpoints and pictures of a fit go whose caller does not say."""
    return out.with_name(out.name + ".fit")


def fit(
    capture_dir: Path | str,
    out_dir: Path | str,
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
        FitDiverged: the loss is no longer finite.
    """
    out_dir = Path(out_dir)
    config = FitConfig(
        capture_dir=Path(capture_dir),
        recipe=get_recipe(recipe, size) if isinstance(recipe, str) else recipe,
        budget=FitBudget(steps=steps, minutes=minutes),
        seed=seed,
        work_dir=Path(work_dir) if work_dir else usual_work_dir(out_dir),
        backend=backend or default_backend(),
        universal=universal,
    )
    set_num_threads(num_threads)
    with one_torch_thread():
        return complete_fit(set_up_fit(config, on_progress), out_dir)


def complete_fit(run: Fit, out_dir: Path) -> FitResult:
    """Take all steps that are left of the budget, and write the identity.

    Raises:
        ConfigError: the budget is over before the first step.
        FitDiverged: too many frames give losses that are not finite.
    """
    first_step, began = run.step, time.monotonic()
    take_steps(run)
    if run.step == 0:
        raise ConfigError(
            "fit minutes",
            "enough for more than the preparations",
            f"{run.config.budget.minutes:g}, over before the first step",
            "give it more minutes",
        )
    steps_per_s = (run.step - first_step) / max(1e-9, time.monotonic() - began)
    identity = _identity_of(run)
    save_identity(out_dir, identity)
    loss_db = storage_loss_db(
        identity,
        load_identity(out_dir),
        run.data.conditions,
        run.data.frames,
        [index for index in run.data.usable if index not in run.order.skipped],
        torch.from_numpy(run.data.K),
        backend=run.config.backend,
    )
    discard_checkpoint(run.config.work_dir)
    return FitResult(
        steps=run.step,
        seconds=run.clock.elapsed_s(),
        steps_per_s=steps_per_s,
        num_gaussians=run.head.num_gaussians,
        loss=run.loss,
        psnr_train_db=run.recent_psnr_db,
        speech_held_out_r=run.data.voice.held_out_r,
        stored_loss_db=loss_db,
        recipe=run.recipe.name,
        size=run.recipe.size,
        frames_left_out=sorted(run.order.skipped),
    )


def _identity_of(run: Fit) -> StoredIdentity:
    """What a fit has made."""
    data, recipe, num_train = run.data, run.recipe, run.data.num_train
    manifest = IdentityManifest(
        recipe=recipe.name,
        size=recipe.size,
        K=[[float(value) for value in row] for row in data.K],
        model={},
        speech={},
        num_gaussians={},
        fit={
            "steps": run.step,
            "seconds": round(run.clock.elapsed_s(), 1),
            "seed": run.config.seed,
            "num_train": num_train,
        },
        capture_sha256=data.capture.content_sha256,
        poses=recipe.poses,
        soft_masks=recipe.soft_masks,
    )
    signals = {
        "poses": torch.from_numpy(data.conditions.poses[:num_train]),
        "slow_poses": torch.from_numpy(data.conditions.slow_poses[:num_train]),
        "expression": data.conditions.expression[:num_train],
        "reference_viewmat": data.conditions.reference_viewmat,
        "cuts": torch.from_numpy(data.capture.cuts[data.capture.cuts < num_train]),
    }
    return StoredIdentity(manifest, run.head, data.voice.calibrated(), signals, data.frames.latest_plate)
