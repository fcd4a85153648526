"""Numba kernels of the ``cpu`` backend: tiles to pixels, and the way back for gradients.

Each tile belongs to one thread from begin to end and writes only its own pixels and its own gradient slots, so the
result does not depend on which thread took which tile. Tiles are taken from a queue, the fullest first.

Inside a tile, a Gaussian is evaluated row by row, 8 columns at once (see ``simd``), beginning at its own first column,
on the planes of a scratch array (see ``cpu_tiles``). Four channels are held in registers; any further ones cost a loop.

Letters: N Gaussians, H and W the image, D channels, R the length of a record, T tiles, P pairs of both.
"""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel
from m2dao.kernels.simd import (
    LANES,
    any_gt8,
    divide8,
    exp2_8,
    fetch_add,
    get,
    lane_numbers8,
    load8,
    maximum8,
    minimum8,
    put,
    splat8,
    store8,
    sum8,
    where_ge8,
    where_gt8,
)
from m2dao.kernels.threads import CHUNK
from m2dao.render.conventions import ALPHA_MAX, TRANSMITTANCE_MIN
from m2dao.render.cpu_project import (
    LOG2_ALPHA_MIN,
    LOG2_E,
    RECORD_COLOR,
    RECORD_LOG_OPACITY,
    RECORD_MEAN_X,
    RECORD_MEAN_Y,
    RECORD_XX,
    RECORD_XY,
    RECORD_YY,
)
from m2dao.render.cpu_tiles import (
    BEHIND,
    COLOR,
    LAST,
    PLANE,
    PLANES,
    STRIDE,
    TABLE,
    TRANSMITTANCE,
    V_COLOR,
    new_scratch,
    read_tile,
    tile_box,
    write_empty_tile,
    write_tile,
)

FINISHED_CHECK = 32  # Gaussians between two looks at whether a whole tile is finished
GRAD_MEAN_X, GRAD_MEAN_Y, GRAD_XX, GRAD_XY, GRAD_YY, GRAD_OPACITY, GRAD_COLOR = range(7)


@helper(inline="always")
def _accumulate(array, index, left, right):
    store8(array, index, load8(array, index) + left * right)


@helper(nogil=True)  # the roofline calls it
def _forward_tile(scratch, ids, records, boxes, top, left, num_rows, num_columns, num_channels):
    """Blends a tile's Gaussians, given front to back, into the scratch planes."""
    scratch[PLANES:] = 0.0
    for row in range(num_rows):
        for column in range(num_columns):
            put(scratch, TRANSMITTANCE + row * STRIDE + column, 1.0)
    for position in range(ids.shape[0]):
        if position % FINISHED_CHECK == FINISHED_CHECK - 1 and _is_finished(scratch):
            break
        i = ids[position]
        first_row, past_row = max(boxes[i, 2] - top, 0), min(boxes[i, 3] - top, num_rows)
        first_column, past_column = max(boxes[i, 0] - left, 0), min(boxes[i, 1] - left, num_columns)
        _blend(
            scratch, records[i], position + 1, first_row, past_row, first_column, past_column, top, left, num_channels
        )


@helper(inline="always")
def _blend(scratch, record, position, first_row, past_row, first_column, past_column, top, left, num_channels):
    """One Gaussian over what is already there."""
    limit, zero = splat8(TRANSMITTANCE_MIN), splat8(0.0)
    least, most = splat8(LOG2_ALPHA_MIN), splat8(ALPHA_MAX)
    mean_x, mean_y = record[RECORD_MEAN_X], record[RECORD_MEAN_Y]
    xx, xy, yy = splat8(record[RECORD_XX]), splat8(record[RECORD_XY]), record[RECORD_YY]
    log_opacity = splat8(record[RECORD_LOG_OPACITY])
    red, green = splat8(record[RECORD_COLOR]), splat8(record[RECORD_COLOR + 1])
    blue, fourth = splat8(record[RECORD_COLOR + 2]), splat8(record[RECORD_COLOR + 3])
    mark = splat8(position)
    for column in range(first_column, past_column, LANES):
        dx = lane_numbers8() + splat8(np.float32(left + column) + np.float32(0.5) - mean_x)
        along_row = log_opacity - xx * dx * dx
        slope = xy * dx
        for row in range(first_row, past_row):
            dy = np.float32(top + row) + np.float32(0.5) - mean_y
            log_alpha = along_row - splat8(dy) * (slope + splat8(yy * dy))
            if not any_gt8(log_alpha, least):
                continue
            pixel = row * STRIDE + column
            alpha = where_ge8(log_alpha, least, minimum8(exp2_8(log_alpha, scratch, TABLE), most), zero)
            before = load8(scratch, TRANSMITTANCE + pixel)
            live = maximum8(before, zero)
            weight = live * alpha
            behind = live - weight
            # Never store a choice between a new and the stored value: LLVM makes it a masked store, slow on AMD.
            after = where_gt8(behind, limit, behind, minimum8(before, zero - before))
            store8(scratch, TRANSMITTANCE + pixel, after)
            weight = where_gt8(behind, limit, weight, zero)
            last = maximum8(load8(scratch, LAST + pixel), where_gt8(weight, zero, mark, zero))
            store8(scratch, LAST + pixel, last)
            _accumulate(scratch, COLOR + pixel, weight, red)
            _accumulate(scratch, COLOR + PLANE + pixel, weight, green)
            _accumulate(scratch, COLOR + 2 * PLANE + pixel, weight, blue)
            _accumulate(scratch, COLOR + 3 * PLANE + pixel, weight, fourth)
            for k in range(4, num_channels):
                _accumulate(scratch, COLOR + k * PLANE + pixel, weight, splat8(get(record, RECORD_COLOR + k)))


