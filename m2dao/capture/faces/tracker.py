"""Follows one face through a recording: 478 landmarks and 52 blendshapes in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m2dao.assets import asset_path
from m2dao.capture.faces.models import BLENDSHAPE_NAMES, Detection, FaceModels, FaceRoi, roi_of_landmarks

__all__ = ["BLENDSHAPE_NAMES", "FaceObservation", "FaceTracker"]

MIN_PRESENCE = 0.5  # below it the landmark model looks at something that is no face
MIN_RELATIVE_SIDE = 0.35  # a face smaller than this beside the main one is a picture or a passer-by, and is not counted
MIN_COUNTED_SCORE = 0.7
MIN_OTHER_PRESENCE = 0.9  # of another face; the landmark model has no doubt about a real one
SEARCH_EVERY = 5  # frames between two thorough searches while there is no face
DUPLICATE_DISTANCE = 0.5  # of the larger side: closer centres are one face found twice


@dataclass(frozen=True)
class FaceObservation:
    """One face in one frame, in pixels of that frame (pixel centres at +0.5).

    Attributes:
        landmarks: float32 [478, 3]; x right, y down, z in px relative to the head, nearer is smaller.
        blendshapes: float32 [52], order of BLENDSHAPE_NAMES.
        score: 0..1, the model's own belief that this is a face.
        box: x0, y0, x1, y1 around the landmarks.
        num_faces: how many faces the detector saw in this frame; None where it was not asked.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    num_faces: int | None = None


class FaceTracker:
    """Tracks the largest face, frame after frame; give it the frames of one recording in order.

    The landmark model runs in a square taken from the previous frame's landmarks; the detector runs at the start,
    after a loss, and every `count_every` frames to see whether somebody else is in the picture.

    Args:
        model_path: the face landmarker file; fetched when not given.
        count_every: frames between two counts of the faces.
        num_threads: per model call.
    """

    def __init__(self, model_path: Path | None = None, *, count_every: int = 25, num_threads: int = 1):
        self._models = FaceModels(model_path or asset_path("face_landmarker"), num_threads)
        self._count_every = count_every
        self.reset()

    def reset(self) -> None:
        """Forget the face, e.g. at a cut."""
        self._roi: FaceRoi | None = None
        self._num_seen = 0

    def go_on(self, num_seen: int, found: FaceObservation | None) -> None:
        """Track as if ``num_seen`` frames had been seen, with ``found`` in the last of them."""
        self._roi = None if found is None else roi_of_landmarks(found.landmarks)
        self._num_seen = num_seen

    def track(self, rgb: np.ndarray) -> FaceObservation | None:
        """Find the face in the next frame.

        Args:
            rgb: uint8 [H, W, 3]; all frames of one recording have one size.

        Returns:
            The observation, or None when there is no face in this frame.
        """
        num_faces = None
        found = self._fit(rgb, self._roi) if self._roi is not None else None
        if found is None or self._num_seen % self._count_every == 0:
            # searching the quarters costs ten times as much: while there is no face, it is done now and then
            detections = self.detect(rgb, search_quarters=self._num_seen % SEARCH_EVERY == 0)
            for detection in detections:
                found = found or self._fit_twice(rgb, detection)
            if found is not None:
                num_faces = 1 + self._count_others(rgb, detections, found[0])
        self._num_seen += 1
        if found is None:
            self._roi = None
            return None
        landmarks, score = found
        self._roi = roi_of_landmarks(landmarks)
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        return FaceObservation(
            landmarks=landmarks,
            blendshapes=self._models.blendshapes(landmarks),
            score=score,
            box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
            num_faces=num_faces,
        )

    def detect(self, rgb: np.ndarray, *, search_quarters: bool = True) -> list[Detection]:
        """The faces that matter in `rgb`, largest first: those not much smaller than the largest.

        One that the detector hardly believes in comes last, however large: leaves and cloth look like faces to it.

        Args:
            search_quarters: where the whole image shows none, look at overlapping quarters of it, which finds faces
                down to about a twentieth of the image's side.
        """
        found = self._models.detect(rgb)
        if not found and search_quarters:
            height, width = rgb.shape[:2]
            side = -(-max(height, width) // 2)
            for top in _tile_starts(height, side):
                for left in _tile_starts(width, side):
                    tile = np.ascontiguousarray(rgb[top : top + side, left : left + side])
                    found += [_moved(detection, left, top) for detection in self._models.detect(tile)]
        found.sort(key=lambda detection: (detection.score < MIN_COUNTED_SCORE, -detection.side))
        kept: list[Detection] = []
        for detection in found:
            relevant = not kept or (
                detection.score >= MIN_COUNTED_SCORE
                and detection.side >= MIN_RELATIVE_SIDE * kept[0].side
                and not any(_is_same_face(detection, other) for other in kept)
            )
            if relevant:
                kept.append(detection)
        return kept

    def _fit_twice(self, rgb: np.ndarray, detection: Detection) -> tuple[np.ndarray, float] | None:
        """Landmarks of a detected face: its box is rough, and only the second fit sees what tracking will see."""
        found = self._fit(rgb, detection.roi())
        return None if found is None else self._fit(rgb, roi_of_landmarks(found[0]))

    def _count_others(self, rgb: np.ndarray, detections: list[Detection], landmarks: np.ndarray) -> int:
        """Faces beside the tracked one: detected elsewhere, about as large, and with landmarks of their own."""
        centre, side = _place(landmarks)

        def is_elsewhere(box: tuple[np.ndarray, float]) -> bool:
            return bool(np.hypot(*(box[0] - centre)) > DUPLICATE_DISTANCE * max(side, box[1]))

        num_others = 0
        for detection in detections:
            x0, y0, x1, y1 = detection.box
            if detection.score < MIN_COUNTED_SCORE or detection.side < MIN_RELATIVE_SIDE * side:
                continue
            if not is_elsewhere((np.array([x0 + x1, y0 + y1]) / 2, detection.side)):
                continue
            other = self._fit_twice(rgb, detection)
            num_others += other is not None and other[1] >= MIN_OTHER_PRESENCE and is_elsewhere(_place(other[0]))
        return num_others

    def _fit(self, rgb: np.ndarray, roi: FaceRoi) -> tuple[np.ndarray, float] | None:
        if not 8.0 <= roi.side <= 4.0 * max(rgb.shape[:2]):
            return None
        landmarks, score = self._models.landmarks(rgb, roi)
        return (landmarks, score) if score >= MIN_PRESENCE else None


def _place(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [2] and side of the box around landmarks [478, 3]."""
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    return (low + high) / 2, float((high - low).max())


def _tile_starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` begin along an axis: each tile overlaps its neighbour by half."""
    if length <= side:
        return [0]
    return sorted({min(start, length - side) for start in range(0, length - side // 2, side // 2)})


def _moved(detection: Detection, left: int, top: int) -> Detection:
    x0, y0, x1, y1 = detection.box
    return Detection(
        (x0 + left, y0 + top, x1 + left, y1 + top),
        (detection.right_eye[0] + left, detection.right_eye[1] + top),
        (detection.left_eye[0] + left, detection.left_eye[1] + top),
        detection.score,
    )


def _is_same_face(one: Detection, other: Detection) -> bool:
    dx = (one.box[0] + one.box[2] - other.box[0] - other.box[2]) / 2
    dy = (one.box[1] + one.box[3] - other.box[1] - other.box[3]) / 2
    return bool(np.hypot(dx, dy) < DUPLICATE_DISTANCE * max(one.side, other.side))
