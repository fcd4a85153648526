"""The three networks of the face landmarker file, run one image at a time on the CPU.

The file is a zip of .tflite models (MediaPipe face landmarker, Apache-2.0): a short-range detector, a landmark model on
a rotated square around one face, and a blendshape model on a subset of the landmarks. Boxes and anchors follow the
model card of BlazeFace (arXiv 1907.05047); landmark and blendshape order follows the MediaPipe face mesh and ARKit.

Pixel coordinates are continuous: pixel ``i`` covers ``[i, i + 1)`` and its centre is ``i + 0.5``.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from m2dao.errors import AssetCorrupt, needs_extra
from m2dao.regions import LEFT_EYE_OUTER, NUM_LANDMARKS, RIGHT_EYE_OUTER

BLENDSHAPE_NAMES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip

# The landmarks the blendshape model reads, in its order.
BLENDSHAPE_INPUT = np.array([
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81,
    82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154,
    155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263,
    267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
])  # fmt: skip

DETECTOR_SIDE = 128
LANDMARK_SIDE = 256
ROI_SCALE = 1.5  # the landmark model was trained on squares this much larger than the face
MAX_OVERLAP = 0.3
_MUCH_LARGER = 2.2  # pixels of the image for one of the square


@dataclass(frozen=True)
class FaceRoi:
    """A rotated square in the image: centre and side in px, turn in radians (clockwise as seen)."""

    x: float
    y: float
    side: float
    angle: float

    def corner_map(self) -> np.ndarray:
        """[2, 3] that takes (u, v, 1), both 0..1 across the square, to pixels."""
        cos, sin = math.cos(self.angle) * self.side, math.sin(self.angle) * self.side
        return np.array([
            [cos, -sin, self.x - 0.5 * (cos - sin)],
            [sin, cos, self.y - 0.5 * (sin + cos)],
        ])  # fmt: skip


@dataclass(frozen=True)
class Detection:
    """A face the detector found, in pixels of the image it was given."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1
    right_eye: tuple[float, float]
    left_eye: tuple[float, float]
    score: float

    @property
    def side(self) -> float:
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def roi(self) -> FaceRoi:
        x0, y0, x1, y1 = self.box
        angle = math.atan2(self.left_eye[1] - self.right_eye[1], self.left_eye[0] - self.right_eye[0])
        return FaceRoi((x0 + x1) / 2, (y0 + y1) / 2, ROI_SCALE * self.side, angle)


def roi_of_landmarks(landmarks: np.ndarray) -> FaceRoi:
    """The square the landmark model wants for the next frame, from landmarks [478, 3] px of this one."""
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    eye_line = landmarks[LEFT_EYE_OUTER, :2] - landmarks[RIGHT_EYE_OUTER, :2]
    centre = (low + high) / 2
    side = ROI_SCALE * float((high - low).max())
    return FaceRoi(float(centre[0]), float(centre[1]), side, math.atan2(eye_line[1], eye_line[0]))


class FaceModels:
    """Detector, landmark and blendshape model of one landmarker file; not to be shared between threads.

    Args:
        path: the landmarker file.
        num_threads: per model call; one is fastest for models this small.

    Raises:
        AssetCorrupt: the file does not hold the three models.
    """

    def __init__(self, path: Path, num_threads: int = 1):
        with needs_extra("fit"):
            from ai_edge_litert.interpreter import Interpreter

        try:
            with zipfile.ZipFile(path) as bundle:
                contents = [
                    bundle.read(f"{name}.tflite")
                    for name in ("face_detector", "face_landmarks_detector", "face_blendshapes")
                ]
        except (zipfile.BadZipFile, KeyError) as error:
            raise AssetCorrupt(
                str(path), "a face landmarker bundle of three models", str(error), "fetch it again"
            ) from error
        self._detector, self._landmarker, self._blendshaper = (
            _Model(Interpreter(model_content=content, num_threads=num_threads)) for content in contents
        )
        self._anchors = _anchors()

    def detect(self, rgb: np.ndarray, min_score: float = 0.5) -> list[Detection]:
        """Faces in `rgb` uint8 [H, W, 3], best first. Finds faces from about a tenth of the image's side on."""
        height, width = rgb.shape[:2]
        side = max(height, width)
        left, top = (side - width) // 2, (side - height) // 2
        scale = DETECTOR_SIDE / side
        small = cv2.resize(
            rgb, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
        )
        canvas = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.float32)
        y, x = (DETECTOR_SIDE - small.shape[0]) // 2, (DETECTOR_SIDE - small.shape[1]) // 2
        canvas[y : y + small.shape[0], x : x + small.shape[1]] = small / 127.5 - 1.0
        raw, logits = self._detector(canvas[None])
        scores = _sigmoid(logits.reshape(-1))
        chosen = np.flatnonzero(scores >= min_score)
        if not len(chosen):
            return []
        values = raw.reshape(-1, 8, 2)[chosen] / DETECTOR_SIDE
        points = values + self._anchors[chosen, None]
        points[:, 1] = values[:, 1]  # the second pair is the size
        points *= side
        points[:, [0, *range(2, 8)]] -= [left, top]
        return _merge_overlapping(points, scores[chosen])

    def landmarks(self, rgb: np.ndarray, roi: FaceRoi) -> tuple[np.ndarray, float]:
        """Landmarks of the face in ``roi``, and the chance that there is one.

        Returns:
            float32 [478, 3] in px of `rgb`, z in the same unit, nearer is smaller; 0..1.
        """
        crop = crop_roi(rgb, roi, LANDMARK_SIDE)
        points, presence, _ = self._landmarker((crop * np.float32(1 / 255.0))[None])
        points = points.reshape(NUM_LANDMARKS, 3).astype(np.float64) / LANDMARK_SIDE
        placed = np.empty((NUM_LANDMARKS, 3), np.float32)
        placed[:, :2] = np.c_[points[:, :2], np.ones(NUM_LANDMARKS)] @ roi.corner_map().T
        placed[:, 2] = points[:, 2] * roi.side
        return placed, float(_sigmoid(presence.reshape(-1)[0]))

    def blendshapes(self, landmarks: np.ndarray) -> np.ndarray:
        """Blendshape weights float32 [52] in the order of BLENDSHAPE_NAMES."""
        (weights,) = self._blendshaper(landmarks[BLENDSHAPE_INPUT, :2][None].astype(np.float32))
        return weights.reshape(-1).copy()


