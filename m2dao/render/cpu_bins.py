"""Numba kernels of the ``cpu`` backend: which Gaussians touch which tile, front to back.

Gaussians are sorted once by depth and then dealt out to the tiles in that order, so every tile's list comes out
sorted: no sort over (tile, depth) pairs is needed. Both kernels are short enough for one thread.

Letters: N Gaussians; V of them drawn; T tiles; P pairs of a tile and a Gaussian.
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel

TILE_WIDTH = 32  # px
TILE_HEIGHT = 16  # px
RADIX_BITS = 11
RADIX = 1 << RADIX_BITS


@kernel()
def sort_by_depth(depths, boxes):
    """Ids int32 [V] of the Gaussians with visible pixels, nearest first, ties by id.

    ``depths`` float32 [N] are positive, so their bit patterns sort like the numbers: three stable counting passes.
    """
    num_gaussians = depths.shape[0]
    keys = np.empty(num_gaussians, np.uint32)
    ids = np.empty(num_gaussians, np.int32)
    bits = depths.view(np.uint32)
    histogram = np.zeros((3, RADIX), np.int32)
    num_drawn = 0
    for i in range(num_gaussians):
        if boxes[i, 1] > 0:
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


@helper(inline="always")
def _tiles_of(box):
    """First and past-the-last tile column, first and past-the-last tile row."""
    return (
        box[0] // TILE_WIDTH,
        (box[1] + TILE_WIDTH - 1) // TILE_WIDTH,
        box[2] // TILE_HEIGHT,
        (box[3] + TILE_HEIGHT - 1) // TILE_HEIGHT,
    )


@kernel()
def deal_out(ids, boxes, num_tiles_x, num_tiles_y):
    """Fills the tiles' lists.

    Args:
        ids: int32 [V] from ``sort_by_depth``.
        boxes: int32 [N, 4] visible pixels, empty where not drawn.

    Returns:
        tile_begins: int64 [T + 1] where each tile's part of the pairs begins.
        pair_ids: int32 [P] Gaussians, front to back within a tile.
        pair_slots: int32 [P] where the pair's gradient goes; one Gaussian's slots are neighbours.
        slot_begins: int64 [N + 1] where each Gaussian's slots begin.
    """
    num_gaussians = boxes.shape[0]
    num_tiles = num_tiles_x * num_tiles_y
    counts = np.zeros(num_tiles, np.int64)
    slot_begins = np.empty(num_gaussians + 1, np.int64)
    num_pairs = 0
    for i in range(num_gaussians):
        slot_begins[i] = num_pairs
        left, right, top, bottom = _tiles_of(boxes[i])
        for tile_y in range(top, bottom):
            for tile_x in range(left, right):
                counts[tile_y * num_tiles_x + tile_x] += 1
                num_pairs += 1
    slot_begins[num_gaussians] = num_pairs

    tile_begins = np.empty(num_tiles + 1, np.int64)
    next_pairs = counts
    begin = 0
    for tile in range(num_tiles):
        count = counts[tile]
        tile_begins[tile] = next_pairs[tile] = begin
        begin += count
    tile_begins[num_tiles] = begin

    pair_ids = np.empty(num_pairs, np.int32)
    pair_slots = np.empty(num_pairs, np.int32)
    for rank in range(ids.shape[0]):
        i = ids[rank]
        left, right, top, bottom = _tiles_of(boxes[i])
        slot = slot_begins[i]
        for tile_y in range(top, bottom):
            for tile_x in range(left, right):
                tile = tile_y * num_tiles_x + tile_x
                pair = next_pairs[tile]
                next_pairs[tile] = pair + 1
                pair_ids[pair] = i
                pair_slots[pair] = slot
                slot += 1
    return tile_begins, pair_ids, pair_slots, slot_begins
