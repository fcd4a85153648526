"""Parts behind the slits and beside the head: eyes, teeth, tongue, mouth cavity, ears, collar.

Every part is a sheet of vertices in head space (see ``shape``) with colours and materials of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m2dao.presenter import shape
from m2dao.presenter.people import Person
from m2dao.presenter.texture import fbm, linear
from m2dao.regions import REGIONS

FACIAL, ORAL, HEAD, TORSO = (channel + 1 for channel in range(len(REGIONS)))  # labels of pixels; 0 is background


@dataclass
class Sheet:
    """A shaded grid of vertices.

    Args:
        points: f32 [R, C, 3] in head space, at rest.
        albedo: f32 [R, C, 3], linear.
        material: f32 [R, C, 3]: specular strength, specular exponent, scattering.
        region: u8 [R, C].
        weight: f32 [R, C]: 1 moves with the head, 0 with the torso.
        wrap: whether the last column repeats the first.
        skip_row: u8 [R].
    """

    points: np.ndarray
    albedo: np.ndarray
    material: np.ndarray
    region: np.ndarray
    weight: np.ndarray
    wrap: bool
    skip_row: np.ndarray
    light: np.ndarray | None = None  # f32 [R, C, 2] once baked: openness, key light


def make_sheet(points, albedo, *, region, specular=0.3, gloss=20.0, scatter=0.0, weight=1.0, wrap=False) -> Sheet:
    """A sheet of one region and, unless arrays are given, one material."""
    shape_ = points.shape[:2]
    material = np.empty((*shape_, 3), np.float32)
    material[..., 0], material[..., 1], material[..., 2] = specular, gloss, scatter
    return Sheet(
        points=np.ascontiguousarray(points, np.float32),
        albedo=np.ascontiguousarray(np.broadcast_to(albedo, (*shape_, 3)), np.float32),
        material=material,
        region=np.full(shape_, region, np.uint8),
        weight=np.ascontiguousarray(np.broadcast_to(weight, shape_), np.float32),
        wrap=wrap,
        skip_row=np.zeros(shape_[0], np.uint8),
    )


def eyeball(person: Person, sign: float, seed: int) -> Sheet:
    """An eyeball centred on the origin that looks along -z; the caller rotates and places it."""
    rows, cols = 72, 73
    tilt = np.linspace(0.0, 1.75, rows)[:, None]  # angle from the optical axis
    turn = np.linspace(0.0, 2 * np.pi, cols)[None, :]
    iris_angle = 0.485
    bulge = 1.0 + 0.045 * shape.smoothstep(iris_angle * 1.15, 0.1, tilt)  # cornea
    r = shape.EYE_RADIUS * bulge
    points = np.stack(
        [r * np.sin(tilt) * np.cos(turn), r * np.sin(tilt) * np.sin(turn), -r * np.cos(tilt) + 0 * turn], -1
    )
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 2 * np.pi, 12)
    fibres = sum(np.sin(turn * k + phase[i] + 6 * tilt) for i, k in enumerate((9, 13, 17, 23, 31, 41, 53))) / 7
    ratio = tilt / iris_angle
    iris = np.array(linear(person.iris))
    shade = 0.75 + 0.55 * ratio + 0.30 * fibres
    collar = np.exp(-(((ratio - 0.5) / 0.16) ** 2))
    iris_color = iris * shade[..., None] * (1 + 0.5 * collar[..., None] * np.array([1.25, 0.95, 0.6]))
    iris_color = iris_color * (1 - 0.75 * shape.smoothstep(0.80, 1.0, ratio))[..., None]
    white = np.array(linear((212, 205, 200))) * np.ones_like(iris_color)
    red = shape.smoothstep(0.75, 1.6, tilt + 0 * turn)[..., None]
    white = white * (1 - red * np.array([0.25, 0.48, 0.46]))
    color = np.where((ratio < 0.36)[..., None], 0.006, iris_color)
    edge = shape.smoothstep(0.90, 1.12, ratio + 0 * turn)[..., None]
    color = color * (1 - edge) + white * edge
    pupil_edge = shape.smoothstep(0.42, 0.30, ratio + 0 * turn)[..., None]
    color = color * (1 - pupil_edge) + 0.006 * pupil_edge
    # rows go outwards: reverse so that the surface faces the camera
    return make_sheet(points[:, ::-1], color[:, ::-1], region=FACIAL, specular=2.2, gloss=260.0, scatter=0.15)


def teeth(person: Person, *, upper: bool) -> Sheet:
    """One row of teeth with its gum, as a strip along the dental arch."""
    rows, cols = 40, 181
    u = np.linspace(-1.0, 1.0, cols)[None, :]
    v = np.linspace(0.0, 1.0, rows)[:, None]
    arch = u * 1.30
    widths = np.array([8.6, 6.8, 7.8, 7.0, 7.0, 10.0]) * (1.0 if upper else 0.80)
    edges = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()
    index = np.clip(np.searchsorted(edges, np.abs(u), side="right") - 1, 0, len(widths) - 1)
    within = (np.abs(u) - edges[index]) / (edges[index + 1] - edges[index])  # 0..1 across a tooth
    gap = np.abs(within - 0.5) * 2.0
    crown = np.sqrt(np.maximum(1.0 - gap**6, 0.0))
    lengths = np.array([0.0, -0.0005, 0.0001, -0.0005, -0.0010, -0.0015])[index]
    half, depth = (0.0235, 0.040) if upper else (0.0215, 0.037)
    front = -0.0475 if upper else -0.0455
    x = half * np.sin(arch) + 0 * v
    z = front + depth * (1.0 - np.cos(arch)) + 0 * v
    gum_height, edge_height = (0.0300, 0.0444) if upper else (0.0620, 0.0462)
    span = edge_height - gum_height
    rounding = 0.00035 * shape.smoothstep(0.55, 1.0, gap) * shape.smoothstep(0.7, 1.0, v)
    sign = 1.0 if upper else -1.0
    y = gum_height + v * span + sign * (lengths - rounding) * shape.smoothstep(0.3, 1.0, v)
    relief = 0.0011 * crown * shape.smoothstep(0.22, 0.42, v) - 0.0012 * shape.smoothstep(0.8, 1.0, v)
    z = z - relief
    points = np.stack([x, y, z], -1)
    margin = 0.36 + 0.10 * gap**2 - 0.04 * (index == 2)  # the gum scallops over each tooth
    is_tooth = shape.smoothstep(-0.03, 0.03, v - margin)[..., None]
    ivory = np.array(linear((226, 214, 192))) * (1 - 0.10 * (np.abs(u) + 0 * v)[..., None])
    ivory = ivory * (1 - 0.20 * shape.smoothstep(0.35, 0.0, v - margin)[..., None] * np.array([0.3, 0.6, 1.0]))
    ivory = ivory * (1 - 0.34 * shape.smoothstep(0.84, 1.0, gap + 0 * v)[..., None])
    gum = np.array(linear((176, 92, 92)))
    color = gum * (1 - is_tooth) + ivory * is_tooth
    cave = (0.30 + 0.70 * np.cos(np.clip(arch, -1.4, 1.4)) ** 1.5)[..., None]  # side teeth lie in the dark
    if not upper:
        points, color = points[::-1], color[::-1]
        cave = cave * 0.8
    return make_sheet(points, color * cave, region=ORAL, specular=0.7, gloss=60.0, scatter=0.3)


def tongue() -> Sheet:
    """The tongue's back and tip, resting on the floor of the mouth."""
    rows, cols = 48, 49
    u = np.linspace(-1.0, 1.0, cols)[None, :]
    v = np.linspace(0.0, 1.0, rows)[:, None]
    breadth = 0.0165 * np.sqrt(np.maximum(1.0 - (v * 0.985) ** 4, 0.0)) * np.ones_like(u)
    x = breadth * np.sin(u * np.pi / 2)
    z = 0.000 - 0.0430 * np.sin(v * np.pi / 2)
    groove = 0.0011 * np.exp(-((u / 0.16) ** 2)) * (1 - v)
    y = 0.0485 + 0.0060 * (1 - np.cos(u * np.pi / 2)) + 0.0075 * v**4 + groove + 0.004 * v
    points = np.stack([x, y + 0 * x, z + 0 * x], -1)
    bumps = 0.85 + 0.3 * fbm(points * 900.0, 2)
    color = np.array(linear((188, 98, 96))) * bumps[..., None]
    depth = shape.smoothstep(0.004, -0.040, points[..., 2])
    return make_sheet(
        points, color * (0.10 + 0.55 * depth)[..., None], region=ORAL, specular=0.8, gloss=34.0, scatter=0.4
    )


