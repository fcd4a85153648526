"""Compares a capture of a synthetic presenter with the truth beside its recording.

Shapes: T frames, S pixels a side of the capture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.dataset import Capture
from m2dao.regions import REGIONS


@dataclass(frozen=True, kw_only=True)
class TruthComparison:
    """How far a capture is from the truth.

    Attributes:
        rotation_error_deg: root mean square over frames, apart from one constant turn between the two head spaces.
        rotation_noise_deg: the same apart from a linear map as well: a shallow face that turns far and a deep one that
            turns less look alike (the bas-relief ambiguity, Belhumeur et al. 1999), so how far turns reach depends on
            how deep a face is taken to be; this is what errs by itself.
        rotation_range_deg: the same of the head's own turns about their mean: what there was to find.
        lip_correlation, lip_error: of the lip opening; the error is a mean, in outer-eye distances.
        lip_opening_when_closed: the largest that was measured while lips were closed; None if they never were.
        blink_correlation: of the lids.
        gaze_across_correlation: of the irises' way across. Presenters hardly look up or down (about one degree), which
            says nothing.
        facial_iou, oral_iou, head_iou, torso_iou, person_iou: soft intersection over union of the masks.
    """

    rotation_error_deg: float
    rotation_noise_deg: float
    rotation_range_deg: float
    lip_correlation: float | None
    lip_error: float
    lip_opening_when_closed: float | None
    blink_correlation: float | None
    gaze_across_correlation: float | None
    facial_iou: float
    oral_iou: float
    head_iou: float
    torso_iou: float
    person_iou: float

    def as_dict(self) -> dict[str, float | None]:
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


def compare_with_truth(capture: Capture, truth: dict[str, np.ndarray]) -> TruthComparison:
    """Compare.

    Args:
        capture: an open capture.
        truth: tensors of a ``truth.safetensors``; its frames are those of the capture.
    """
    num_frames = capture.num_frames
    found = Rotation.from_matrix(capture.viewmats[:, :3, :3])
    true = Rotation.from_matrix(truth["viewmats"][:num_frames, :3, :3])
    offset = (true.inv() * found).mean()
    lips, closed = truth["lip_opening"][:num_frames], truth["closed"][:num_frames] > 0
    across = capture.expression[:, capture.expression_names.index("gaze_across")]
    errors, turns = found * (true * offset).inv(), true * true.mean().inv()
    return TruthComparison(
        rotation_error_deg=_rms_deg(errors),
        rotation_noise_deg=_rms_deg(_unexplained(errors, turns)),
        rotation_range_deg=_rms_deg(turns),
        lip_correlation=_correlation(capture.lip_opening, lips),
        lip_error=float(np.abs(capture.lip_opening - lips).mean()),
        lip_opening_when_closed=float(capture.lip_opening[closed].max()) if closed.any() else None,
        blink_correlation=_correlation(capture.blink.mean(1), truth["blink"][:num_frames].mean(1)),
        gaze_across_correlation=_correlation(across, truth["gaze"][:num_frames, 0]),
        **{f"{name}_iou": value for name, value in _mask_overlaps(capture, truth).items()},
    )


def _rms_deg(rotations: Rotation) -> float:
    return float(np.degrees(np.sqrt(np.mean(rotations.magnitude() ** 2))))


def _unexplained(errors: Rotation, turns: Rotation) -> Rotation:
    """What a linear map of the true turns leaves of the errors."""
    turned = np.column_stack([turns.as_rotvec(), np.ones(len(turns))])
    error = errors.as_rotvec()
    return Rotation.from_rotvec(error - turned @ np.linalg.lstsq(turned, error, rcond=None)[0])


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """None where one of them does not change."""
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) and np.ptp(other) else None


def _mask_overlaps(capture: Capture, truth: dict[str, np.ndarray]) -> dict[str, float]:
    crop, size = capture.manifest["crop"], capture.size
    scale = size / crop["side"]
    to_capture = np.array([[scale, 0, -crop["x"] * scale], [0, scale, -crop["y"] * scale]])
    overlaps: dict[str, list[float]] = {name: [] for name in (*REGIONS, "person")}
    for index, drawn in zip(truth["mask_frames"], truth["masks"], strict=True):
        if index >= capture.num_frames:
            continue
        true = cv2.warpAffine(drawn, to_capture, (size, size), flags=cv2.INTER_LINEAR).astype(np.float64) / 255
        found = capture.masks(int(index)).astype(np.float64) / 255
        for channel, name in enumerate(REGIONS):
            overlaps[name].append(_overlap(found[..., channel], true[..., channel]))
        overlaps["person"].append(_overlap(found.sum(-1), true.sum(-1)))
    return {name: float(np.mean(values)) for name, values in overlaps.items()}


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two soft masks."""
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())
