"""Positions relative to the face: a similarity frame on the eyes, and soft polygons."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from m2dao.capture.faces.rigid_shape import OUTER_EYE_CORNERS

_SHIFT_BITS = 4  # sub-pixel vertices of cv2.fillPoly
_OVERSAMPLING = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadFrame:
    """u right along the eyes, v down the face, origin between the eyes, unit: outer eye distance."""

    origin_px: np.ndarray  # [2]
    right: np.ndarray  # [2], unit vector of u
    unit_px: float

    @classmethod
    def of(cls, landmarks: np.ndarray) -> HeadFrame:
        """The frame of ``landmarks`` [478, 2 or 3] in pixels."""
        first, second = (landmarks[i, :2].astype(np.float64) for i in OUTER_EYE_CORNERS)
        across = second - first
        unit = max(float(np.linalg.norm(across)), 1.0)
        return cls(origin_px=(first + second) / 2, right=across / unit, unit_px=unit)

    @property
    def down(self) -> np.ndarray:
        """[2], unit vector of v."""
        return np.array([-self.right[1], self.right[0]])

    def coordinates(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """u and v, float32 [height, width], at the pixel centres."""
        # Python floats: numpy ones would turn the whole image into double precision.
        (left, top), (rx, ry), (dx, dy) = (vector.tolist() for vector in (self.origin_px, self.right, self.down))
        x = (np.arange(width, dtype=np.float32) + (0.5 - left)) / self.unit_px
        y = ((np.arange(height, dtype=np.float32) + (0.5 - top)) / self.unit_px)[:, None]
        return x * rx + y * ry, x * dx + y * dy

    def to_frame(self, pixels: np.ndarray) -> np.ndarray:
        """(u, v) [N, 2] of ``pixels`` [N, 2]."""
        offset = (pixels - self.origin_px) / self.unit_px
        return np.stack([offset @ self.right, offset @ self.down], axis=-1)

    def to_pixels(self, uv: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of ``uv`` [N, 2]."""
        return self.origin_px + self.unit_px * (uv[:, :1] * self.right + uv[:, 1:] * self.down)


def soft_polygon(polygon: np.ndarray, height: int, width: int, sigma_px: float) -> np.ndarray:
    """A filled polygon with a soft edge: float32 [height, width] in 0..1.

    Args:
        polygon: [P, 2] pixels (centres at +0.5).
        sigma_px: of the Gaussian that softens the edge; the edge stays where it was.
    """
    mask = np.zeros((height, width), dtype=np.float32)
    margin = int(4 * sigma_px) + 2
    low = np.maximum(np.floor(polygon.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(polygon.max(axis=0)).astype(int) + margin, [width, height])
    if (high <= low).any():
        return mask
    # Drawn larger and averaged down: OpenCV counts every touched pixel in, which would grow small shapes visibly.
    width_px, height_px = (high - low).tolist()
    part = np.zeros((height_px * _OVERSAMPLING, width_px * _OVERSAMPLING), dtype=np.uint8)
    vertices = np.round(((polygon - low) * _OVERSAMPLING - 0.5) * 2**_SHIFT_BITS).astype(np.int32).reshape(-1, 1, 2)
    cv2.fillPoly(part, [vertices], 255, cv2.LINE_8, _SHIFT_BITS)
    small = cv2.resize(part, (width_px, height_px), interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    soft = cv2.GaussianBlur(small, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE)
    mask[low[1] : high[1], low[0] : high[0]] = soft
    return mask
