"""Numba kernels of the ``cpu`` backend: tiles to pixels, and the way back for gradients.

Each tile belongs to one thread from begin to end and writes only its own pixels and its own gradient slots, so the
result does not depend on which thread took which tile. Tiles are taken from a queue, the fullest first.

Inside a tile, a Gaussian is evaluated in blocks of 8 columns, row by row, 8 pixels at once (see ``simd``). All
quantities of a tile lie in one scratch array, one plane of TILE x TILE floats after the other. Four channels are held
in registers; any further ones cost a loop.

Letters: H and W the image, D channels, R the length of a record (see ``cpu_bins.make_records``), P pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from m2dao.render import simd
from m2dao.render.cpu_bins import (
    LOG2_E,
    RECORD_COLOR,
    RECORD_LOG_OPACITY,
    RECORD_MEAN_X,
    RECORD_MEAN_Y,
    RECORD_XX,
    RECORD_XY,
    RECORD_YY,
    TILE,
)
from m2dao.render.reference import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from m2dao.render.simd import (
    LANES,
    any_gt8,
    divide8,
    exp2_8,
    fetch_add,
    lane_numbers8,
    load8,
    maximum8,
    minimum8,
    splat8,
    store8,
    sum8,
    where_ge8,
    where_gt8,
)

PLANE = TILE * TILE
LOG2_ALPHA_MIN = math.log2(ALPHA_MIN)
FINISHED_CHECK = 32  # Gaussians between two looks at whether a whole tile is finished
GRAD_MEAN_X, GRAD_MEAN_Y, GRAD_XX, GRAD_XY, GRAD_YY, GRAD_OPACITY, GRAD_COLOR = range(7)
# Planes of the scratch array. Forward: transmittance, with a minus sign once a pixel is finished; list position behind
# the last contribution; D planes of colours. Backward: transmittance; list position; what lies behind, times its
# gradient; D planes of colour gradients.
TRANSMITTANCE, LAST, COLOR, BEHIND, V_COLOR = 0, 1, 2, 2, 3


def _build(simd_digest):
    """Compiles lazily; Numba's disk cache knows a kernel by its own file and its closure, hence the digest."""

    @njit(cache=True, nogil=True, parallel=True)
    def forward(
        tile_begins, tile_order, pair_ranks, records, boxes, stride, background, num_workers,
        colors,  # out float32 [H, W, D]
        alphas,  # out float32 [H, W]
        transmittances,  # out float32 [H, W]
        lasts,  # out int32 [H, W] list position after each pixel's last contribution
    ):  # fmt: skip
        simd_digest  # noqa: B018
        num_planes = COLOR + max(colors.shape[2], 4)
        queue = np.zeros(1, np.int64)
        for _ in prange(num_workers):
            planes = np.empty(num_planes * PLANE, np.float32)
            while True:
                number = fetch_add(queue, 1)
                if number >= tile_order.shape[0]:
                    break
                tile = tile_order[number]
                begin, end = tile_begins[tile], tile_begins[tile + 1]
                top, left, num_rows, num_columns = _tile_box(tile, colors.shape[0], colors.shape[1])
                planes[:] = 0.0
                for row in range(num_rows):
                    for column in range(num_columns):
                        planes[TRANSMITTANCE * PLANE + row * TILE + column] = 1.0
                _forward_tile(
                    planes, pair_ranks[begin:end], records, boxes, stride, top, left, num_rows, num_columns,
                    colors.shape[2],
                )  # fmt: skip
                _write_tile(
                    planes, top, left, num_rows, num_columns, background, colors, alphas, transmittances, lasts
                )

    @njit(cache=True, nogil=True, parallel=True)
    def backward(
        tile_begins, tile_order, pair_ranks, pair_slots, records, boxes, stride, background, num_workers,
        transmittances,  # float32 [H, W]
        lasts,  # int32 [H, W]
        v_colors,  # float32 [H, W, D]
        v_alphas,  # float32 [H, W]
        v_slots,  # out float32 [P, 6 + D]
    ):  # fmt: skip
        simd_digest  # noqa: B018
        num_channels = max(v_colors.shape[2], 4)
        queue = np.zeros(1, np.int64)
        for _ in prange(num_workers):
            planes = np.empty((V_COLOR + num_channels) * PLANE, np.float32)
            sums = np.empty(num_channels * LANES, np.float32)
            while True:
                number = fetch_add(queue, 1)
                if number >= tile_order.shape[0]:
                    break
                tile = tile_order[number]
                begin, end = tile_begins[tile], tile_begins[tile + 1]
                top, left, num_rows, num_columns = _tile_box(tile, transmittances.shape[0], transmittances.shape[1])
                num_used = _read_tile(
                    planes, top, left, num_rows, num_columns, background, transmittances, lasts, v_colors, v_alphas
                )
                for pair in range(begin + num_used, end):
                    for k in range(v_slots.shape[1]):
                        v_slots[pair_slots[pair], k] = 0.0
                for position in range(num_used - 1, -1, -1):
                    pair = begin + position
                    rank = pair_ranks[pair]
                    _backward_pair(
                        planes, sums, position, records[rank * stride : (rank + 1) * stride], boxes[rank], top, left,
                        num_rows, num_columns, v_colors.shape[2], v_slots[pair_slots[pair]],
                    )  # fmt: skip

    return forward, backward


