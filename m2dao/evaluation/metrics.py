"""Figures of merit: pictures, landmarks, blendshapes, steadiness and the mouth.

Pictures are compared at 0..1 after clipping; a figure over a region is over its soft weights.
Shapes: H rows, W columns, T frames, P landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from m2dao.capture.faces.models import BLENDSHAPE_NAMES
from m2dao.errors import InputError
from m2dao.regions import INNER_LIPS, OUTER_LIPS, TORSO, WHOLE_HEAD
from m2dao.timeline import runs_of
from m2dao.training.losses.ssim import RADIUS, dssim_loss

MAX_PSNR_DB = 100.0  # of equal images, where the formula has no finite value; also what fits into JSON

# Channels of the region masks, see the capture format.

LIP_LANDMARKS = OUTER_LIPS + INNER_LIPS

LOWER_FACE = tuple(i for i, name in enumerate(BLENDSHAPE_NAMES) if name.startswith(("jaw", "mouth", "cheekPuff")))
UPPER_FACE = tuple(i for i, name in enumerate(BLENDSHAPE_NAMES) if name.startswith(("brow", "eye", "cheekSquint")))

BILABIALS = ("M", "B", "P")
# Posteriors are softened: the likeliest phone of a row seldom has more than a quarter. In runs above these, lips of
# recordings close in 70 to 90 of 100 bilabials (at random 30 to 60); vowels are held a few times in ten seconds.
_SURE_BILABIALS, _SURE_VOWELS = 0.25, 0.5
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")


def psnr_db(image: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio, 10 log10(1 / weighted mean squared error), at most ``MAX_PSNR_DB``.

    Args:
        image: [H, W, 3] uint8, or float 0..1.
        target: the same shape.
        weights: [H, W] >= 0, how much each pixel counts; all equal if None.

    Returns:
        dB; NaN if all weights are zero, because there is nothing to compare.
    """
    image, target = _pair(image, target)
    squared = np.square(image - target, dtype=np.float64).mean(axis=2)
    if weights is None:
        mse = squared.mean()
    else:
        weights = _weights(weights, image)
        total = weights.sum(dtype=np.float64)
        if total <= 0:
            return float("nan")
        mse = (squared * weights).sum() / total
    return float(min(MAX_PSNR_DB, -10.0 * np.log10(max(mse, 1e-12))))