def cavity() -> Sheet:
    """The dark back of the mouth: a curtain behind the tongue that fills every opening."""
    x, y = np.meshgrid(np.linspace(-0.036, 0.036, 25), np.linspace(0.022, 0.082, 25))
    z = 0.004 + 0.0 * x - 0.55 * np.maximum(np.abs(x) - 0.024, 0.0)
    color = np.array(linear((58, 18, 18)))
    return make_sheet(np.stack([x, y, z], -1), color * 0.30, region=ORAL, specular=0.0)


def ear(person: Person, sign: float) -> Sheet:
    """An ear: a dished disk with a rolled rim, an inner ridge and a lobe."""
    rows, cols = 44, 97
    rho = np.linspace(0.0, 1.0, rows)[:, None]
    turn = np.linspace(0.0, 2 * np.pi, cols)[None, :]
    forward, up = np.cos(turn), np.sin(turn)
    outline = (
        1.0
        + 0.16 * up * np.abs(up)
        - 0.10 * shape.smoothstep(0.2, 1.0, forward)
        - 0.14 * shape.smoothstep(-0.1, -0.8, up)
    )
    length = 0.0325
    along = rho * outline * up * length
    across = rho * outline * forward * length * 0.54
    rim = 0.0042 * np.exp(-(((rho - 0.90) / 0.075) ** 2)) * shape.smoothstep(-0.95, -0.35, up - 0.25 * forward)
    inner = 0.0034 * np.exp(-(((rho - 0.60 - 0.05 * up) / 0.10) ** 2)) * shape.smoothstep(0.5, -0.3, forward)
    bowl = -0.0075 * np.exp(-((rho / 0.40) ** 2))
    tragus = 0.0046 * np.exp(-(((across - 0.0110) / 0.0040) ** 2) - (((along + 0.002) / 0.0055) ** 2))
    lobe = 0.0020 * np.exp(-(((along + 0.026) / 0.0070) ** 2))
    out = rim + inner + bowl + tragus + lobe - 0.010 * shape.smoothstep(0.93, 1.0, rho)
    flare = 0.45 * (0.018 - across)  # the back of the ear stands away from the head
    lean = 0.22 * along
    x = sign * (0.0735 * person.face_width + np.maximum(flare, -0.004) + out)
    y = 0.000 - along
    z = 0.0330 - across + lean * 0.6
    points = np.stack([x + 0 * y, y, z], -1)
    if sign > 0:
        points = points[:, ::-1]
    skin = np.array(linear(person.skin)) * np.array([1.02, 0.86, 0.82])
    hollow = 1.0 - 0.55 * np.exp(-((rho / 0.36) ** 2)) - 0.28 * np.exp(-(((rho - 0.76) / 0.05) ** 2))
    color = skin * (hollow * np.ones_like(turn))[..., None]
    if sign > 0:
        color = color[:, ::-1]
    return make_sheet(points, color, region=HEAD, specular=0.35, gloss=14.0, scatter=1.0, wrap=True)
