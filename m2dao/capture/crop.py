"""Finds the one square that shows head and shoulders through a whole recording."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from m2dao.errors import CaptureRejected

# In heights of the tracked face (hairline to chin). Room for hair above, neck and shoulders below.
SIDE_PER_FACE = 2.4
CENTRE_DOWN = 0.06  # the face sits a little above the middle of the square
MIN_ROOM = 0.05  # of the square's side, kept around the face in every frame as far as the picture reaches
EXTREME_PERCENT = 0.5  # frames at either end that may be tracking errors


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A fixed square of the shown picture, in its pixels, and the size it is stored at."""

    x: float  # left edge
    y: float  # top edge
    side: float
    size: int  # px of the stored frames
    source_width: int
    source_height: int

    @property
    def scale(self) -> float:
        """Stored pixels per source pixel; above 1 the picture was enlarged."""
        return self.size / self.side

    def as_dict(self) -> dict:
        return asdict(self)

    def landmarks(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks [..., 3] in source px as float32 in px of the crop; z is scaled alike."""
        moved = np.asarray(landmarks, np.float64) - np.array([self.x, self.y, 0.0])
        return (moved * self.scale).astype(np.float32)

    def decode_side(self) -> int | None:
        """Longest side to decode at so that the crop keeps half as much detail again as it is stored with."""
        wanted = 1.5 * self.scale
        return None if wanted >= 1 else int(np.ceil(max(self.source_width, self.source_height) * wanted))

    def cut(self, rgb: np.ndarray) -> np.ndarray:
        """The square of `rgb` uint8 [H, W, 3], a whole frame at any scale, as uint8 [size, size, 3]."""
        ratio = rgb.shape[1] / self.source_width
        x0, y0, side = self.x * ratio, self.y * ratio, self.side * ratio
        if abs(side - round(side)) < 1e-6 and abs(x0 - round(x0)) < 1e-6 and abs(y0 - round(y0)) < 1e-6:
            x0, y0, side = round(x0), round(y0), round(side)
            square = rgb[y0 : y0 + side, x0 : x0 + side]
            if side == self.size:
                return np.ascontiguousarray(square)
            how = cv2.INTER_AREA if side > self.size else cv2.INTER_CUBIC
            return cv2.resize(square, (self.size, self.size), interpolation=how)
        # the edges fall between pixels: the whole frame is scaled by area first, then sampled at the exact place
        shrink = side / self.size
        if shrink > 1.0:
            target = (round(rgb.shape[1] / shrink), round(rgb.shape[0] / shrink))
            x0, y0 = x0 * target[0] / rgb.shape[1], y0 * target[1] / rgb.shape[0]
            side = side * target[0] / rgb.shape[1]
            rgb = cv2.resize(rgb, target, interpolation=cv2.INTER_AREA)
        step = side / self.size
        matrix = np.array([[step, 0, x0 + 0.5 * step - 0.5], [0, step, y0 + 0.5 * step - 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(rgb, matrix, (self.size, self.size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def choose_crop(landmarks: np.ndarray, valid: np.ndarray, *, width: int, height: int, size: int) -> Crop:
    """Choose the square for a recording.

    It lies inside the picture, holds the face in every frame, and shows head and shoulders as far as the picture does.

    Args:
        landmarks: float [T, 478, 3] px of the shown picture, `width` x `height`.
        valid: bool [T], frames with a face.
        size: px of the stored frames.

    Raises:
        CaptureRejected: the face moves over more of the picture than a square inside it can hold.
    """
    faces = landmarks[valid][:, :, :2]
    low, high = faces.min(1), faces.max(1)  # [t, 2]
    left, top = np.percentile(low, EXTREME_PERCENT, axis=0)
    right, bottom = np.percentile(high, 100 - EXTREME_PERCENT, axis=0)
    face_height = float(np.median(high[:, 1] - low[:, 1]))
    needed = max(min(right, width) - max(left, 0), min(bottom, height) - max(top, 0))
    limit = min(width, height)
    if needed > limit:
        raise CaptureRejected(
            "framing",
            f"a face that stays within a square of {limit} px, the largest inside the picture",
            f"one that moves over {needed:.0f} px",
            "sit still in front of the camera, or cut the recording where you move",
        )
    side = min(max(SIDE_PER_FACE * face_height, needed / (1 - 2 * MIN_ROOM)), limit)
    side = float(int(side) // 2 * 2) if side >= 2 else side
    centre_x = (left + right) / 2
    centre_y = (top + bottom) / 2 + CENTRE_DOWN * side
    # the face comes first: never let the downward shift cut it off
    centre_y = min(max(centre_y, bottom - side / 2), top + side / 2)
    x = float(round(min(max(centre_x - side / 2, 0), width - side)))
    y = float(round(min(max(centre_y - side / 2, 0), height - side)))
    return Crop(x=x, y=y, side=side, size=size, source_width=width, source_height=height)