forward, backward = _build(simd.SOURCE_DIGEST)


@njit(inline="always")
def _tile_box(tile, height, width):
    """Top row, left column and size of a tile, cut at the image's border."""
    num_tiles_x = (width + TILE - 1) // TILE
    top, left = tile // num_tiles_x * TILE, tile % num_tiles_x * TILE
    return top, left, min(TILE, height - top), min(TILE, width - left)


@njit(nogil=True)
def _forward_tile(planes, ranks, records, boxes, stride, top, left, num_rows, num_columns, num_channels):
    """Blends a tile's Gaussians front to back."""
    limit, zero = splat8(TRANSMITTANCE_MIN), splat8(0.0)
    least, most = splat8(LOG2_ALPHA_MIN), splat8(ALPHA_MAX)
    for position in range(ranks.shape[0]):
        if position % FINISHED_CHECK == FINISHED_CHECK - 1 and _is_finished(planes):
            break
        rank = ranks[position]
        base = rank * stride
        mean_x, mean_y = records[base + RECORD_MEAN_X], records[base + RECORD_MEAN_Y]
        xx, xy = splat8(records[base + RECORD_XX]), splat8(records[base + RECORD_XY])
        yy = records[base + RECORD_YY]
        log_opacity = splat8(records[base + RECORD_LOG_OPACITY])
        red, green = splat8(records[base + RECORD_COLOR]), splat8(records[base + RECORD_COLOR + 1])
        blue, fourth = splat8(records[base + RECORD_COLOR + 2]), splat8(records[base + RECORD_COLOR + 3])
        mark = splat8(position + 1)
        first_row, past_row = max(boxes[rank, 2] - top, 0), min(boxes[rank, 3] - top, num_rows)
        first_block = max(boxes[rank, 0] - left, 0) // LANES
        past_block = (min(boxes[rank, 1] - left, num_columns) + LANES - 1) // LANES
        for block in range(first_block, past_block):
            dx = lane_numbers8() + splat8(np.float32(left + block * LANES) + np.float32(0.5) - mean_x)
            along_row = log_opacity - xx * dx * dx
            slope = xy * dx
            for row in range(first_row, past_row):
                dy = np.float32(top + row) + np.float32(0.5) - mean_y
                log_alpha = along_row - splat8(dy) * (slope + splat8(yy * dy))
                if not any_gt8(log_alpha, least):
                    continue
                pixel = row * TILE + block * LANES
                alpha = where_ge8(log_alpha, least, minimum8(exp2_8(log_alpha), most), zero)
                before = load8(planes, TRANSMITTANCE * PLANE + pixel)
                live = maximum8(before, zero)
                weight = live * alpha
                behind = live - weight
                # Never store a choice between a new and the stored value: LLVM makes it a masked store, slow on AMD.
                after = where_gt8(behind, limit, behind, minimum8(before, zero - before))
                store8(planes, TRANSMITTANCE * PLANE + pixel, after)
                weight = where_gt8(behind, limit, weight, zero)
                last = maximum8(load8(planes, LAST * PLANE + pixel), where_gt8(weight, zero, mark, zero))
                store8(planes, LAST * PLANE + pixel, last)
                _accumulate(planes, COLOR * PLANE + pixel, weight, red)
                _accumulate(planes, (COLOR + 1) * PLANE + pixel, weight, green)
                _accumulate(planes, (COLOR + 2) * PLANE + pixel, weight, blue)
                _accumulate(planes, (COLOR + 3) * PLANE + pixel, weight, fourth)
                for k in range(4, num_channels):
                    _accumulate(planes, (COLOR + k) * PLANE + pixel, weight, splat8(records[base + RECORD_COLOR + k]))


@njit(inline="always")
def _accumulate(array, index, left, right):
    store8(array, index, load8(array, index) + left * right)


