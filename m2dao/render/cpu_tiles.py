"""Numba helpers of the ``cpu`` rasteriser: a tile's scratch memory, filled and written back.

All quantities of a tile lie in one float32 array: EXP2_TABLE, then one plane of TILE_HEIGHT rows after the other. A row
has 8 columns more than the tile: there the last 8 lanes of a row may run over the edge; nothing is ever visible there.

Planes, forward: transmittance, with a minus sign once a pixel is finished; list position behind the last contribution;
D planes of colours. Backward: transmittance; list position; what lies behind, times its gradient; D planes of colour
gradients.

Letters: H and W the image, D channels. Images are flat: float32 [H * W] or [H * W * D].
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper
from m2dao.kernels.simd import EXP2_TABLE, LANES, get, put
from m2dao.render.cpu_bins import TILE_HEIGHT, TILE_WIDTH

STRIDE = TILE_WIDTH + LANES  # from row to row of a plane
PLANE = TILE_HEIGHT * STRIDE
TABLE = 0
PLANES = len(EXP2_TABLE)
TRANSMITTANCE, LAST, COLOR = PLANES, PLANES + PLANE, PLANES + 2 * PLANE
BEHIND, V_COLOR = COLOR, COLOR + PLANE


@helper(inline="always")
def tile_box(tile, width, height):
    """Top row, left column and size of a tile, cut at the image's border."""
    num_tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    top, left = tile // num_tiles_x * TILE_HEIGHT, tile % num_tiles_x * TILE_WIDTH
    return top, left, min(TILE_HEIGHT, height - top), min(TILE_WIDTH, width - left)


@helper(nogil=True)  # the roofline calls it
def new_scratch(num_planes):
    """Uninitialised planes behind the table."""
    scratch = np.empty(PLANES + num_planes * PLANE, np.float32)
    for index in range(PLANES):
        scratch[index] = EXP2_TABLE[index]
    return scratch


@helper()
def write_tile(scratch, top, left, num_rows, num_columns, width, background, colors, alphas, transmittances, lasts):
    """From the scratch planes to the image, over the background [D]."""
    num_channels = background.shape[0]
    for row in range(num_rows):
        first = (top + row) * width + left
        for column in range(num_columns):
            pixel = row * STRIDE + column
            transmittance = abs(get(scratch, TRANSMITTANCE + pixel))
            put(transmittances, first + column, transmittance)
            put(alphas, first + column, np.float32(1.0) - transmittance)
            put(lasts, first + column, get(scratch, LAST + pixel))
            target = (first + column) * num_channels
            for k in range(num_channels):
                value = get(scratch, COLOR + k * PLANE + pixel) + transmittance * get(background, k)
                put(colors, target + k, value)


@helper()
def write_empty_tile(top, left, num_rows, num_columns, width, background, colors, alphas, transmittances, lasts):
    """Nothing but background."""
    num_channels = background.shape[0]
    for row in range(num_rows):
        first = (top + row) * width + left
        for column in range(num_columns):
            put(transmittances, first + column, 1.0)
            put(alphas, first + column, 0.0)
            put(lasts, first + column, 0.0)
            target = (first + column) * num_channels
            for k in range(num_channels):
                put(colors, target + k, get(background, k))


@helper()
def read_tile(scratch, top, left, num_rows, num_columns, width, background, transmittances, lasts, v_colors, v_alphas):
    """Prepares the scratch planes for going back to front; returns how many of the tile's pairs were used."""
    scratch[PLANES:] = 0.0
    num_channels = background.shape[0]
    num_used = np.float32(0.0)
    for row in range(num_rows):
        first = (top + row) * width + left
        for column in range(num_columns):
            pixel = row * STRIDE + column
            transmittance = get(transmittances, first + column)
            last = get(lasts, first + column)
            num_used = max(num_used, last)
            behind = -get(v_alphas, first + column)
            source = (first + column) * num_channels
            for k in range(num_channels):
                v_color = get(v_colors, source + k)
                put(scratch, V_COLOR + k * PLANE + pixel, v_color)
                behind += get(background, k) * v_color
            put(scratch, TRANSMITTANCE + pixel, transmittance)
            put(scratch, BEHIND + pixel, transmittance * behind)
            put(scratch, LAST + pixel, last)
    return int(num_used)
