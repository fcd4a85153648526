"""The last step of a frame's masks, in one pass over its pixels.

Everything before is worked out at low resolution; here it is brought to the picture's, put on the picture's own edges
and rounded. As array operations this would move some fifty megabytes through memory for every frame.
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel, warms_up

_EDGE_GAIN = 1.04  # stretches the filtered alpha a little, so that inside is fully in and outside fully out
_NOBODY, _SOMEBODY = np.float32(0.003), np.float32(0.997)  # alpha that rounds to none, or to all, of 255 levels


def finish_masks(
    rgb: np.ndarray, coefficients: np.ndarray, lowest: np.ndarray, highest: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Region masks uint8 [S, S, 4] of a picture; rounding down keeps the sum of the channels within 255.

    Args:
        rgb: uint8 [S, S, 3].
        coefficients: float32 [h, w, 4]; slopes by red, green, blue in 0..1 and offset that give the person's alpha.
        lowest, highest: float32 [h, w]; alpha stays between them.
        shares: float32 [h', w', 4]; what part of the person belongs to each region.
    """
    size = rgb.shape[0]
    bounds = np.stack([lowest, highest], axis=-1)
    masks = np.empty((size, size, 4), np.uint8)
    _finish(
        np.ascontiguousarray(rgb),
        np.ascontiguousarray(coefficients),
        bounds,
        np.ascontiguousarray(shares),
        *_grid(size, coefficients.shape[0]),
        *_grid(size, shares.shape[0]),
        masks,
    )
    return masks


def _grid(size: int, source: int) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear sampling of `size` pixels from `source`: left neighbours and weights of the right ones."""
    place = np.clip((np.arange(size) + 0.5) * (source / size) - 0.5, 0, source - 1)
    left = np.minimum(place.astype(np.int64), max(source - 2, 0))
    return left, (place - left).astype(np.float32)


@helper()
def _mix_rows(image, y, weight, out):
    """Row between rows y and y + 1 of [h, w, C]."""
    below = min(y + 1, image.shape[0] - 1)
    for x in range(image.shape[1]):
        for c in range(image.shape[2]):
            out[x, c] = image[y, x, c] + weight * (image[below, x, c] - image[y, x, c])


@kernel(fastmath=True)
def _finish(rgb, coefficients, bounds, shares, low, low_weight, high, high_weight, masks):
    size = rgb.shape[0]
    scale = np.float32(1 / 255.0)
    slope_row = np.empty((coefficients.shape[1], 4), np.float32)
    bound_row = np.empty((bounds.shape[1], 2), np.float32)
    share_row = np.empty((shares.shape[1], 4), np.float32)
    for y in range(size):
        _mix_rows(coefficients, low[y], low_weight[y], slope_row)
        _mix_rows(bounds, low[y], low_weight[y], bound_row)
        _mix_rows(shares, high[y], high_weight[y], share_row)
        for x in range(size):
            i, t = low[x], low_weight[x]
            j = min(i + 1, slope_row.shape[0] - 1)
            least = bound_row[i, 0] + t * (bound_row[j, 0] - bound_row[i, 0])
            most = bound_row[i, 1] + t * (bound_row[j, 1] - bound_row[i, 1])
            if most < _NOBODY:
                masks[y, x, 0] = masks[y, x, 1] = masks[y, x, 2] = masks[y, x, 3] = 0
                continue
            alpha = np.float32(1.0)
            if least < _SOMEBODY:
                alpha = slope_row[i, 3] + t * (slope_row[j, 3] - slope_row[i, 3])
                for c in range(3):
                    alpha += (slope_row[i, c] + t * (slope_row[j, c] - slope_row[i, c])) * (scale * rgb[y, x, c])
                alpha = np.float32(_EDGE_GAIN) * alpha - np.float32((_EDGE_GAIN - 1) / 2)
                alpha = min(max(alpha, least, np.float32(0.0)), most, np.float32(1.0))
            alpha *= np.float32(255.0)
            i, t = high[x], high_weight[x]
            j = min(i + 1, share_row.shape[0] - 1)
            for c in range(4):
                masks[y, x, c] = np.uint8(alpha * (share_row[i, c] + t * (share_row[j, c] - share_row[i, c])))


@warms_up
def _mask_nothing() -> None:
    """The masks of a picture of sixteen pixels."""
    flat = np.ones((8, 8), np.float32)
    four = np.ones((8, 8, 4), np.float32)
    finish_masks(np.zeros((16, 16, 3), np.uint8), four, flat, flat, four)
