"""Numba kernel that puts a rendered picture over its background, in the bytes that leave the engine."""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import kernel, warms_up
from m2dao.kernels.simd import fetch_add

ROWS = 32  # of one piece of work


@kernel()
def put_over(
    queue,  # int64 [1] next piece of rows
    colors,  # float32 [H, W, >= 3] premultiplied
    alphas,  # float32 [H, W, 1]
    background,  # [H, W, 3] 0..255, bytes or floats
    out,  # out uint8 [H, W, 3]
):
    """Rounds to nearest and cuts off what does not fit into a byte."""
    height, width = out.shape[0], out.shape[1]
    full, half = np.float32(255.0), np.float32(0.5)
    while True:
        first = fetch_add(queue, 1) * ROWS
        if first >= height:
            break
        for row in range(first, min(first + ROWS, height)):
            for column in range(width):
                through = np.float32(1.0) - alphas[row, column, 0]
                for k in range(3):
                    value = full * colors[row, column, k] + through * np.float32(background[row, column, k])
                    out[row, column, k] = np.uint8(min(max(value, np.float32(0.0)), full) + half)


@warms_up
def _finish_nothing() -> None:
    """A picture and a colour lie differently in memory: a signature for each."""
    colors, alphas = np.zeros((16, 16, 4), np.float32), np.zeros((16, 16, 1), np.float32)
    picture = np.zeros((16, 16, 3), np.uint8)
    for background in (picture, np.broadcast_to(picture[0, 0], (16, 16, 3))):
        put_over(np.zeros(1, np.int64), colors, alphas, background, np.empty_like(picture))
