"""Numba kernels of the ``cpu`` backend: which Gaussians touch which tile, front to back.

Gaussians are sorted once by depth and then dealt out to the tiles in that order, so every tile's list comes out
sorted: no sort over (tile, depth) pairs is needed.

Letters: N Gaussians; V of them drawn, numbered by *rank* (0 is nearest); T tiles; P pairs of a tile and a Gaussian.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

TILE = 16  # px, both sides; a multiple of simd.LANES
NUM_CHUNKS = 16  # of ranks, dealt out in parallel; the result does not depend on it
RECORD_MEAN_X, RECORD_MEAN_Y, RECORD_XX, RECORD_XY, RECORD_YY, RECORD_LOG_OPACITY, RECORD_COLOR = range(7)
PIXEL_SLACK = 1e-3  # px by which boxes are widened, so that rounding never loses a visible pixel
LOG2_E = math.log2(math.e)
RADIX_BITS = 11
RADIX = 1 << RADIX_BITS


@njit(cache=True, nogil=True)
def sort_by_depth(depths, radii):
    """Ids int32 [V] of the drawn Gaussians, nearest first, ties by id.

    ``depths`` float32 [N] are positive, so their bit patterns sort like the numbers: three stable counting passes.
    """
    num_gaussians = depths.shape[0]
    keys = np.empty(num_gaussians, np.uint32)
    ids = np.empty(num_gaussians, np.int32)
    bits = depths.view(np.uint32)
    histogram = np.zeros((3, RADIX), np.int32)
    num_drawn = 0
    for i in range(num_gaussians):
        if radii[i] > 0:
            key = bits[i]
            keys[num_drawn] = key
            ids[num_drawn] = i
            num_drawn += 1
            histogram[0, key & np.uint32(RADIX - 1)] += 1
            histogram[1, (key >> np.uint32(RADIX_BITS)) & np.uint32(RADIX - 1)] += 1
            histogram[2, key >> np.uint32(2 * RADIX_BITS)] += 1
    other_keys = np.empty(num_drawn, np.uint32)
    other_ids = np.empty(num_drawn, np.int32)
    for digit in range(3):
        shift = np.uint32(digit * RADIX_BITS)
        counts = histogram[digit]
        position = 0
        for value in range(RADIX):
            count = counts[value]
            counts[value] = position
            position += count
        for j in range(num_drawn):
            value = (keys[j] >> shift) & np.uint32(RADIX - 1)
            target = counts[value]
            counts[value] = target + 1
            other_keys[target] = keys[j]
            other_ids[target] = ids[j]
        keys, other_keys = other_keys, keys
        ids, other_ids = other_ids, ids
    return ids[:num_drawn]


@njit(cache=True, nogil=True, parallel=True)
def make_records(ids, means2d, conics, extents, opacities, colors, width, height):
    """Everything the rasteriser needs of each drawn Gaussian, in order of rank.

    Returns:
        records: float32 [V * R], R = 6 + max(D, 4): projected mean, the quadratic form of -log2(alpha / opacity),
            log2(opacity), colours (filled up with zeros).
        boxes: int32 [V, 4] first and past-the-last column, first and past-the-last row of visible pixels.
    """
    num_drawn = ids.shape[0]
    num_channels = colors.shape[1]
    stride = RECORD_COLOR + max(num_channels, 4)
    records = np.zeros(num_drawn * stride, np.float32)
    boxes = np.zeros((num_drawn, 4), np.int32)
    for chunk in prange(NUM_CHUNKS):
        for rank in range(chunk * num_drawn // NUM_CHUNKS, (chunk + 1) * num_drawn // NUM_CHUNKS):
            i = ids[rank]
            base = rank * stride
            mean_x, mean_y = means2d[i, 0], means2d[i, 1]
            records[base + RECORD_MEAN_X] = mean_x
            records[base + RECORD_MEAN_Y] = mean_y
            records[base + RECORD_XX] = 0.5 * LOG2_E * conics[i, 0]
            records[base + RECORD_XY] = LOG2_E * conics[i, 1]
            records[base + RECORD_YY] = 0.5 * LOG2_E * conics[i, 2]
            records[base + RECORD_LOG_OPACITY] = math.log2(opacities[i])
            finite = True
            for k in range(num_channels):
                value = colors[i, k]
                finite = finite and math.isfinite(value)
                records[base + RECORD_COLOR + k] = value
            if finite:  # else the box stays empty: not drawn
                boxes[rank, 0], boxes[rank, 1] = _pixel_range(mean_x, extents[i, 0], width)
                boxes[rank, 2], boxes[rank, 3] = _pixel_range(mean_y, extents[i, 1], height)
                if boxes[rank, 0] >= boxes[rank, 1] or boxes[rank, 2] >= boxes[rank, 3]:
                    boxes[rank, :] = 0
    return records, boxes


@njit(inline="always")
def _pixel_range(mean, extent, size):
    """First and past-the-last pixel whose centre lies within ``extent`` of ``mean``, inside the image."""
    first = math.ceil(max(mean - extent - PIXEL_SLACK - 0.5, 0.0))
    last = math.floor(min(mean + extent + PIXEL_SLACK - 0.5, size - 1.0))
    return int(min(first, float(size))), int(max(last, -1.0)) + 1


@njit(inline="always")
def _tile_range(first, past):
    return first // TILE, (past + TILE - 1) // TILE


@njit(cache=True, nogil=True, parallel=True)
def deal_out(boxes, num_tiles_x, num_tiles_y):
    """Fills the tiles' lists.

    Returns:
        tile_begins: int64 [T + 1] where each tile's part of the pairs begins.
        pair_ranks: int32 [P] ascending within a tile.
        pair_slots: int32 [P] where the pair's gradient goes; one Gaussian's slots are neighbours.
        slot_begins: int64 [V + 1] where each Gaussian's slots begin.
    """
    num_drawn = boxes.shape[0]
    num_tiles = num_tiles_x * num_tiles_y
    counts = np.zeros((NUM_CHUNKS, num_tiles), np.int64)
    for chunk in prange(NUM_CHUNKS):
        for rank in range(chunk * num_drawn // NUM_CHUNKS, (chunk + 1) * num_drawn // NUM_CHUNKS):
            left, right = _tile_range(boxes[rank, 0], boxes[rank, 1])
            top, bottom = _tile_range(boxes[rank, 2], boxes[rank, 3])
            for tile_y in range(top, bottom):
                for tile_x in range(left, right):
                    counts[chunk, tile_y * num_tiles_x + tile_x] += 1

    tile_begins = np.empty(num_tiles + 1, np.int64)
    position = 0
    for tile in range(num_tiles):
        tile_begins[tile] = position
        for chunk in range(NUM_CHUNKS):
            count = counts[chunk, tile]
            counts[chunk, tile] = position
            position += count
    tile_begins[num_tiles] = position

    slot_begins = np.empty(num_drawn + 1, np.int64)
    slot = 0
    for rank in range(num_drawn):
        slot_begins[rank] = slot
        left, right = _tile_range(boxes[rank, 0], boxes[rank, 1])
        top, bottom = _tile_range(boxes[rank, 2], boxes[rank, 3])
        slot += (right - left) * (bottom - top)
    slot_begins[num_drawn] = slot

    pair_ranks = np.empty(position, np.int32)
    pair_slots = np.empty(position, np.int32)
    for chunk in prange(NUM_CHUNKS):
        for rank in range(chunk * num_drawn // NUM_CHUNKS, (chunk + 1) * num_drawn // NUM_CHUNKS):
            left, right = _tile_range(boxes[rank, 0], boxes[rank, 1])
            top, bottom = _tile_range(boxes[rank, 2], boxes[rank, 3])
            next_slot = slot_begins[rank]
            for tile_y in range(top, bottom):
                for tile_x in range(left, right):
                    tile = tile_y * num_tiles_x + tile_x
                    pair = counts[chunk, tile]
                    counts[chunk, tile] = pair + 1
                    pair_ranks[pair] = rank
                    pair_slots[pair] = next_slot
                    next_slot += 1
    return tile_begins, pair_ranks, pair_slots, slot_begins
