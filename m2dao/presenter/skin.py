"""Colour and material of the head's grid: skin, lips, brows, stubble, clothes, regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2dao.presenter import shape
from m2dao.presenter.parts import FACIAL, HEAD, ORAL, TORSO, Sheet
from m2dao.presenter.people import Person
from m2dao.presenter.texture import fbm, linear

# border of the face seen from the front: half-width of the facial region over height
_OVAL_Y = np.array(
    [
        -0.085,
        -0.075,
        -0.066,
        -0.054,
        -0.041,
        -0.024,
        0.0,
        0.029,
        0.048,
        0.062,
        0.072,
        0.080,
        0.0855,
        0.090,
        0.0935,
        0.0965,
    ]
)
_OVAL_X = np.array(
    [0.020, 0.051, 0.0615, 0.069, 0.0725, 0.0735, 0.073, 0.070, 0.065, 0.058, 0.050, 0.041, 0.0325, 0.0235, 0.0125, 0.0]
)


@dataclass(frozen=True)
class _Surface:
    """Where the grid [R, C] lies, and the noise [R, C] that its colours vary with."""

    points: np.ndarray  # [R, C, 3] metres
    offset: np.ndarray  # [3] where in the noise this person lies
    mottled: np.ndarray
    pores: np.ndarray

    @property
    def xyz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y, z = np.moveaxis(self.points, -1, 0)
        return x, y, z


@dataclass(frozen=True)
class _Paint:
    """What is painted onto the grid, in place."""

    color: np.ndarray  # [R, C, 3]
    material: np.ndarray  # [R, C, 3]
    region: np.ndarray  # u8 [R, C]


def hairline(x: np.ndarray, z: np.ndarray, person: Person) -> np.ndarray:
    """Height above which the scalp is covered with hair."""
    ax = np.abs(x)
    if person.hair_style == "short":
        front = -0.0790 + 0.010 * np.exp(-((ax / 0.020) ** 2)) * 0.4 - 0.004 * np.exp(-(((ax - 0.040) / 0.012) ** 2))
        sides = -0.050 + 0.052 * shape.smoothstep(-0.010, 0.010, z)  # sideburns in front of the ear
        front = front + (np.maximum(front, sides) - front) * shape.smoothstep(-0.030, -0.006, z)
        return np.where(z > 0.045, 0.020 + 0.050 * shape.smoothstep(0.05, 0.09, z), front)
    front = -0.0820 + 0.016 * shape.smoothstep(0.030, 0.066, ax)
    front = np.where(z > -0.018, np.maximum(front, -0.052 + 0.060 * shape.smoothstep(-0.012, 0.014, z)), front)
    return np.where(z > 0.030, 0.072, front)


def facial_share(points: np.ndarray, person: Person) -> np.ndarray:
    """1 where the grid is facial skin seen from the front, 0 elsewhere, from height and half-width."""
    x, y, z = np.moveaxis(points.astype(np.float64), -1, 0)
    level = y - person.chin_drop * shape.smoothstep(0.05, 0.088, y)
    border = np.interp(level, _OVAL_Y, _OVAL_X, left=0.0, right=0.0) * person.face_width
    return ((np.abs(x) < border) & (z < 0.030) & (y > hairline(x, z, person))).astype(np.float64)


def collar_line(x: np.ndarray, z: np.ndarray, person: Person) -> np.ndarray:
    """Height below which the grid wears clothes."""
    if person.clothes == "jacket":
        return 0.143 + 0.0 * x - 0.012 * shape.smoothstep(0.02, 0.08, z)
    front = shape.smoothstep(0.03, -0.01, z)
    return 0.146 + 0.034 * front * np.exp(-((x / 0.052) ** 2)) + 0.0 * z


def paint_head(grid: shape.HeadGrid, person: Person, seed: int) -> Sheet:
    """The head's sheet with colours, materials, regions and skinning weights; clothes thicken it."""
    points = grid.points.astype(np.float64)
    rng = np.random.default_rng([seed, 7])
    offset = rng.uniform(0, 50, 3)
    surface = _Surface(points, offset, mottled=fbm(points * 120.0 + offset, 4), pores=fbm(points * 1500.0 + offset, 2))
    x, y, z = surface.xyz
    color = _skin_color(surface, person, rng)
    material = np.empty_like(color)
    oily = np.exp(-((x / 0.020) ** 2) - (((y + 0.03) / 0.05) ** 2)) + np.exp(-((x / 0.012) ** 2) - ((y / 0.02) ** 2))
    material[..., 0] = 0.22 + 0.20 * np.clip(oily, 0, 1) + 0.25 * (surface.pores - 0.5)
    material[..., 1] = 13.0
    material[..., 2] = 1.0
    region = np.where(facial_share(points, person) > 0.5, FACIAL, HEAD).astype(np.uint8)
    region[(y > jaw_edge(np.abs(x), person)) & (region != FACIAL)] = TORSO
    _lips(grid, surface, _Paint(color, material, region), person)
    _dress(points, grid, person, color, material, offset)
    weight = shape.smoothstep(0.150, 0.088, y + 0.25 * np.maximum(z - 0.02, 0.0))
    return Sheet(
        points=points.astype(np.float32),
        albedo=np.clip(color, 0.002, 0.95).astype(np.float32),
        material=material.astype(np.float32),
        region=region,
        weight=weight.astype(np.float32),
        wrap=True,
        skip_row=grid.skip_row,
    )


