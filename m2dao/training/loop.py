"""The loop over the steps of a fit.

Shapes: H x W pixels.
"""

from __future__ import annotations

import math
import time
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from m2dao.errors import FitDiverged
from m2dao.gaussians.density import DensityConfig, ScreenGradients, control_density
from m2dao.stages import timed
from m2dao.training.checkpoint import save_checkpoint
from m2dao.training.progress import FitProgress
from m2dao.training.schedule import Span
from m2dao.training.state import Fit
from m2dao.training.step import FrameToTake, StepResult

_SAVE_EVERY_S = 20.0
_REPORT_EVERY_STEPS = 25
_PATCH_EVERY_STEPS = 3
_NUM_STRIP_PICTURES = 6


def take_steps(fit: Fit, until_step: int | None = None) -> None:
    """Take steps until the budget ends, or until a step before that.

    Raises:
        FitDiverged: too many frames give losses or gradients that are not finite.
    """
    pictures_due = [share for share in _picture_shares() if share > fit.progress]
    while (progress := fit.progress) < 1 and fit.step != until_step:
        span = fit.recipe.schedule.span_at(progress)
        phase = span.phase_at(fit.step)
        _begin_block(fit, span)
        fit.adam.select(phase.trainables, progress)
        # The frames of the next steps, and the one that probably follows them.
        indices = _frames_to_take(fit, _num_at_once(fit, span, until_step) + 1, progress)
        frames: list[FrameToTake] = [
            (fit.data.conditions.of(index), partial(fit.data.targets.take, index, following))
            for index, following in pairwise(indices)
        ]
        results = fit.runner.run(
            frames, moving=span.moving, screen=span.densify, patches=_patches(fit, len(frames), progress)
        )
        for index, result in zip(indices[:-1], results, strict=True):
            if not _take_step(fit, result, span):
                _skip_frame(fit, index, result.loss)
                break
            if span.densify:
                _densify(fit, result, span)
            if fit.step % _REPORT_EVERY_STEPS == 0:
                report = FitProgress(
                    fit.step, progress, phase.name, fit.loss, fit.recent_psnr_db, fit.clock.elapsed_s()
                )
                fit.files.add_numbers(report)
                fit.tell(report)
            if pictures_due and progress >= pictures_due[0]:
                pictures_due.pop(0)
                fit.files.add_pictures(fit.data.frames.rgb(index), _to_bytes(result.composite))


def _frames_to_take(fit: Fit, num: int, progress: float) -> list[int]:
    """The frames of the next steps."""
    rise, steps = fit.recipe.schedule.rise_at(progress), range(fit.step, fit.step + num)
    if rise is None:
        return [fit.order.frame_of(step) for step in steps]
    return [fit.order.frame_in_window(step, rise) for step in steps]


def _patches(fit: Fit, num: int, progress: float) -> list[int | None]:
    """Numbers of the patches that the next steps price: few, as one costs as much as two steps."""
    if progress < fit.recipe.patches_from:
        return [None] * num
    steps = range(fit.step, fit.step + num)
    return [None if step % _PATCH_EVERY_STEPS else step // _PATCH_EVERY_STEPS for step in steps]


def _begin_block(fit: Fit, span: Span) -> None:
    """Where a block of steps begins, other parameters are trained."""
    block = span, fit.step // span.block_steps
    if block == fit.block:
        return
    fit.runner.new_phase()
    fit.block = block
    # Between blocks nothing is under way, so that a fit resumed here goes on as if it had not been stopped.
    if time.monotonic() - fit.last_saved_s > _SAVE_EVERY_S:
        save_checkpoint(fit)
        fit.last_saved_s = time.monotonic()


def _num_at_once(fit: Fit, span: Span, until_step: int | None) -> int:
    """How many of the next steps look at their frames by the same parameters.

    None beyond a step that changes what is trained.
    """
    ends = [span.block_steps - fit.step % span.block_steps, fit.runner.num_at_once]
    if span.densify:
        ends.append(fit.recipe.densify_every - fit.step % fit.recipe.densify_every)
    ends += [end - fit.step for end in (until_step, fit.config.budget.steps) if end is not None]
    return max(1, min(ends))


def _take_step(fit: Fit, result: StepResult, span: Span) -> bool:
    """Step by the gradients of a frame; False, and no step, if they are not finite."""
    if not math.isfinite(result.loss):
        return False
    fit.runner.accept(result, moving=span.moving)
    with timed("optimiser"):
        if not fit.adam.step():
            return False
    fit.count(result)
    return True


def _skip_frame(fit: Fit, index: int, loss: float) -> None:
    """Skip a frame whose loss or gradients are not finite; nothing of it has reached the parameters."""
    fit.adam.forget()
    fit.runner.new_phase()
    if not fit.order.skip(index):
        raise FitDiverged(
            f"fit of {fit.recipe.name}",
            "finite losses and gradients",
            f"loss {loss} at step {fit.step}, frame {index}, after as much at {len(fit.order.skipped) - 1} others",
        )
    said = f"frame {index} left out: its loss or gradients are not numbers"
    fit.tell(FitProgress(fit.step, fit.progress, said, math.nan, math.nan, fit.clock.elapsed_s()))


def _densify(fit: Fit, result: StepResult, span: Span) -> None:
    """Collect a frame's screen gradients, and let Gaussians grow and be pruned every so many steps.

    A group that this span does not train stays as it is: nothing would move its new Gaussians to their places.
    """
    trained = [name for name in fit.head.groups if span.trains(name)]
    fit.runner.collect(result, {name: fit.gradients[name] for name in trained})
    if fit.step % fit.recipe.densify_every:
        return
    generator = torch.Generator().manual_seed(fit.config.seed * 1_000_003 + fit.step)
    for name in trained:
        group = fit.head.groups[name]
        config = DensityConfig(max_gaussians=fit.recipe.max_gaussians[name], correct_opacity=fit.recipe.correct_clones)
        fit.adam.apply_density(name, control_density(group, fit.gradients[name], config, generator))
        fit.gradients[name] = ScreenGradients(len(group), fit.device)
    fit.runner.new_phase()


def _picture_shares() -> list[float]:
    """Progress at which pictures are due, evenly apart."""
    return [(number + 1) / (_NUM_STRIP_PICTURES + 1) for number in range(_NUM_STRIP_PICTURES)]


def _to_bytes(picture: Tensor) -> np.ndarray:  # [H, W, 3] 0..1 -> uint8
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
