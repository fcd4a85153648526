"""The presenter's head, neck and upper body as one grid of vertices, with slits for mouth and eyes.

The surface is lofted: every height has a superelliptic cross-section whose half-width, front, back and exponent come
from the tables below (adult anthropometry, outer eye corners 0.09 m apart), and named Gaussian bumps add the features
of the face. Rows of the grid bend so that one follows the line of the closed lips and one that of the closed lids;
there the grid is cut, and extra rows turn inwards as the rims of lips and lids.

Head space: metres, x to the image's right, y down, z away from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from m2dao.presenter.people import Person

CENTRE_Z = 0.040  # axis of the loft
CROWN_Y = -0.128
DOME_Y = -0.030  # above it the cross-section shrinks to the crown
CHEST_Y = 0.300

EYE_X, EYE_Y, EYE_Z = 0.0316, -0.0265, -0.0258  # eyeball centre
EYE_RADIUS = 0.0124
EYE_HALF_WIDTH = 0.0131
MOUTH_Y = 0.0430
MOUTH_HALF_WIDTH = 0.0246
JAW_HINGE_Y, JAW_HINGE_Z = 0.004, 0.030

# height: half-width, front, back, exponent
_SECTIONS = np.array(
    [
        (-0.030, 0.0775, -0.0515, 0.137, 2.30),
        (0.000, 0.0765, -0.0505, 0.135, 2.30),
        (0.020, 0.0745, -0.0520, 0.128, 2.30),
        (0.040, 0.0705, -0.0510, 0.118, 2.30),
        (0.055, 0.0655, -0.0490, 0.112, 2.30),
        (0.064, 0.0615, -0.0480, 0.109, 2.30),
        (0.072, 0.0570, -0.0490, 0.106, 2.25),
        (0.080, 0.0535, -0.0490, 0.104, 2.05),
        (0.088, 0.0515, -0.0475, 0.102, 1.90),
        (0.094, 0.0505, -0.0420, 0.101, 1.85),
        (0.099, 0.0500, -0.0300, 0.100, 1.80),
        (0.105, 0.0495, -0.0140, 0.099, 1.85),
        (0.113, 0.0490, -0.0020, 0.098, 2.00),
        (0.125, 0.0490, 0.0030, 0.098, 2.00),
        (0.140, 0.0530, 0.0030, 0.100, 2.00),
        (0.155, 0.0700, -0.0010, 0.106, 2.00),
        (0.168, 0.1020, -0.0080, 0.112, 2.10),
        (0.180, 0.1320, -0.0150, 0.118, 2.25),
        (0.200, 0.1600, -0.0260, 0.126, 2.40),
        (0.235, 0.1800, -0.0390, 0.132, 2.50),
        (0.300, 0.1900, -0.0500, 0.135, 2.50),
    ]
)

# name: centre x (mirrored when not 0), centre y, width, height, push towards the camera
FEATURES = {
    "bridge": (0.0, -0.0220, 0.0055, 0.0120, 0.0050),
    "dorsum": (0.0, -0.0060, 0.0070, 0.0120, 0.0150),
    "tip": (0.0, 0.0048, 0.0088, 0.0072, 0.0135),
    "ball": (0.0, 0.0112, 0.0105, 0.0050, 0.0080),
    "ala": (0.0122, 0.0112, 0.0042, 0.0052, 0.0062),
    "sidewall": (0.0110, -0.0040, 0.0070, 0.0140, 0.0018),
    "brow": (0.0240, -0.0470, 0.0160, 0.0085, 0.0023),
    "browtail": (0.0460, -0.0430, 0.0110, 0.0100, 0.0044),
    "socket": (0.0310, -0.0270, 0.0130, 0.0100, -0.0097),
    "canthus": (0.0145, -0.0240, 0.0060, 0.0090, -0.0078),
    "cheekbone": (0.0470, -0.0020, 0.0150, 0.0150, 0.0012),
    "muzzle": (0.0, 0.0400, 0.0200, 0.0160, 0.0015),
    "uplip": (0.0, 0.0355, 0.0130, 0.0050, 0.0045),
    "lolip": (0.0, 0.0495, 0.0130, 0.0050, 0.0045),
    "corner": (0.0245, 0.0435, 0.0060, 0.0060, -0.0044),
    "mentolabial": (0.0, 0.0605, 0.0160, 0.0045, -0.0010),
    "chin": (0.0, 0.0790, 0.0140, 0.0090, 0.0044),
    "temple": (0.0600, -0.0500, 0.0120, 0.0180, -0.0030),
    "forehead": (0.0300, -0.0700, 0.0220, 0.0160, 0.0029),
    "philtrum": (0.0, 0.0265, 0.0080, 0.0060, 0.0070),
    "nasolabial": (0.0210, 0.0120, 0.0060, 0.0100, -0.0037),
}

# outer border of the closed lips over |x| / MOUTH_HALF_WIDTH
_LIP_X = np.array([0.0, 0.17, 0.32, 0.58, 0.78, 0.93, 1.0])
_UPPER_BORDER = PchipInterpolator(_LIP_X, [0.0345, 0.0334, 0.0335, 0.0357, 0.0386, 0.0414, 0.0432])
_LOWER_BORDER = PchipInterpolator(_LIP_X, [0.0530, 0.0529, 0.0522, 0.0500, 0.0475, 0.0447, 0.0432])

LID_RIM = (0.0007, 0.0016)  # depth of the extra rows behind the lid's edge
LIP_RIM = (0.0010, 0.0026, 0.0048, 0.0078, 0.0110)


@dataclass(frozen=True)
class HeadGrid:
    """The closed-mouth, closed-eye surface and where its parts are.

    Args:
        points: f32 [R, C, 3].
        rim: f32 [R], depth in metres of rim rows behind their edge, 0 elsewhere.
        eye_rows, mouth_rows: index of the upper and of the lower edge row of each slit.
        eye_side, mouth_side: f32 [R], -1 on rows above that slit, +1 on rows below.
        skip_row: u8 [R], 1 between the two innermost rim rows of a slit.
    """

    points: np.ndarray
    eye_rows: tuple[int, int]
    mouth_rows: tuple[int, int]
    eye_side: np.ndarray
    mouth_side: np.ndarray
    rim: np.ndarray
    skip_row: np.ndarray


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, cubic between; ``low`` may be the larger."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def eye_line(x: np.ndarray) -> np.ndarray:
    """Height of the closed lids' meeting line over x."""
    s = np.clip((np.abs(x) - EYE_X) / EYE_HALF_WIDTH, -1.6, 1.6)
    return -0.0263 + 0.0026 * np.exp(-(s**2) * 1.3)


