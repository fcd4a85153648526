"""How stored pictures become shown ones: pixel shape, the eight orientations, one size for all."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.buffer import Buffer

COLORSPACE_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
COLORSPACE_BT709 = 1  # AVCOL_SPC_BT709
HD_HEIGHT = 720  # from here on an untagged picture is taken as BT.709, as players do
_IDENTITY = (1, 0, 0, 1)


@dataclass(frozen=True)
class Geometry:
    """One for a whole video, whatever sizes its pictures have.

    Attributes:
        stored: width and height of the largest stored picture.
        square: the same with square pixels, before it is turned.
        matrix: a, b, c, d of the display matrix, each -1, 0 or 1: x' = a x + c y, y' = b x + d y.
    """

    stored: tuple[int, int]
    square: tuple[int, int]
    matrix: tuple[int, int, int, int] = _IDENTITY

    @classmethod
    def of(cls, stream: av.VideoStream, frame: av.VideoFrame, sizes: set[tuple[int, int]] | None = None) -> Geometry:
        """From the first decoded picture, and sizes that later ones announce."""
        aspect = stream.sample_aspect_ratio
        aspect = Fraction(aspect) if aspect and Fraction(1, 4) < aspect < 4 else Fraction(1)
        width, height = max({(frame.width, frame.height), *(sizes or ())}, key=lambda size: size[0] * size[1])
        square = (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
        return cls((width, height), square, _matrix_of(frame))

    @property
    def mirrored(self) -> bool:
        a, b, c, d = self.matrix
        return a * d - b * c < 0

    @property
    def clockwise_deg(self) -> int:
        """The turn that brings the stored picture upright, after a mirror left to right if any."""
        a, b, _, _ = self.matrix
        sign = -1 if self.mirrored else 1
        return round(math.degrees(math.atan2(sign * b, sign * a)) / 90) * 90 % 360

    @property
    def _is_turned(self) -> bool:
        return self.matrix[0] == 0

    @property
    def shown(self) -> tuple[int, int]:
        return self.square[::-1] if self._is_turned else self.square

    def target(self, max_side: int | None) -> tuple[int, int]:
        """Width and height before turning, with no side longer than `max_side`."""
        width, height = self.square
        if max_side is not None and max(width, height) > max_side:
            scale = max_side / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        return width, height

    def fitted(self, frame: av.VideoFrame, target: tuple[int, int]) -> tuple[int, int]:
        """Width and height that a picture gets in `target` so that it keeps its shape."""
        if (frame.width, frame.height) == self.stored:
            return target
        aspect = Fraction(self.square[0], self.stored[0]) / Fraction(self.square[1], self.stored[1])
        scale = min(Fraction(target[0]) / (frame.width * aspect), Fraction(target[1], frame.height))
        return max(1, round(frame.width * aspect * scale)), max(1, round(frame.height * scale))

    def turned(self, rgb: np.ndarray, target: tuple[int, int]) -> np.ndarray:
        """uint8 [H, W, 3] upright, with black beside a picture of another shape."""
        width, height = target
        if rgb.shape[:2] != (height, width):
            top, left = (height - rgb.shape[0]) // 2, (width - rgb.shape[1]) // 2
            whole = np.zeros((height, width, 3), np.uint8)
            whole[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb
            rgb = whole
        a, b, c, d = self.matrix
        if self._is_turned:
            rgb = rgb.transpose(1, 0, 2)
            flip_x, flip_y = c < 0, b < 0
        else:
            flip_x, flip_y = a < 0, d < 0
        return np.ascontiguousarray(rgb[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def plain_rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] of a picture of standard dynamic range, resized."""
    # untagged high-definition video is BT.709; the converter itself would take it as BT.601
    untagged = frame.colorspace == COLORSPACE_UNSPECIFIED and frame.height >= HD_HEIGHT
    converted = frame.reformat(
        width=size[0],
        height=size[1],
        format="rgb24",
        src_colorspace=COLORSPACE_BT709 if untagged else None,
        interpolation="AREA" if size != (frame.width, frame.height) else None,
    )
    return converted.to_ndarray()


def _matrix_of(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix, to the nearest quarter turn."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(found, Buffer):
        return _IDENTITY
    a, b, _, c, d = struct.unpack("=9i", bytes(found)[:36])[:5]
    if not a * d - b * c:
        return _IDENTITY
    if abs(a) >= abs(b):
        return (1 if a > 0 else -1), 0, 0, (1 if d > 0 else -1)
    return 0, (1 if b > 0 else -1), (1 if c > 0 else -1), 0