@njit(nogil=True)
def _is_finished(planes):
    """Whether no pixel of the tile can take any more."""
    zero = splat8(0.0)
    for pixel in range(0, PLANE, LANES):
        if any_gt8(load8(planes, TRANSMITTANCE * PLANE + pixel), zero):
            return False
    return True


@njit(nogil=True)
def _write_tile(planes, top, left, num_rows, num_columns, background, colors, alphas, transmittances, lasts):
    for row in range(num_rows):
        for column in range(num_columns):
            pixel = row * TILE + column
            transmittance = abs(planes[TRANSMITTANCE * PLANE + pixel])
            transmittances[top + row, left + column] = transmittance
            alphas[top + row, left + column] = np.float32(1.0) - transmittance
            lasts[top + row, left + column] = int(planes[LAST * PLANE + pixel])
            for k in range(colors.shape[2]):
                value = planes[(COLOR + k) * PLANE + pixel] + transmittance * background[k]
                colors[top + row, left + column, k] = value


@njit(nogil=True)
def _read_tile(planes, top, left, num_rows, num_columns, background, transmittances, lasts, v_colors, v_alphas):
    """Prepares the scratch planes for going back to front; returns how many of the tile's pairs were used."""
    planes[:] = 0.0
    num_used = 0
    for row in range(num_rows):
        for column in range(num_columns):
            pixel = row * TILE + column
            transmittance = transmittances[top + row, left + column]
            last = lasts[top + row, left + column]
            num_used = max(num_used, last)
            behind = -v_alphas[top + row, left + column]
            for k in range(v_colors.shape[2]):
                v_color = v_colors[top + row, left + column, k]
                planes[(V_COLOR + k) * PLANE + pixel] = v_color
                behind += background[k] * v_color
            planes[TRANSMITTANCE * PLANE + pixel] = transmittance
            planes[BEHIND * PLANE + pixel] = transmittance * behind
            planes[LAST * PLANE + pixel] = last
    return num_used


@njit(nogil=True)
def _backward_pair(
    planes, sums, position, record, box, top, left, num_rows, num_columns, num_channels, v_slot,
):  # fmt: skip
    """One Gaussian's gradients from one tile.

    With T the transmittance before this Gaussian, S what lies behind it (its colours, the background and minus the
    alpha's gradient, weighted and multiplied by their gradients) and q = colour . v_color:
    d(loss)/d(alpha) = T q - S / (1 - alpha). T and S are stepped from back to front.
    """
    mean_x, mean_y = record[RECORD_MEAN_X], record[RECORD_MEAN_Y]
    xx, xy, yy = splat8(record[RECORD_XX]), splat8(record[RECORD_XY]), record[RECORD_YY]
    log_opacity = splat8(record[RECORD_LOG_OPACITY])
    red, green = splat8(record[RECORD_COLOR]), splat8(record[RECORD_COLOR + 1])
    blue, fourth = splat8(record[RECORD_COLOR + 2]), splat8(record[RECORD_COLOR + 3])
    zero, one = splat8(0.0), splat8(1.0)
    least, most = splat8(LOG2_ALPHA_MIN), splat8(ALPHA_MAX)
    mark = splat8(position)
    v_red, v_green, v_blue, v_fourth = zero, zero, zero, zero
    # Moments of -dLoss/d(sigma) over the pixels; sigma is the exponent of the Gaussian.
    moment, moment_x, moment_y, moment_xx, moment_xy, moment_yy = zero, zero, zero, zero, zero, zero
    for k in range(4, num_channels):
        store8(sums, k * LANES, zero)
    first_row, past_row = max(box[2] - top, 0), min(box[3] - top, num_rows)
    first_block = max(box[0] - left, 0) // LANES
    past_block = (min(box[1] - left, num_columns) + LANES - 1) // LANES
    for block in range(first_block, past_block):
        dx = lane_numbers8() + splat8(np.float32(left + block * LANES) + np.float32(0.5) - mean_x)
        along_row = log_opacity - xx * dx * dx
        slope = xy * dx
        sum_0, sum_y, sum_yy = zero, zero, zero
        for row in range(first_row, past_row):
            dy = np.float32(top + row) + np.float32(0.5) - mean_y
            log_alpha = along_row - splat8(dy) * (slope + splat8(yy * dy))
            pixel = row * TILE + block * LANES
            last = load8(planes, LAST * PLANE + pixel)
            visible = where_gt8(last, mark, log_alpha, least - one)
            if not any_gt8(visible, least):
                continue
            unclamped = where_ge8(visible, least, exp2_8(log_alpha), zero)
            alpha = minimum8(unclamped, most)
            scale = divide8(one, one - alpha)
            transmittance = load8(planes, TRANSMITTANCE * PLANE + pixel) * scale
            store8(planes, TRANSMITTANCE * PLANE + pixel, transmittance)
            weight = alpha * transmittance
            g0, g1 = load8(planes, V_COLOR * PLANE + pixel), load8(planes, (V_COLOR + 1) * PLANE + pixel)
            g2, g3 = load8(planes, (V_COLOR + 2) * PLANE + pixel), load8(planes, (V_COLOR + 3) * PLANE + pixel)
            q = red * g0 + green * g1 + blue * g2 + fourth * g3
            v_red, v_green = v_red + weight * g0, v_green + weight * g1
            v_blue, v_fourth = v_blue + weight * g2, v_fourth + weight * g3
            for k in range(4, num_channels):
                g = load8(planes, (V_COLOR + k) * PLANE + pixel)
                q = q + splat8(record[RECORD_COLOR + k]) * g
                _accumulate(sums, k * LANES, weight, g)
            behind = load8(planes, BEHIND * PLANE + pixel)
            store8(planes, BEHIND * PLANE + pixel, behind + weight * q)
            pull = alpha * (transmittance * q - scale * behind)
            pull = where_gt8(unclamped, most, zero, pull)
            dys = splat8(dy)
            pull_y = pull * dys
            sum_0, sum_y, sum_yy = sum_0 + pull, sum_y + pull_y, sum_yy + pull_y * dys
        moment, moment_y, moment_yy = moment + sum_0, moment_y + sum_y, moment_yy + sum_yy
        pull_x = sum_0 * dx
        moment_x, moment_xx, moment_xy = moment_x + pull_x, moment_xx + pull_x * dx, moment_xy + sum_y * dx
    _store_gradients(
        record, v_slot, sum8(moment), sum8(moment_x), sum8(moment_y), sum8(moment_xx), sum8(moment_xy), sum8(moment_yy)
    )
    v_slot[GRAD_COLOR] = sum8(v_red)
    if num_channels > 1:
        v_slot[GRAD_COLOR + 1] = sum8(v_green)
    if num_channels > 2:
        v_slot[GRAD_COLOR + 2] = sum8(v_blue)
    if num_channels > 3:
        v_slot[GRAD_COLOR + 3] = sum8(v_fourth)
    for k in range(4, num_channels):
        v_slot[GRAD_COLOR + k] = sum8(load8(sums, k * LANES))