class _Model:
    """One allocated model with one input: call it with an array, get its outputs in order."""

    def __init__(self, interpreter):
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._input = interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def __call__(self, value: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def crop_roi(rgb: np.ndarray, roi: FaceRoi, side: int) -> np.ndarray:
    """The square `roi` of `rgb` as uint8 [side, side, 3]; outside the image its border is repeated.

    A region larger than `side` is blurred first, and a much larger one is shrunk by area averaging: sampling it
    directly would alias, and aliasing shows up as jitter of the landmarks.
    """
    shrink = roi.side / side
    matrix = roi.corner_map()
    origin = np.zeros(2)
    if shrink > 1.3:
        reach = roi.side * 0.75  # half the diagonal and a little
        x0, y0 = max(0, math.floor(roi.x - reach)), max(0, math.floor(roi.y - reach))
        x1, y1 = min(rgb.shape[1], math.ceil(roi.x + reach)), min(rgb.shape[0], math.ceil(roi.y + reach))
        if shrink < _MUCH_LARGER and x1 - x0 > 8 and y1 - y0 > 8:
            # as wide as the area that becomes one pixel; a third of the time of averaging over it
            rgb = cv2.GaussianBlur(rgb[y0:y1, x0:x1], (5, 5), shrink / math.sqrt(12.0))
            matrix = matrix - np.array([[0, 0, x0], [0, 0, y0]])
        elif x1 - x0 > 8 and y1 - y0 > 8:
            target = (max(1, round((x1 - x0) / shrink)), max(1, round((y1 - y0) / shrink)))
            factor = np.array([target[0] / (x1 - x0), target[1] / (y1 - y0)])
            rgb = cv2.resize(rgb[y0:y1, x0:x1], target, interpolation=cv2.INTER_AREA)
            origin = np.array([x0, y0], float)
            matrix = (matrix - np.array([[0, 0, origin[0]], [0, 0, origin[1]]])) * factor[:, None]
    # output pixel (i, j) has u = (i + 0.5) / side; OpenCV counts pixel centres as integers on both sides
    matrix = matrix @ np.array([[1 / side, 0, 0.5 / side], [0, 1 / side, 0.5 / side], [0, 0, 1.0]])
    matrix[:, 2] -= 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(rgb, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -80.0, 80.0)))


def _anchors() -> np.ndarray:
    """Anchor centres [896, 2] in 0..1: two per cell of a 16x16 grid, six per cell of an 8x8 grid."""
    centres = []
    for num_cells, repeats in ((16, 2), (8, 6)):
        axis = (np.arange(num_cells) + 0.5) / num_cells
        grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres).astype(np.float32)


def _merge_overlapping(points: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Weighted non-maximum suppression; `points` [K, 8, 2] px: centre, size, six key points (eyes first)."""
    boxes = np.concatenate([points[:, 0] - points[:, 1] / 2, points[:, 0] + points[:, 1] / 2], axis=1)
    left = list(np.argsort(-scores))
    found = []
    while left:
        overlaps = _overlap(boxes[left[0]], boxes[left])
        group = [index for index, overlap in zip(left, overlaps, strict=True) if overlap > MAX_OVERLAP] or left[:1]
        weights = scores[group] / scores[group].sum()
        box, right_eye, left_eye = weights @ boxes[group], weights @ points[group, 2], weights @ points[group, 3]
        found.append(Detection(tuple(box), tuple(right_eye), tuple(left_eye), float(scores[left[0]])))
        left = [index for index in left if index not in group]
    return found


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of `box` [4] with each of `boxes` [K, 4]."""
    inner = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.clip(inner, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return shared / np.maximum(np.prod(box[2:] - box[:2]) + areas - shared, 1e-9)