@helper()
def _is_finished(scratch):
    """Whether no pixel of the tile can take any more."""
    zero = splat8(0.0)
    for index in range(TRANSMITTANCE, TRANSMITTANCE + PLANE, LANES):  # noqa: SIM110 (Numba compiles no generator here)
        if any_gt8(load8(scratch, index), zero):
            return False
    return True


@helper(inline="always")
def _unblend(
    scratch,
    sums,
    position,
    record,
    first_row,
    past_row,
    first_column,
    past_column,
    top,
    left,
    num_channels,
    v_slot,
):
    """One Gaussian's gradients from one tile, and what was there before it.

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
    for column in range(first_column, past_column, LANES):
        dx = lane_numbers8() + splat8(np.float32(left + column) + np.float32(0.5) - mean_x)
        along_row = log_opacity - xx * dx * dx
        slope = xy * dx
        sum_0, sum_y, sum_yy = zero, zero, zero
        for row in range(first_row, past_row):
            dy = np.float32(top + row) + np.float32(0.5) - mean_y
            log_alpha = along_row - splat8(dy) * (slope + splat8(yy * dy))
            pixel = row * STRIDE + column
            visible = where_gt8(load8(scratch, LAST + pixel), mark, log_alpha, least - one)
            if not any_gt8(visible, least):
                continue
            unclamped = where_ge8(visible, least, exp2_8(log_alpha, scratch, TABLE), zero)
            alpha = minimum8(unclamped, most)
            scale = divide8(one, one - alpha)
            transmittance = load8(scratch, TRANSMITTANCE + pixel) * scale
            store8(scratch, TRANSMITTANCE + pixel, transmittance)
            weight = alpha * transmittance
            g0, g1 = load8(scratch, V_COLOR + pixel), load8(scratch, V_COLOR + PLANE + pixel)
            g2, g3 = load8(scratch, V_COLOR + 2 * PLANE + pixel), load8(scratch, V_COLOR + 3 * PLANE + pixel)
            q = red * g0 + green * g1 + blue * g2 + fourth * g3
            v_red, v_green = v_red + weight * g0, v_green + weight * g1
            v_blue, v_fourth = v_blue + weight * g2, v_fourth + weight * g3
            for k in range(4, num_channels):
                g = load8(scratch, V_COLOR + k * PLANE + pixel)
                q = q + splat8(get(record, RECORD_COLOR + k)) * g
                _accumulate(sums, k * LANES, weight, g)
            behind = load8(scratch, BEHIND + pixel)
            store8(scratch, BEHIND + pixel, behind + weight * q)
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
    store8(sums, 0, v_red)
    store8(sums, LANES, v_green)
    store8(sums, 2 * LANES, v_blue)
    store8(sums, 3 * LANES, v_fourth)
    for k in range(num_channels):
        v_slot[GRAD_COLOR + k] = sum8(load8(sums, k * LANES))


@helper(inline="always")
def _store_gradients(record, v_slot, moment, moment_x, moment_y, moment_xx, moment_xy, moment_yy):
    """Gradients from moments of -dLoss/d(sigma); sigma = xx dx^2 / 2 + xy dx dy + yy dy^2 / 2."""
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


@helper()
def _backward_tile(
    scratch, sums, num_used, ids, slots, records, boxes, top, left, num_rows, num_columns, num_channels, v_slots
):
    """Fills the gradient slots of a tile whose scratch planes were read."""
    for position in range(num_used, ids.shape[0]):
        v_slots[slots[position]] = 0.0
    for position in range(num_used - 1, -1, -1):
        i = ids[position]
        first_row, past_row = max(boxes[i, 2] - top, 0), min(boxes[i, 3] - top, num_rows)
        first_column, past_column = max(boxes[i, 0] - left, 0), min(boxes[i, 1] - left, num_columns)
        _unblend(
            scratch,
            sums,
            position,
            records[i],
            first_row,
            past_row,
            first_column,
            past_column,
            top,
            left,
            num_channels,
            v_slots[slots[position]],
        )


@kernel()
def forward(
    queue,  # int64 [1] next entry of tile_order
    tile_begins,  # int64 [T + 1]
    tile_order,  # int64 [T]
    pair_ids,  # int32 [P]
    records,  # float32 [N, R]
    boxes,  # int32 [N, 4]
    background,  # float32 [D]
    width,
    height,
    colors,  # out float32 [H * W * D]
    alphas,  # out float32 [H * W]
    transmittances,  # out float32 [H * W]
    lasts,  # out float32 [H * W] position in the tile's list behind the pixel's last contribution
):
    """Draws tiles until none is left."""
    num_channels = background.shape[0]
    scratch = new_scratch(2 + max(num_channels, 4))
    while True:
        number = fetch_add(queue, 1)
        if number >= tile_order.shape[0]:
            break
        tile = tile_order[number]
        begin, end = tile_begins[tile], tile_begins[tile + 1]
        top, left, num_rows, num_columns = tile_box(tile, width, height)
        if begin == end:
            write_empty_tile(top, left, num_rows, num_columns, width, background, colors, alphas, transmittances, lasts)
            continue
        ids = pair_ids[begin:end]
        _forward_tile(scratch, ids, records, boxes, top, left, num_rows, num_columns, num_channels)
        write_tile(scratch, top, left, num_rows, num_columns, width, background, colors, alphas, transmittances, lasts)


@kernel()
def backward(
    queue,  # int64 [1] next entry of tile_order
    tile_begins,  # int64 [T + 1]
    tile_order,  # int64 [T]
    pair_ids,  # int32 [P]
    pair_slots,  # int32 [P]
    records,  # float32 [N, R]
    boxes,  # int32 [N, 4]
    background,  # float32 [D]
    width,
    height,
    transmittances,  # float32 [H * W]
    lasts,  # float32 [H * W]
    v_colors,  # float32 [H * W * D]
    v_alphas,  # float32 [H * W]
    v_slots,  # out float32 [P, 6 + D]
):
    """Fills the gradient slots, tile by tile, until none is left."""
    num_channels = background.shape[0]
    scratch = new_scratch(3 + max(num_channels, 4))
    sums = np.empty(max(num_channels, 4) * LANES, np.float32)
    while True:
        number = fetch_add(queue, 1)
        if number >= tile_order.shape[0]:
            break
        tile = tile_order[number]
        begin, end = tile_begins[tile], tile_begins[tile + 1]
        if begin == end:
            continue
        top, left, num_rows, num_columns = tile_box(tile, width, height)
        num_used = read_tile(
            scratch, top, left, num_rows, num_columns, width, background, transmittances, lasts, v_colors, v_alphas
        )
        _backward_tile(
            scratch,
            sums,
            num_used,
            pair_ids[begin:end],
            pair_slots[begin:end],
            records,
            boxes,
            top,
            left,
            num_rows,
            num_columns,
            num_channels,
            v_slots,
        )


@kernel()
def gather(
    queue,  # int64 [1] next chunk of Gaussians
    slot_begins,  # int64 [N + 1]
    v_slots,  # float32 [P, 6 + D]
    v_means2d,  # out float32 [N, 2]
    v_conics,  # out float64 [N, 3]
    v_opacities,  # inout float32 [N]; this image's gradient is added
    v_colors,  # inout float32 [N, D]
):
    """Adds up each Gaussian's slots, in their order."""
    num_gaussians, num_channels = v_colors.shape
    while True:
        first = fetch_add(queue, 1) * CHUNK
        if first >= num_gaussians:
            break
        for i in range(first, min(first + CHUNK, num_gaussians)):
            x = y = xx = xy = yy = opacity = np.float32(0.0)
            for slot in range(slot_begins[i], slot_begins[i + 1]):
                v_slot = v_slots[slot]
                x += v_slot[GRAD_MEAN_X]
                y += v_slot[GRAD_MEAN_Y]
                xx += v_slot[GRAD_XX]
                xy += v_slot[GRAD_XY]
                yy += v_slot[GRAD_YY]
                opacity += v_slot[GRAD_OPACITY]
                for k in range(num_channels):
                    v_colors[i, k] += v_slot[GRAD_COLOR + k]
            v_means2d[i, 0], v_means2d[i, 1] = x, y
            v_conics[i, 0], v_conics[i, 1], v_conics[i, 2] = xx, xy, yy
            v_opacities[i] += opacity