def _skin_color(surface: _Surface, person: Person, rng: np.random.Generator) -> np.ndarray:
    """Skin with blush, lids, nostrils, freckles, stubble and brows: [R, C, 3]."""
    x, y, z = surface.xyz
    skin = np.array(linear(person.skin))
    tone = 0.90 + 0.20 * surface.mottled + 0.10 * (surface.pores - 0.5)
    color = skin * tone[..., None]

    def tint(share, rgb):
        nonlocal color
        color = color * (1 + share[..., None] * (np.array(rgb) - 1))

    ax = np.abs(x)
    blob = lambda cx, cy, w, h: np.exp(-(((ax - cx) / w) ** 2) - (((y - cy) / h) ** 2))  # noqa: E731
    front = shape.smoothstep(0.03, -0.01, z)
    tint(front * blob(0.041, 0.006, 0.018, 0.016) * 0.55 * person.blush, (1.08, 0.74, 0.72))
    tint(front * blob(0.0, 0.010, 0.012, 0.010) * 0.50 * person.blush, (1.08, 0.78, 0.76))
    tint(front * blob(0.030, -0.0155, 0.014, 0.006) * 0.35, (0.86, 0.74, 0.78))  # shade below the eyes
    tint(front * blob(0.0316, -0.034, 0.015, 0.006) * 0.35, (0.86, 0.72, 0.70))  # upper lids
    tint(front * blob(0.0066, 0.0176, 0.0030, 0.0019) * 0.93, (0.10, 0.05, 0.05))  # nostrils
    tint(front * blob(0.0170, 0.0105, 0.0020, 0.0065) * 0.35, (0.75, 0.55, 0.5))
    tint(front * blob(0.0, 0.0205, 0.009, 0.0022) * 0.35, (0.72, 0.55, 0.5))
    tint(shape.smoothstep(0.085, 0.105, y) * 0.4, (0.92, 0.90, 0.90))
    crease_y = shape.eye_line(x) - 0.0060 * shape.eye_arch(x) ** 0.7 - 0.0012  # where the open lid folds
    crease = np.exp(-(((y - crease_y) / 0.0007) ** 2)) * shape.eye_arch(x) ** 0.5
    tint(front * crease * 0.45, (0.62, 0.45, 0.42))
    if person.freckles:
        tint(_freckles(surface.points, rng) * person.freckles, (0.66, 0.48, 0.38))
    if person.stubble:
        color = _stubble(color, surface, person)
    brow = _brow_share(ax, y, z, person)
    hair = np.array(linear(person.hair))
    return color * (1 - 0.55 * brow[..., None]) + hair * 0.55 * brow[..., None]


