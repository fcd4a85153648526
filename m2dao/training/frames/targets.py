"""Frames of a capture at training size, decoded once into a file mapped into memory.

Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from m2dao.capture.dataset import Capture
from m2dao.capture.regions.plate import CLEARANCE, PlateBuilder
from m2dao.kernels.compiled import kernel, warms_up
from m2dao.regions import LEFT_EYE_INNER, LEFT_EYE_OUTER, ORAL, RIGHT_EYE_INNER, RIGHT_EYE_OUTER
from m2dao.training.frames.behind import behind_head, behind_person

_PLATE_FRAMES = 200  # at most, that a shot's background is made from
# Shoulders hardly move: what lies within the usual clearance of them is never trusted, and is better than a guess.
_CLEARANCES = (CLEARANCE, CLEARANCE / 3, 0.0)


class FrameTarget(NamedTuple):
    """What one frame should look like."""

    rgb: Tensor  # [H, W, 3] 0..1
    masks: Tensor  # [H, W, 4] 0..1: facial, oral, head, torso
    behind: Tensor  # [H, W, 3] what stands behind the generated part
    roi_weight: Tensor  # [H, W] 0..1: mouth and eyes

    def to(self, device: torch.device) -> FrameTarget:
        """The same on another device."""
        return FrameTarget(*(value.to(device) for value in self))


class TrainingFrames:
    """Frames of a capture at training size, and targets made of them; see :func:`decode_frames`.

    Args:
        data: [T, S, S, 7] uint8, pictures and region masks.
        indices: of these frames in the capture, in rising order.
        plates: [M, S, S, 3] float 0..1, backgrounds.
        plate_of: [T] number of each frame's background.
        eye_boxes: [number of frames of the capture, 2, 3] centre and half width of both eyes, pixels of S.
        soft_masks: False rounds the masks to 0 and 1.
    """

    def __init__(
        self,
        data: np.ndarray,
        indices: list[int],
        *,
        plates: np.ndarray,
        plate_of: np.ndarray,
        eye_boxes: np.ndarray,
        soft_masks: bool,
    ):
        self._data, self.indices, self.size = data, indices, data.shape[1]
        self._plates, self._plate_of, self._eye_boxes, self._soft = plates, plate_of, eye_boxes, soft_masks
        self._positions = {index: position for position, index in enumerate(indices)}

    @property
    def latest_plate(self) -> np.ndarray:
        """[S, S, 3] uint8, the background of the last shot."""
        return np.round(self._plates[-1] * 255).astype(np.uint8)

    def plate(self, index: int) -> np.ndarray:
        """[S, S, 3] float 0..1, the background of a frame's shot."""
        return self._plates[self._plate_of[self._positions[index]]]

    def rgb(self, index: int) -> np.ndarray:
        """[S, S, 3] uint8 of a frame of the recording."""
        return self._data[self._positions[index], ..., :3]

    def soft_masks(self, index: int) -> np.ndarray:
        """[S, S, 4] float 0..1, as captured."""
        return self._data[self._positions[index], ..., 3:].astype(np.float32) / 255

    def masks(self, index: int) -> np.ndarray:
        """[S, S, 4] float 0..1, rounded unless masks are soft here."""
        masks = self.soft_masks(index)
        return masks if self._soft else _binary(masks)

    def target(self, index: int, *, generate_torso: bool) -> FrameTarget:
        """What frame ``index`` should look like, over its own background, or its own torso and background."""
        rgb, masks = np.empty((self.size, self.size, 3), np.float32), np.empty((self.size, self.size, 4), np.float32)
        _unpack(self._data[self._positions[index]], rgb, masks)
        masks = masks if self._soft else _binary(masks)
        behind = (behind_person if generate_torso else behind_head)(rgb, masks, self.plate(index))
        roi_weight = np.maximum(masks[..., ORAL], self._eyes(index))
        return FrameTarget(*(torch.from_numpy(part) for part in (rgb, masks, behind, roi_weight)))

    def _eyes(self, index: int) -> np.ndarray:
        """[S, S] float, 1 where the eyes are: small, quick, and what people look at first."""
        eyes = np.zeros((self.size, self.size), np.uint8)
        for x, y, half_width in self._eye_boxes[index]:
            axes = (max(1, round(float(half_width))), max(1, round(0.6 * float(half_width))))
            cv2.ellipse(eyes, (round(float(x)), round(float(y))), axes, 0, 0, 360, 1, -1)
        return eyes.astype(np.float32)


@kernel()
def _unpack(data, rgb, masks):
    """Bytes [S, S, 7] to picture [S, S, 3] and masks [S, S, 4] in 0..1."""
    full = np.float32(255.0)
    for y in range(data.shape[0]):
        for x in range(data.shape[1]):
            for k in range(3):
                rgb[y, x, k] = np.float32(data[y, x, k]) / full
            for k in range(4):
                masks[y, x, k] = np.float32(data[y, x, 3 + k]) / full


@warms_up
def _unpack_one() -> None:
    """One pixel and what is behind it."""
    rgb, masks = np.empty((1, 1, 3), np.float32), np.empty((1, 1, 4), np.float32)
    _unpack(np.zeros((1, 1, 7), np.uint8), rgb, masks)
    behind_person(rgb, masks, rgb)


