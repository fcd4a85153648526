"""The person's alpha: a segmentation network whose edge is moved to the picture's."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np

from m2dao.assets import asset_path
from m2dao.errors import needs_extra

MATTE_SIDE = 256  # of the network, and of everything that is worked out at low resolution


class PersonSegmenter:
    """The person's coarse alpha in a picture (MediaPipe selfie segmentation, Apache-2.0 model file).

    Args:
        model_path: the .tflite file; fetched when not given.
        num_threads: of the network.
    """

    def __init__(self, model_path: Path | None = None, *, num_threads: int = 1):
        # Imported here so that everything else in this file works without the network's runtime.
        with needs_extra("fit"):
            from ai_edge_litert.interpreter import Interpreter

        path = model_path or asset_path("selfie_segmentation")
        self._interpreter = Interpreter(str(path), num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, small: np.ndarray) -> np.ndarray:
        """Alpha, float32 [256, 256] in 0..1, of a picture ``small``, float32 [256, 256, 3] in 0..1."""
        self._interpreter.set_tensor(self._input, small[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0, ..., 0].copy()


class GuidedFilter:
    """Filters images so that their edges follow those of one colour guide.

    Guided filter with a colour guide (He, Sun and Tang 2013, section 3.4), its coefficients worked out at low
    resolution and applied to the guide at full resolution (He and Sun 2015).

    Args:
        guide: float32 [h, w, 3], 0..1, low resolution.
        radius: half the side of the window, in pixels of ``guide``.
        epsilon: contrast (variance of a colour) below which an edge of the guide is noise.
    """

    def __init__(self, guide: np.ndarray, radius: int, epsilon: float):
        self._window = (2 * radius + 1, 2 * radius + 1)
        self._guide = guide
        self._mean = self._box(guide)
        r, g, b = cv2.split(guide)
        products = self._box(cv2.merge([r * r, g * g, b * b])), self._box(cv2.merge([r * g, r * b, g * b]))
        mr, mg, mb = cv2.split(self._mean)
        rr, gg, bb = (p + epsilon for p in cv2.split(products[0]))
        rg, rb, gb = cv2.split(products[1])
        rr, gg, bb = rr - mr * mr, gg - mg * mg, bb - mb * mb
        rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
        # Inverse of the symmetric 3x3 covariance of every window, by cofactors.
        inverse = [
            gg * bb - gb * gb,
            rb * gb - rg * bb,
            rg * gb - rb * gg,
            rr * bb - rb * rb,
            rg * rb - rr * gb,
            rr * gg - rg * rg,
        ]
        determinant = rr * inverse[0] + rg * inverse[1] + rb * inverse[2]
        self._inverse = [part / determinant for part in inverse]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The filtered ``image``, float32 [h, w]."""
        coefficients = self.coefficients(image)
        return _dot(coefficients[..., :3], self._guide) + coefficients[..., 3]

    def within(self, rows: slice, columns: slice) -> GuidedFilter:
        """The same filter for a part of the picture.

        Within two windows of the part's border it sees less than the whole would.
        """
        part = copy.copy(self)
        part._guide, part._mean = self._guide[rows, columns], self._mean[rows, columns]
        part._inverse = [image[rows, columns] for image in self._inverse]
        return part

    def coefficients(self, image: np.ndarray) -> np.ndarray:
        """Slopes by the guide's channels and offset of the filtered ``image``: float32 [h, w, 4]."""
        mean = self._box(image)
        covariance = self._box(self._guide * image[..., None]) - self._mean * mean[..., None]
        cr, cg, cb = cv2.split(covariance)
        i_rr, i_rg, i_rb, i_gg, i_gb, i_bb = self._inverse
        slope = cv2.merge(
            [i_rr * cr + i_rg * cg + i_rb * cb, i_rg * cr + i_gg * cg + i_gb * cb, i_rb * cr + i_gb * cg + i_bb * cb]
        )
        offset = mean - _dot(slope, self._mean)
        return self._box(cv2.merge([*cv2.split(slope), offset]))

    def _box(self, image: np.ndarray) -> np.ndarray:
        return cv2.blur(image, self._window, borderType=cv2.BORDER_REFLECT)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of products over the three channels."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