@njit(inline="always")
def _store_gradients(record, v_slot, moment, moment_x, moment_y, moment_xx, moment_xy, moment_yy):
    """From moments of -dLoss/d(sigma) = alpha dLoss/d(alpha), with sigma = xx dx^2 / 2 + xy dx dy + yy dy^2 / 2."""
    ln_2 = np.float32(1.0 / LOG2_E)
    xx = np.float32(2.0) * ln_2 * record[RECORD_XX]
    xy = ln_2 * record[RECORD_XY]
    yy = np.float32(2.0) * ln_2 * record[RECORD_YY]
    v_slot[GRAD_MEAN_X] = xx * moment_x + xy * moment_y
    v_slot[GRAD_MEAN_Y] = xy * moment_x + yy * moment_y
    v_slot[GRAD_XX] = np.float32(-0.5) * moment_xx
    v_slot[GRAD_XY] = -moment_xy
    v_slot[GRAD_YY] = np.float32(-0.5) * moment_yy
    v_slot[GRAD_OPACITY] = moment * np.float32(2.0 ** -record[RECORD_LOG_OPACITY])


@njit(cache=True, nogil=True, parallel=True)
def gather(ids, slot_begins, v_slots, v_means2d, v_conics, v_opacities, v_colors):
    """Adds up each Gaussian's slots, in their order, into the arrays by Gaussian (zero on entry)."""
    num_drawn = ids.shape[0]
    num_channels = v_colors.shape[1]
    num_chunks = 16
    for chunk in prange(num_chunks):
        for rank in range(chunk * num_drawn // num_chunks, (chunk + 1) * num_drawn // num_chunks):
            i = ids[rank]
            for slot in range(slot_begins[rank], slot_begins[rank + 1]):
                v_means2d[i, 0] += v_slots[slot, GRAD_MEAN_X]
                v_means2d[i, 1] += v_slots[slot, GRAD_MEAN_Y]
                v_conics[i, 0] += v_slots[slot, GRAD_XX]
                v_conics[i, 1] += v_slots[slot, GRAD_XY]
                v_conics[i, 2] += v_slots[slot, GRAD_YY]
                v_opacities[i] += v_slots[slot, GRAD_OPACITY]
                for k in range(num_channels):
                    v_colors[i, k] += v_slots[slot, GRAD_COLOR + k]