def mouth_line(x: np.ndarray) -> np.ndarray:
    """Height of the closed lips' meeting line over x."""
    return MOUTH_Y - 0.0010 * np.exp(-((np.abs(x) / 0.0075 - 1.0) ** 2)) + 0.0004 * np.exp(-((x / 0.004) ** 2))


def eye_arch(x: np.ndarray) -> np.ndarray:
    """Shape of the open eye over x: 0 outside the corners, 1 at its highest."""
    s = np.clip((np.abs(x) - EYE_X) / EYE_HALF_WIDTH, -1.0, 1.0)
    lean = s + 0.10 * (1.0 - s * s)  # the highest point lies a little towards the nose
    return np.maximum(1.0 - np.abs(lean) ** 2.1, 0.0) ** 0.85


def mouth_arch(x: np.ndarray, person: Person) -> np.ndarray:
    """Shape of the open mouth over x: 0 at and beyond the corners, 1 in the middle."""
    s = np.clip(np.abs(x) / (MOUTH_HALF_WIDTH * person.mouth_width), 0.0, 1.0)
    return np.sqrt(np.maximum(1.0 - s * s, 0.0))


def lip_borders(x: np.ndarray, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower border of the red of the lips over x (heights)."""
    s = np.clip(np.abs(x) / (MOUTH_HALF_WIDTH * person.mouth_width), 0.0, 1.0)
    line = mouth_line(x)
    fullness = person.lip_fullness
    return line + (_UPPER_BORDER(s) - line) * fullness, line + (_LOWER_BORDER(s) - line) * fullness


def _row_heights() -> tuple[np.ndarray, int, int]:
    """Nominal heights of the rows, denser where the face has detail, with one row on each slit."""

    def spacing(y):
        fine = 1.35 - 0.85 * np.exp(-(((y + 0.027) / 0.016) ** 4)) - 0.90 * np.exp(-(((y - 0.045) / 0.016) ** 4))
        fine -= 0.60 * np.exp(-(((y - 0.010) / 0.020) ** 4)) + 0.35 * np.exp(-(((y - 0.080) / 0.025) ** 4))
        return np.maximum(fine, 0.45) * 1e-3 * np.where(y > 0.20, 2.0, 1.0)

    edges = [CROWN_Y + 1e-5, float(eye_line(np.array(EYE_X))), MOUTH_Y, CHEST_Y]
    rows, slits = [], []
    for start, end in pairwise(edges):
        fine = np.linspace(start, end, 4000)
        count = np.concatenate([[0.0], np.cumsum((fine[1:] - fine[:-1]) / spacing(0.5 * (fine[1:] + fine[:-1])))])
        num = max(int(round(count[-1])), 2)
        rows.append(np.interp(np.arange(num) * count[-1] / num, count, fine))
        slits.append(sum(map(len, rows)))
    rows.append(np.array([CHEST_Y]))
    return np.concatenate(rows), slits[0], slits[1]


def _sections(y: np.ndarray, person: Person) -> tuple[np.ndarray, ...]:
    """Half-width, depths before and behind the axis, and exponent of the cross-section at heights y."""
    table = _SECTIONS.copy()
    keys = table[:, 0]
    face = smoothstep(0.105, 0.085, keys)
    jaw = np.exp(-(((keys - 0.066) / 0.022) ** 2))
    neck = smoothstep(0.085, 0.105, keys) * smoothstep(0.17, 0.14, keys)
    shoulder = smoothstep(0.14, 0.18, keys)
    table[:, 1] *= 1 + face * (person.face_width - 1) + jaw * (person.jaw_width - 1)
    table[:, 1] *= 1 + neck * (person.neck_width - 1) + shoulder * (person.shoulder_width - 1)
    table[:, 4] *= 1 + (person.chin_fullness - 1) * np.exp(-(((keys - 0.084) / 0.018) ** 2))
    keys = keys + person.chin_drop * smoothstep(0.05, 0.088, keys) * smoothstep(0.16, 0.12, keys)
    low = np.maximum(y, DOME_Y)
    t = np.clip((DOME_Y - y) / (DOME_Y - CROWN_Y), 0.0, 1.0)
    dome = np.maximum(1.0 - t**2.4, 1e-9) ** (1 / 2.4)
    fine = np.linspace(DOME_Y - 0.02, CHEST_Y, 701)  # the keys must not show as bands
    width, front, back, power = (
        np.interp(
            low,
            fine,
            gaussian_filter1d(PchipInterpolator(keys, table[:, i])(np.maximum(fine, DOME_Y)), 6.0, mode="nearest"),
        )
        for i in range(1, 5)
    )
    return width * dome, (CENTRE_Z - front) * dome, (back - CENTRE_Z) * dome, power


def feature_push(x: np.ndarray, y: np.ndarray, person: Person) -> np.ndarray:
    """Metres by which the features push the face towards the camera at (x, y)."""
    push = np.zeros_like(x)
    for name, (cx, cy, width, height, amount) in FEATURES.items():
        cy = cy + person.chin_drop * float(smoothstep(0.05, 0.088, np.array(cy)))
        amount = amount * person.features.get(name, 1.0)
        for centre in (cx, -cx) if cx else (0.0,):
            push += amount * np.exp(-0.5 * ((x - centre) / width) ** 2 - 0.5 * ((y - cy) / height) ** 2)
    return push + _lip_relief(x, y, person) + _small_relief(x, y)


def _lip_relief(x: np.ndarray, y: np.ndarray, person: Person) -> np.ndarray:
    upper, lower = lip_borders(x, person)
    line = mouth_line(x)
    arch = mouth_arch(x, person)
    above = np.clip((line - y) / np.maximum(line - upper, 1e-5), 0.0, 1.0)
    below = np.clip((y - line) / np.maximum(lower - line, 1e-5), 0.0, 1.0)
    s = np.where(y < line, above, below)
    roll = np.sin(np.pi * np.clip(s, 0.0, 1.0) ** 0.62)
    amount = np.where(y < line, 0.0022, 0.0030) * person.lip_fullness
    crease = np.exp(-(((y - line) / 0.0011) ** 2)) * 0.0022 * smoothstep(1.25, 0.95, np.abs(x) / MOUTH_HALF_WIDTH)
    return amount * roll * arch**0.7 - crease


def _small_relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    ax = np.abs(x)
    groove = -0.0011 * np.exp(-((x / 0.0024) ** 2) - (((y - 0.0275) / 0.0055) ** 2))  # philtrum
    ridges = 0.0007 * np.exp(-(((ax - 0.0050) / 0.0016) ** 2) - (((y - 0.0285) / 0.0055) ** 2))
    nostril = -0.0036 * np.exp(-(((ax - 0.0066) / 0.0034) ** 2) - (((y - 0.0172) / 0.0022) ** 2))
    crease = -0.0026 * np.exp(-(((ax - 0.0172 - 0.25 * (y - 0.010)) / 0.0017) ** 2) - (((y - 0.0095) / 0.0065) ** 2))
    fold_x = 0.0190 + 0.30 * (y - 0.012)
    fold = (
        -0.0009 * np.exp(-(((ax - fold_x) / 0.0030) ** 2)) * smoothstep(0.010, 0.018, y) * smoothstep(0.042, 0.030, y)
    )
    bag = -0.0008 * np.exp(
        -(((y + 0.0150 + 0.9 * (ax - EYE_X) ** 2 / 0.03) / 0.0022) ** 2) - (((ax - 0.028) / 0.011) ** 2)
    )
    return groove + ridges + nostril + crease + fold + bag


def build_grid(person: Person, num_cols: int = 321) -> HeadGrid:
    """Build the grid of ``person`` with closed mouth and closed eyes."""
    heights, eye_row, mouth_row = _row_heights()
    s = np.linspace(-1.0, 1.0, num_cols)
    angle = np.pi * (0.27 * s + 0.73 * s**5)
    width, front, back, power = (a[:, None] for a in _sections(heights, person))
    depth = np.where(np.cos(angle) > 0, front, back)
    radius = ((np.abs(np.sin(angle)) / width) ** power + (np.abs(np.cos(angle)) / depth) ** power) ** (-1.0 / power)
    x = radius * np.sin(angle)
    z = CENTRE_Z - radius * np.cos(angle)
    facing = smoothstep(0.0, 0.45, np.cos(angle))[None, :] * smoothstep(0.12, 0.10, heights)[:, None]
    y = np.repeat(heights[:, None], num_cols, 1)
    eye_bend = (eye_line(x) - heights[eye_row]) * np.exp(-(((y - heights[eye_row]) / 0.010) ** 2))
    mouth_bend = (mouth_line(x) - heights[mouth_row]) * np.exp(-(((y - heights[mouth_row]) / 0.008) ** 2))
    y = y + facing * (eye_bend + mouth_bend)
    z = z - facing * feature_push(x, y, person)
    points = np.stack([x, y, z], -1)
    return _cut(points, eye_row, mouth_row, facing, MOUTH_HALF_WIDTH * person.mouth_width)


def _cut(points: np.ndarray, eye_row: int, mouth_row: int, facing: np.ndarray, mouth_half_width: float) -> HeadGrid:
    """Duplicate the slit rows and add the rims that turn inwards behind them."""
    pieces, rim, eye_side, mouth_side, skip = [], [], [], [], []
    rows = {}

    def add(row, depth, eye, mouth, skipped=0):
        pieces.append(row)
        rim.append(depth)
        eye_side.append(eye)
        mouth_side.append(mouth)
        skip.append(skipped)

    for r in range(len(points)):
        eye, mouth = (-1 if r < eye_row else 1), (-1 if r < mouth_row else 1)
        if r not in (eye_row, mouth_row):
            add(points[r], 0.0, eye, mouth)
            continue
        depths, name = (LID_RIM, "eye") if r == eye_row else (LIP_RIM, "mouth")
        half, centre = (EYE_HALF_WIDTH, EYE_X) if r == eye_row else (mouth_half_width, 0.0)
        upper = {"eye": -1, "mouth": -1} if name == "eye" else {"eye": 1, "mouth": -1}
        lower = {"eye": 1, "mouth": -1} if name == "eye" else {"eye": 1, "mouth": 1}
        rows[name, "upper"] = len(pieces)
        add(points[r], 0.0, **upper)
        for k, d in enumerate(depths):
            add(_behind(points[r], d, -1, half, centre, facing[r]), d, skipped=int(k == len(depths) - 1), **upper)
        for d in reversed(depths):
            add(_behind(points[r], d, 1, half, centre, facing[r]), d, **lower)
        rows[name, "lower"] = len(pieces)
        add(points[r], 0.0, **lower)
    return HeadGrid(
        points=np.stack(pieces).astype(np.float32),
        eye_rows=(rows["eye", "upper"], rows["eye", "lower"]),
        mouth_rows=(rows["mouth", "upper"], rows["mouth", "lower"]),
        eye_side=np.array(eye_side, np.float32),
        mouth_side=np.array(mouth_side, np.float32),
        rim=np.array(rim, np.float32),
        skip_row=np.array(skip, np.uint8),
    )


def _behind(
    row: np.ndarray, depth: float, side: int, half_width: float, centre: float, facing: np.ndarray
) -> np.ndarray:
    """A copy of an edge row, moved back by ``depth`` and a little away from the slit, as a lip's inside.

    Beyond the slit's corners the copy coincides with its edge.
    """
    s = (np.abs(row[:, 0]) - centre) / half_width
    place = facing * np.sqrt(np.maximum(1.0 - s * s, 0.0))
    moved = row.copy()
    moved[:, 2] += depth * place
    moved[:, 1] += side * place * 0.2 * max(depth - 0.002, 0.0)
    return moved
