"""Expressions: named displacement fields over the head's grid, added with weights a frame.

The closed face is the rest shape, so a field's weight says how far it is from closed: an open eye is ``blink`` 0,
which is the lid fields at full weight. The jaw is a rotation about the hinge below the ear, taken to first order.
"""

from __future__ import annotations

import numpy as np

from m2dao.presenter import shape
from m2dao.presenter.people import Person

# order of the rows of every control track and of the displacement fields
CONTROLS = (
    "jaw",  # 1 = about 15 degrees
    "seal",  # lips drawn together by as much as the jaw parts them
    "press",  # lips rolled in and pressed together (m, b, p)
    "pucker",  # lips narrowed and pushed forward (oo, w)
    "wide",  # corners pulled apart (ee)
    "upper_raise",  # upper lip lifted
    "lower_drop",  # lower lip lowered without the jaw
    "tuck",  # lower lip under the upper teeth (f, v)
    "smile",  # corners up and out
    "brow_left",  # image-left brow up
    "brow_right",
    "frown",  # brows together and down
    "lids_left",  # image-left eye: 1 open, 0 closed
    "lids_right",
    "cheek",  # lower lids and cheeks up
)
JAW_RADIANS = 0.27
UPPER_LID_LIFT = 0.0078
LOWER_LID_DROP = 0.0013
LID_FOLD = 0.0128  # the skin above the eye that folds when the lid opens


def build_fields(grid: shape.HeadGrid, person: Person) -> np.ndarray:
    """Displacement of every vertex for each control at weight 1.

    Returns:
        f32 [K, R, C, 3], rows in the order of ``CONTROLS``.
    """
    points = grid.points.astype(np.float64)
    x, y, z = np.moveaxis(points, -1, 0)
    front = shape.smoothstep(0.06, 0.02, z)
    fields = np.zeros((len(CONTROLS), *points.shape))
    named = dict(zip(CONTROLS, fields, strict=True))
    _mouth_fields(named, grid, person, x, y, z, front)
    _brow_fields(named, x, y, front)
    _lid_fields(named, grid, person, x, y, front)
    return fields.astype(np.float32)


def _blob(x, y, cx, cy, width, height):
    return np.exp(-0.5 * ((x - cx) / width) ** 2 - 0.5 * ((y - cy) / height) ** 2)


def jaw_weight(x: np.ndarray, y: np.ndarray, z: np.ndarray, side: np.ndarray, person: Person) -> np.ndarray:
    """How much of the jaw's rotation a point follows, 0..1; it jumps only across the open lips."""
    half_width = shape.MOUTH_HALF_WIDTH * person.mouth_width
    line = shape.mouth_line(x)
    spread = 0.012 + 0.55 * np.maximum(np.abs(x) - half_width, 0.0)
    soft = np.tanh((y - line) / spread)
    opening = shape.mouth_arch(x, person)
    split = 0.5 + 0.5 * side * np.sqrt(opening**2 + (1.0 - opening**2) * soft**2)
    # above the upper lip nothing may follow the jaw far: the philtrum stays
    upper_calm = shape.smoothstep(0.016, 0.040, y)
    behind = shape.smoothstep(0.045, -0.005, z)
    neck = shape.smoothstep(0.125, 0.098, y)
    return split * upper_calm * behind * neck