def _freckles(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small round spots over nose and cheeks, 0..1 [R, C]."""
    spots = np.stack([rng.normal(0.0, 0.027, 170), rng.normal(-0.003, 0.0105, 170)], -1)
    sizes, strengths = rng.uniform(0.0004, 0.0009, 170), rng.uniform(0.3, 1.0, 170)
    near = (np.abs(points[..., 1] + 0.003) < 0.032) & (np.abs(points[..., 0]) < 0.066) & (points[..., 2] < 0.0)
    p = points[near][:, :2]
    share = np.zeros(len(p))
    for spot, size, strength in zip(spots, sizes, strengths, strict=True):
        share = np.maximum(share, strength * np.exp(-(((p - spot) / size) ** 2).sum(1)))
    result = np.zeros(points.shape[:2])
    result[near] = share
    return result


def brow_curve(ax: np.ndarray, person: Person) -> tuple[np.ndarray, np.ndarray]:
    """Middle height of the brow and its half-thickness over |x|."""
    t = np.clip((ax - 0.012) / 0.040, 0.0, 1.0)
    middle = -0.0425 - 0.0062 * np.sin(np.pi * np.clip(t * 0.80, 0, 1)) + 0.0040 * t**3 - person.brow_height
    thick = 0.0030 * person.brow_weight * (1 - 0.75 * t**1.6) * shape.smoothstep(-0.02, 0.10, t)
    return middle, thick


def _brow_share(ax, y, z, person):
    middle, thick = brow_curve(ax, person)
    inside = shape.smoothstep(0.0105, 0.0145, ax) * shape.smoothstep(0.0535, 0.048, ax)
    return inside * np.exp(-(((y - middle) / (thick + 1e-4)) ** 2)) * (z < 0)


def jaw_edge(ax: np.ndarray, person: Person) -> np.ndarray:
    """Height of the jaw's lower edge over |x|; below it is neck."""
    heights = [0.0945, 0.0935, 0.0900, 0.0865, 0.0820, 0.0750, 0.0700, 0.0700]
    return np.interp(ax, [0.0, 0.0125, 0.0235, 0.0325, 0.041, 0.050, 0.058, 0.066], heights) + person.chin_drop


def beard_share(ax: np.ndarray, y: np.ndarray, z: np.ndarray, person: Person) -> np.ndarray:
    """Where a short beard grows, 0..1."""
    chin = shape.smoothstep(0.052, 0.066, y)
    cheek = shape.smoothstep(
        -0.002, 0.014, y - (0.064 - 1.0 * np.maximum(ax - 0.030, 0.0) - 0.5 * np.maximum(ax - 0.048, 0))
    )
    goatee = (
        np.exp(-(((ax - 0.030) / 0.006) ** 2)) * shape.smoothstep(0.028, 0.040, y) * shape.smoothstep(0.080, 0.060, y)
    )
    moustache = np.exp(-(((y - 0.0285 - 0.10 * ax) / 0.0045) ** 2)) * shape.smoothstep(0.032, 0.022, ax)
    soul = 0.6 * np.exp(-((ax / 0.006) ** 2)) * shape.smoothstep(0.053, 0.058, y) * shape.smoothstep(0.075, 0.065, y)
    sides = shape.smoothstep(0.058, 0.070, ax) * shape.smoothstep(-0.045, -0.030, y)
    total = np.maximum.reduce([chin, cheek, goatee, moustache, soul, sides])
    return total * shape.smoothstep(0.030, 0.016, z) * shape.smoothstep(0.010, 0.001, y - jaw_edge(ax, person))


def _stubble(color: np.ndarray, surface: _Surface, person: Person) -> np.ndarray:
    x, y, z = surface.xyz
    grain = fbm(surface.points * 1900.0 + surface.offset, 1)
    share = beard_share(np.abs(x), y, z, person) * person.stubble * (0.42 + 0.40 * shape.smoothstep(0.42, 0.66, grain))
    hair = np.array(linear(person.hair)) * 1.3
    return color * (1 - share[..., None]) + hair * share[..., None]


def _lips(grid: shape.HeadGrid, surface: _Surface, paint: _Paint, person: Person) -> None:
    """Paint the lips, the inner mouth and the inner lids."""
    x, y, _ = surface.xyz
    color, material, region = paint.color, paint.material, paint.region
    upper, lower = shape.lip_borders(x, person)
    half_width = shape.MOUTH_HALF_WIDTH * person.mouth_width
    front = grid.points[..., 2] < 0
    soft = 0.0006
    inside = shape.smoothstep(-soft, soft, y - upper) * shape.smoothstep(-soft, soft, lower - y)
    inside = inside * shape.smoothstep(half_width * 1.02, half_width * 0.97, np.abs(x)) * front
    lines = fbm(np.stack([x * 1600.0, y * 200.0, 0 * x], -1), 2)
    lip = np.array(linear(person.lips)) * (0.80 + 0.25 * surface.mottled + 0.28 * (lines - 0.5))[..., None]
    upper_darker = np.where(grid.mouth_side[:, None] < 0, 0.86, 1.0)[..., None]
    color[:] = color * (1 - inside[..., None]) + lip * upper_darker * inside[..., None]
    rim = grid.rim[:, None]
    in_mouth = (rim > 0) & (np.abs(y - shape.MOUTH_Y) < 0.012)
    wet = np.array(linear((150, 62, 62)))
    deep = np.clip(rim / 0.008, 0, 1)[..., None]
    color[:] = np.where(in_mouth[..., None], (lip * 0.75 * (1 - deep) + wet * 0.30 * deep), color)
    in_lid = (rim > 0) & ~in_mouth & front & (np.abs(np.abs(x) - shape.EYE_X) < 0.016)
    upper_lid = (grid.eye_side[:, None] < 0) & in_lid
    color[:] = np.where(in_lid[..., None], np.array(linear((176, 112, 104))), color)
    color[:] = np.where(upper_lid[..., None], np.array(linear((70, 44, 38))), color)  # the roots of the lashes
    material[..., 0] = material[..., 0] * (1 - inside) + 0.75 * inside
    material[..., 1] = material[..., 1] * (1 - inside) + 26.0 * inside
    region[(inside > 0.5) | (in_mouth & (np.abs(x) < half_width))] = ORAL


def _dress(points, grid, person, color, material, offset):
    """Turn the grid below the collar line into clothes: colour, weave and a little thickness."""
    x, y, z = np.moveaxis(points, -1, 0)
    line = collar_line(x, z, person)
    worn = shape.smoothstep(-0.0016, 0.0016, y - line)
    weave = fbm(points * np.array([900.0, 1200.0, 900.0]) + offset, 2)
    folds = fbm(points * np.array([14.0, 9.0, 14.0]) + offset, 3)
    cloth = np.array(linear(person.cloth)) * (0.75 + 0.25 * weave + 0.5 * (folds - 0.5))[..., None]
    thickness = 0.0035 * shape.smoothstep(0.0, 0.004, y - line) + 0.010 * (folds - 0.5) * shape.smoothstep(
        0.0, 0.06, y - line
    )
    if person.clothes == "sweater":
        band = shape.smoothstep(0.0, 0.001, y - line) * shape.smoothstep(0.0135, 0.0120, y - line)
        ribs = 0.5 + 0.5 * np.sin(np.arctan2(x, z - shape.CENTRE_Z) * 260.0)
        cloth = cloth * (1 - band * (0.12 + 0.22 * ribs))[..., None]
        thickness = thickness + 0.0016 * band
    else:
        cloth, extra = _jacket(x, y, z, cloth, weave, person)
        thickness = thickness + extra
    color[:] = color * (1 - worn[..., None]) + cloth * worn[..., None]
    material[..., 0] = np.where(worn > 0.5, 0.10, material[..., 0])
    material[..., 1] = np.where(worn > 0.5, 6.0, material[..., 1])
    material[..., 2] = np.where(worn > 0.5, 0.15, material[..., 2])
    outward = np.stack([x, 0 * x, z - shape.CENTRE_Z], -1)
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-9
    points += outward * (thickness * worn)[..., None]


def _jacket(x, y, z, cloth, weave, person):
    """Shirt and jacket: an open V with lapels over a shirt with a placket."""
    ax = np.abs(x)
    front = z < shape.CENTRE_Z
    v_edge = 0.030 + np.maximum(0.262 - y, 0.0) * 0.36 - 0.012
    shirt_share = shape.smoothstep(0.0014, -0.0014, ax - v_edge) * front
    shirt = np.array(linear(person.shirt)) * (0.86 + 0.10 * weave)[..., None]
    placket = np.exp(-(((ax - 0.010) / 0.0007) ** 2)) * 0.30
    button = ((x**2 + ((y - 0.166) ** 2)) < 0.0022**2) | ((x**2 + ((y - 0.202) ** 2)) < 0.0022**2)
    shirt = shirt * (1 - placket - 0.30 * button)[..., None]
    lapel_width = 0.030 * shape.smoothstep(0.135, 0.175, y)
    lapel = (
        shape.smoothstep(-0.001, 0.001, ax - v_edge)
        * shape.smoothstep(0.001, -0.001, ax - v_edge - lapel_width)
        * front
    )
    edge = np.exp(-(((ax - v_edge - lapel_width) / 0.0012) ** 2)) * front
    cloth = cloth * (1 + 0.10 * lapel - 0.45 * edge)[..., None]
    color = cloth * (1 - shirt_share[..., None]) + shirt * shirt_share[..., None]
    return color, 0.0035 * (1 - shirt_share) + 0.0025 * lapel