def _binary(masks: np.ndarray) -> np.ndarray:
    """Masks [S, S, 4] rounded to 0 and 1: each pixel belongs to one region or to the background."""
    background = 1 - masks.sum(-1, keepdims=True)
    winner = np.concatenate([masks, background], axis=-1).argmax(-1)
    return (winner[..., None] == np.arange(4)).astype(np.float32)


def _eye_boxes(landmarks: np.ndarray) -> np.ndarray:
    """Centre and half width of both eyes: [T, 478, 3] -> [T, 2, 3] pixels."""
    boxes = []
    for outer, inner in ((RIGHT_EYE_OUTER, RIGHT_EYE_INNER), (LEFT_EYE_OUTER, LEFT_EYE_INNER)):
        center = (landmarks[:, outer, :2] + landmarks[:, inner, :2]) / 2
        half_width = 0.65 * np.linalg.norm(landmarks[:, outer, :2] - landmarks[:, inner, :2], axis=1)
        boxes.append(np.concatenate([center, half_width[:, None]], axis=1))
    return np.stack(boxes, axis=1)


def _resize(picture: np.ndarray, size: int) -> np.ndarray:
    if picture.shape[0] == size:
        return picture
    shrinking = size < picture.shape[0]
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def scaled_intrinsics(K: np.ndarray, capture_size: int, size: int) -> np.ndarray:
    """Intrinsics [3, 3] for a picture resized from ``capture_size`` to ``size`` pixels."""
    scaled = np.array(K, dtype=np.float64)
    scaled[:2] *= size / capture_size
    return scaled


def decode_frames(
    capture: Capture,
    size: int,
    indices: Sequence[int] | np.ndarray,
    *,
    plate: np.ndarray | None = None,
    soft_masks: bool = True,
    num_threads: int = 2,
    on_progress: Callable[[float], None] | None = None,
) -> TrainingFrames:
    """Decode frames once into a file that is mapped into memory.

    Args:
        capture: an open capture.
        size: S.
        indices: frames wanted, in rising order.
        plate: [S, S, 3] uint8, the background to use for all of them; made from these frames when not given, for each
            shot by itself, because a recording may be framed otherwise after a cut.
        soft_masks: False rounds the masks to 0 and 1.
        num_threads: decoders at work.
        on_progress: told the share done.
    """
    wanted = [int(index) for index in indices]
    with tempfile.TemporaryFile(prefix="m2dao-frames-") as file:  # the mapping outlives the handle
        data = np.memmap(file, dtype=np.uint8, mode="w+", shape=(len(wanted), size, size, 7))

    def load(position: int) -> None:
        data[position, ..., :3] = _resize(capture.frame(wanted[position]), size)
        data[position, ..., 3:] = _resize(capture.masks(wanted[position]), size)

    with ThreadPoolExecutor(num_threads) as pool:
        for done, _ in enumerate(pool.map(load, range(len(wanted)))):
            if on_progress and done % 16 == 0:
                on_progress(done / len(wanted))
    if plate is None:
        plate_of = np.unique(capture.shots[wanted], return_inverse=True)[1]  # none of a shot that has no frame here
        plates = _make_plates(data, plate_of)
    else:
        plate_of, plates = np.zeros(len(wanted), int), plate[None]
    return TrainingFrames(
        data,
        wanted,
        plates=plates.astype(np.float32) / 255,
        plate_of=plate_of,
        eye_boxes=_eye_boxes(capture.landmarks) * (size / capture.size),
        soft_masks=soft_masks,
    )


def _make_plates(data: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """The background of each shot: pictures and masks [T, S, S, 7], shots [T] -> [M, S, S, 3]."""
    everything, builders_of = PlateBuilder(), []
    for shot in range(shots[-1] + 1):
        positions = np.flatnonzero(shots == shot)
        builders = [PlateBuilder(clearance) for clearance in _CLEARANCES]
        for position in positions[:: -(-len(positions) // _PLATE_FRAMES)]:
            for each in (*builders, everything):
                each.add(data[position, ..., :3], data[position, ..., 3:])
        builders_of.append(builders)
    return np.stack([best.finish(*nearer, everything) for best, *nearer in builders_of])


class TargetsAhead:
    """The targets of a fit, one ahead of the step that needs it.

    Args:
        frames: where they come from.
        generate_torso: see :meth:`TrainingFrames.target`.
        device: where they go.
        ahead: whether to make one ahead. A GPU wants that; cores that take the steps themselves have no time for it.
    """

    def __init__(self, frames: TrainingFrames, *, generate_torso: bool, device: torch.device, ahead: bool):
        self._frames, self._generate_torso, self._device = frames, generate_torso, device
        self._pool = ThreadPoolExecutor(1, "target") if ahead else None
        self._coming: dict[int, Future[FrameTarget]] = {}

    def take(self, index: int, following: int) -> FrameTarget:
        """The target of a frame; that of the frame that probably follows is begun."""
        coming = self._coming.pop(index, None)
        target = coming.result() if coming else self._make(index)
        self._coming = {following: self._pool.submit(self._make, following)} if self._pool else {}
        return target

    def _make(self, index: int) -> FrameTarget:
        return self._frames.target(index, generate_torso=self._generate_torso).to(self._device)