def _mouth_fields(named, grid, person, x, y, z, front):
    side = grid.mouth_side[:, None]
    half_width = shape.MOUTH_HALF_WIDTH * person.mouth_width
    arch = shape.mouth_arch(x, person)
    line = shape.mouth_line(x)
    away = np.abs(y - line)
    weight = jaw_weight(x, y, z, side, person)
    # rotation about the x axis through the hinge, to first order
    named["jaw"][..., 1] = -(z - shape.JAW_HINGE_Z) * weight * JAW_RADIANS
    named["jaw"][..., 2] = (y - shape.JAW_HINGE_Y) * weight * JAW_RADIANS
    named["jaw"] *= front[..., None]
    gap = named["jaw"][grid.mouth_rows[1]] - named["jaw"][grid.mouth_rows[0]]  # [C, 3]
    drawn = np.exp(-((away / 0.0155) ** 2))[..., None]
    named["seal"][:] = np.where((side > 0)[..., None], -0.72, 0.28) * gap * drawn
    # the mouth's width at the back of the head is the back of the head
    arch = arch * front
    cheeks = _blob(np.abs(x), y, 0.036, 0.038, 0.013, 0.018) * front
    named["jaw"][..., 0] -= np.sign(x) * 0.0035 * cheeks
    corner_in = _blob(np.abs(x), y, half_width, shape.MOUTH_Y, 0.010, 0.012) * front
    named["jaw"][..., 0] -= np.sign(x) * 0.0030 * corner_in

    near = np.exp(-((away / 0.0085) ** 2)) * arch**0.8
    named["press"][..., 1] = side * -0.0022 * np.clip(away / 0.008, 0, 1) * near  # borders move to the line
    named["press"][..., 2] += 0.0034 * near
    rims = (grid.rim[:, None] > 0) * arch
    named["press"][..., 2] += 0.0010 * rims

    ring = _blob(x, y, 0.0, shape.MOUTH_Y + 0.001, 0.024, 0.017) * front
    named["pucker"][..., 0] = -0.36 * x * ring
    named["pucker"][..., 2] = -0.0085 * _blob(x, y, 0.0, shape.MOUTH_Y + 0.001, 0.016, 0.012) * front
    named["pucker"][..., 1] = side * 0.0018 * arch * np.exp(-((away / 0.010) ** 2))
    named["wide"][..., 0] = 0.16 * x * ring
    named["wide"][..., 2] = 0.0024 * _blob(np.abs(x), y, half_width, shape.MOUTH_Y, 0.012, 0.014) * front
    named["wide"][..., 1] = -0.0012 * _blob(np.abs(x), y, half_width, shape.MOUTH_Y, 0.012, 0.014) * front

    upper = (side < 0) * np.exp(-((away / 0.013) ** 2)) * arch**0.6
    named["upper_raise"][..., 1] = -0.0042 * upper * front
    named["upper_raise"][..., 2] = -0.0008 * upper * front
    lower = (side > 0) * np.exp(-((away / 0.015) ** 2)) * arch**0.6
    named["lower_drop"][..., 1] = 0.0050 * lower * front
    named["lower_drop"][..., 2] = -0.0006 * lower * front
    named["tuck"][..., 1] = -0.0016 * lower * front
    named["tuck"][..., 2] = 0.0052 * (side > 0) * np.exp(-((away / 0.008) ** 2)) * arch * front
    named["tuck"][..., 1] -= 0.0034 * upper * front

    corners = _blob(np.abs(x), y, half_width, shape.MOUTH_Y, 0.011, 0.012) * front
    named["smile"][..., 0] = np.sign(x) * 0.0052 * corners
    named["smile"][..., 1] = -0.0046 * corners
    named["smile"][..., 2] = 0.0030 * corners
    apples = _blob(np.abs(x), y, 0.040, 0.004, 0.013, 0.012) * front
    named["smile"][..., 1] -= 0.0020 * apples
    named["smile"][..., 2] -= 0.0026 * apples
    fold = np.exp(-(((np.abs(x) - 0.0235 - 0.40 * (y - 0.020)) / 0.0028) ** 2))
    named["smile"][..., 2] += (
        0.0013 * fold * shape.smoothstep(0.008, 0.018, y) * shape.smoothstep(0.046, 0.036, y) * front
    )


def _brow_fields(named, x, y, front):
    for name, sign in (("brow_left", -1.0), ("brow_right", 1.0)):
        own = shape.smoothstep(-0.006, 0.006, sign * x)
        lift = _blob(np.abs(x), y, 0.032, -0.047, 0.018, 0.010) * own * front
        named[name][..., 1] = -0.0062 * lift
        named[name][..., 2] = -0.0006 * lift
    pinch = _blob(np.abs(x), y, 0.014, -0.045, 0.008, 0.008) * front
    named["frown"][..., 0] = -np.sign(x) * 0.0026 * pinch * shape.smoothstep(0.0, 0.004, np.abs(x))
    named["frown"][..., 1] = 0.0030 * _blob(np.abs(x), y, 0.019, -0.044, 0.013, 0.008) * front
    named["cheek"][..., 1] = -0.0030 * _blob(np.abs(x), y, 0.036, -0.008, 0.014, 0.008) * front
    named["cheek"][..., 2] = -0.0012 * _blob(np.abs(x), y, 0.036, -0.008, 0.014, 0.008) * front


def lid_lift(x: np.ndarray, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Metres by which the upper lid rises and the lower lid sinks over x when the eye opens."""
    arch = shape.eye_arch(x)
    return UPPER_LID_LIFT * person.eye_opening * arch, LOWER_LID_DROP * person.eye_opening * arch


def _lid_fields(named, grid, person, x, y, front):
    side = grid.eye_side[:, None]
    line = shape.eye_line(x)
    rise, sink = lid_lift(x, person)
    above = np.clip((line - y) / LID_FOLD, 0.0, 1.0)
    fold = (1.0 - above) ** 1.25
    below = np.exp(-((np.maximum(y - line, 0.0) / 0.006) ** 2))
    for name, sign in (("lids_left", -1.0), ("lids_right", 1.0)):
        own = (sign * x > 0) * front
        named[name][..., 1] = np.where(side < 0, -rise * fold, sink * below) * own
        named["cheek"][..., 1] -= np.where(side < 0, 0.0, 0.0016 * shape.eye_arch(x) * below) * own
