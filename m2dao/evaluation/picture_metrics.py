"""Gathers the picture figures of an evaluation frame by frame, in constant memory.

Shapes: S pixels a side.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from m2dao.evaluation.metrics import ChangeMeter, FlickerMeter, edge_band, neck_band, psnr_db, ssim
from m2dao.evaluation.result import PictureFigures
from m2dao.figures import known
from m2dao.regions import WHOLE_HEAD
from m2dao.training.losses.perceptual import StLpips

_MIN_LPIPS_SIDE = 64
_LPIPS_EVERY = 5  # frames: AlexNet on two pictures costs more than rendering them


class PictureMetrics:
    """PSNR, SSIM, ST-LPIPS, PSNR of head, neck band and edge band, flicker, change from frame to frame.

    Args:
        size: S; below 64 px ST-LPIPS is not defined and left out.
    """

    def __init__(self, size: int):
        self._perceptual = StLpips() if size >= _MIN_LPIPS_SIDE else None
        self._flicker = FlickerMeter()
        self._rendered_change, self._recorded_change = ChangeMeter(), ChangeMeter()
        self._values: dict[str, list[float]] = {}
        self._num_frames = 0

    def add(self, recorded: np.ndarray, rendered: np.ndarray, masks: np.ndarray) -> None:
        """One pair of frames.

        Args:
            recorded, rendered: [S, S, 3] uint8.
            masks: [S, S, 4] float 0..1, of the recording.
        """
        as_bytes = (masks * 255).astype(np.uint8)
        self._note("psnr_db", psnr_db(rendered, recorded))
        self._note("ssim", ssim(rendered, recorded))
        self._note("head_psnr_db", psnr_db(rendered, recorded, masks[..., WHOLE_HEAD].sum(-1)))
        self._note("neck_psnr_db", psnr_db(rendered, recorded, neck_band(as_bytes)))
        self._note("edge_psnr_db", psnr_db(rendered, recorded, edge_band(as_bytes)))
        self._flicker.update(rendered, recorded)
        self._rendered_change.update(rendered)
        self._recorded_change.update(recorded)
        if self._perceptual is not None and self._num_frames % _LPIPS_EVERY == 0:
            pair = [torch.from_numpy(picture.astype(np.float32) / 255) for picture in (rendered, recorded)]
            with torch.no_grad():
                self._note("st_lpips", float(self._perceptual(*pair)))
        self._num_frames += 1

    def figures(self) -> PictureFigures:
        """Means over frames; None where nothing could be measured."""
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        return PictureFigures(**means, flicker=known(self._flicker.value))

    @property
    def rendered_change(self) -> float | None:
        return known(self._rendered_change.value)

    @property
    def recorded_change(self) -> float | None:
        return known(self._recorded_change.value)

    def _note(self, name: str, value: float) -> None:
        if not math.isnan(value):
            self._values.setdefault(name, []).append(value)