def ssim(image: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Structural similarity (Wang et al., 2004) with a Gaussian window of 11 x 11, sigma 1.5.

    The mean is over pixels whose window lies inside the image.

    Args:
        image: [H, W, 3] uint8, or float 0..1; sides of at least 11 pixels.
        target: the same shape.
        weights: [H, W] >= 0, how much each pixel counts; all equal if None.

    Returns:
        -1..1; NaN if all weights are zero.
    """
    image, target = _pair(image, target)
    if min(image.shape[:2]) < 2 * RADIUS + 1:
        raise InputError(
            "SSIM", f"sides of at least {2 * RADIUS + 1} pixels", str(image.shape[:2]), "enlarge the images"
        )
    inside = np.zeros(image.shape[:2], np.float32)
    inside[RADIUS:-RADIUS, RADIUS:-RADIUS] = 1.0
    if weights is not None:
        inside *= _weights(weights, image)
        if inside.sum() <= 0:
            return float("nan")
    with torch.no_grad():
        loss = dssim_loss(torch.from_numpy(image), torch.from_numpy(target), torch.from_numpy(inside))
    return 1.0 - 2.0 * float(loss)


def neck_band(masks: np.ndarray, *, width: float = 0.04) -> np.ndarray:
    """Weights of the band where head and torso meet, the place of seams.

    Args:
        masks: [H, W, 4] uint8 region masks.
        width: reach to both sides of the line, as part of the image height.

    Returns:
        [H, W] float32 0..1, all zero where a picture has no neck.
    """
    values = masks.astype(np.float32) / 255.0
    return _meeting(np.clip(values[..., WHOLE_HEAD].sum(axis=2), 0, 1), values[..., TORSO], width)


def edge_band(masks: np.ndarray, *, width: float = 0.02) -> np.ndarray:
    """Weights of the band around the outline of the person, the place of hair and jagged edges.

    Args:
        masks: [H, W, 4] uint8 region masks.
        width: reach to both sides of the outline, as part of the image height.

    Returns:
        [H, W] float32 0..1.
    """
    person = np.clip(masks.astype(np.float32).sum(axis=2) / 255.0, 0, 1)
    return _meeting(person, 1.0 - person, width)


def lmd_px(
    landmarks_a: np.ndarray, landmarks_b: np.ndarray, *, indices: tuple[int, ...] | None = LIP_LANDMARKS
) -> float:
    """Landmark distance of the lips.

    Both sets are centred in each frame: so the distance tells the shape of the mouth, not the place of the head.

    Args:
        landmarks_a: [T, 478, >= 2] or [478, >= 2], pixels of the size that the figure is quoted for. Frames without a
            face are NaN and do not count.
        landmarks_b: the same shape.
        indices: landmarks to compare; all if None.

    Returns:
        Pixels; NaN if no frame has both faces.
    """
    a, b = np.asarray(landmarks_a, np.float64), np.asarray(landmarks_b, np.float64)
    if a.shape != b.shape or a.ndim not in (2, 3) or a.shape[-1] < 2:
        raise InputError("landmark distance", "two sets [T, P, 2] of one shape", f"{a.shape}, {b.shape}")
    chosen = slice(None) if indices is None else list(indices)
    a, b = (value.reshape(-1, *value.shape[-2:])[:, chosen, :2] for value in (a, b))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return mean_of_known(np.linalg.norm(a - b, axis=2).mean(axis=1))


@dataclass(frozen=True)
class BlendshapeError:
    """Mean absolute differences of blendshape weights (0..1).

    Attributes:
        lower: of jaw, mouth and cheeks, which speech moves.
        upper: of brows and eyes.
    """

    lower: float
    upper: float


def blendshape_error(blendshapes_a: np.ndarray, blendshapes_b: np.ndarray) -> BlendshapeError:
    """Compare expressions.

    Args:
        blendshapes_a: [T, 52] or [52] weights in the order of ``BLENDSHAPE_NAMES``; NaN frames do not count.
        blendshapes_b: the same shape.
    """
    a, b = np.atleast_2d(blendshapes_a), np.atleast_2d(blendshapes_b)
    if a.shape != b.shape or a.shape[1] != len(BLENDSHAPE_NAMES):
        raise InputError("blendshape error", f"two tables [T, {len(BLENDSHAPE_NAMES)}]", f"{a.shape}, {b.shape}")
    difference = np.abs(a - b)
    return BlendshapeError(
        lower=mean_of_known(difference[:, LOWER_FACE].mean(axis=1)),
        upper=mean_of_known(difference[:, UPPER_FACE].mean(axis=1)),
    )


class FlickerMeter:
    """Temporal flicker: how much more generated pixels change from frame to frame than recorded ones.

    For each pixel and step, max(0, |change generated| - |change recorded|) in grey levels of 255, averaged. Motion that
    the recording has too costs nothing; 0 is perfect. Keeps two frames, whatever the length.
    """

    def __init__(self) -> None:
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._sum = 0.0
        self._weight = 0.0

    def update(self, image: np.ndarray, recorded: np.ndarray, weights: np.ndarray | None = None) -> None:
        """The next pair of frames [H, W, 3]; ``weights`` [H, W] says which pixels count."""
        image, recorded = _pair(image, recorded)
        if self._before is not None:
            before, recorded_before = self._before
            excess = np.abs(image - before) - np.abs(recorded - recorded_before)
            excess = np.clip(excess, 0, None).mean(axis=2)
            weights = np.ones(excess.shape, np.float32) if weights is None else _weights(weights, image)
            self._sum += float((excess * weights).sum(dtype=np.float64)) * 255.0
            self._weight += float(weights.sum(dtype=np.float64))
        self._before = (image, recorded)

    @property
    def value(self) -> float:
        """Grey levels; NaN before two frames."""
        return self._sum / self._weight if self._weight > 0 else float("nan")


class ChangeMeter:
    """How much a video changes from frame to frame.

    The mean absolute difference of neighbouring frames, in grey levels of 255.
    Beside that of the recording it tells whether a render is as calm; smoothing lowers it and flicker raises it.
    """

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._sum, self._num = 0.0, 0

    def update(self, image: np.ndarray) -> None:
        """The next frame [H, W, 3]."""
        image = _unit(image)
        if self._before is not None:
            self._sum += 255.0 * float(np.abs(image - self._before).mean(dtype=np.float64))
            self._num += 1
        self._before = image

    @property
    def value(self) -> float:
        """Grey levels; NaN before two frames."""
        return self._sum / self._num if self._num else float("nan")


def lip_change(lip_opening: np.ndarray) -> float:
    """How much the lips move: root mean square change from frame to frame.

    Args:
        lip_opening: [T], NaN where there was no face.
    """
    return float(np.sqrt(mean_of_known(np.square(np.diff(np.asarray(lip_opening, np.float64))))))


def lip_jitter(lip_opening: np.ndarray, chosen: np.ndarray) -> float:
    """How much the lips tremble where they should be still: root mean square change from frame to frame.

    Args:
        lip_opening: [T] opening over outer-eye distance; NaN where there was no face.
        chosen: [T] bool, see :func:`silent_frames` and :func:`held_vowel_frames`.

    Returns:
        In the unit of ``lip_opening``; NaN if no two neighbouring frames are chosen.
    """
    opening, chosen = np.asarray(lip_opening, np.float64), np.asarray(chosen, bool)
    if opening.shape != chosen.shape or opening.ndim != 1:
        raise InputError("lip jitter", "opening and chosen frames of shape [T]", f"{opening.shape}, {chosen.shape}")
    both = chosen[1:] & chosen[:-1]
    return float(np.sqrt(mean_of_known(np.square(np.diff(opening)[both]))))


def silent_frames(silence_probability: np.ndarray, num_frames: int, *, margin_frames: int = 4) -> np.ndarray:
    """Frames in silence and not within ``margin_frames`` of speech, where lips may already move.

    Args:
        silence_probability: [R], first column of ``posteriors_of`` phone rows; R a multiple of ``num_frames``.

    Returns:
        [num_frames] bool.
    """
    silence = np.asarray(silence_probability).reshape(num_frames, -1).min(axis=1) > 0.9
    kernel = np.ones(2 * margin_frames + 1, np.uint8)
    return cv2.erode(silence.astype(np.uint8)[None], kernel[None], borderValue=1)[0].astype(bool)


def held_vowel_frames(
    posteriors: np.ndarray, phones: tuple[str, ...], num_frames: int, *, min_frames: int = 4
) -> np.ndarray:
    """Frames in which nothing but vowels is heard for at least ``min_frames``.

    Args:
        posteriors: [R, F] of the sound, R a multiple of ``num_frames``.
        phones: names of the columns.

    Returns:
        [num_frames] bool.
    """
    vowels = np.asarray(posteriors)[:, [phones.index(name) for name in VOWELS]].sum(axis=1)
    held = np.zeros(num_frames, bool)
    for start, end in runs_of(vowels.reshape(num_frames, -1).mean(axis=1) > _SURE_VOWELS):
        held[start:end] = end - start >= min_frames
    return held


def bilabial_closure(
    lip_opening: np.ndarray,
    posteriors: np.ndarray,
    phones: tuple[str, ...],
    *,
    closed_below: float,
    reach_frames: int = 2,
) -> tuple[float, int]:
    """Do the lips close where m, b and p are heard?

    Args:
        lip_opening: [T], NaN where there was no face.
        posteriors: [R, F] of the sound, R a multiple of T.
        phones: names of the columns.
        closed_below: an opening that counts as closed, in the unit of ``lip_opening``.
        reach_frames: the closure may be this many frames away from where the phone is heard best.

    Returns:
        The part of the bilabials with a closure (NaN without any) and how many bilabials there were.
    """
    opening = np.asarray(lip_opening, np.float64)
    columns = [phones.index(name) for name in BILABIALS]
    heard = np.asarray(posteriors)[:, columns].sum(axis=1).reshape(len(opening), -1).max(axis=1)
    closed = []
    for start, end in runs_of(heard > _SURE_BILABIALS):  # one event each
        around = opening[max(0, start - reach_frames) : end + reach_frames]
        around = around[np.isfinite(around)]
        if len(around):
            closed.append(around.min() < closed_below)
    return (float(np.mean(closed)) if closed else float("nan")), len(closed)


def _pair(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32 0..1."""
    if image.shape != target.shape or image.ndim != 3:
        raise InputError("picture comparison", "two images [H, W, C] of one shape", f"{image.shape}, {target.shape}")
    return _unit(image), _unit(target)


def _unit(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    if image.dtype.kind != "f":
        raise InputError("image", "uint8, or float 0..1", str(image.dtype))
    return np.clip(image, 0, 1).astype(np.float32)


def _weights(weights: np.ndarray, image: np.ndarray) -> np.ndarray:
    if weights.shape != image.shape[:2]:
        raise InputError("region weights", f"shape {list(image.shape[:2])}", str(list(weights.shape)))
    return weights.astype(np.float32)


def _meeting(one: np.ndarray, other: np.ndarray, width: float) -> np.ndarray:
    """Where two regions are both within ``width`` of a pixel: 1 on the line between them, 0 far from it."""
    reach = max(1, round(width * one.shape[0]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = np.minimum(cv2.dilate(one, kernel), cv2.dilate(other, kernel))
    return np.clip(near, 0, 1).astype(np.float32)


def mean_of_known(values: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN if none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
