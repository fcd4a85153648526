"""Strands: head hair, brows, lashes and beard, as polylines rooted in the head's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from m2dao.presenter import shape, skin
from m2dao.presenter.parts import FACIAL, HEAD
from m2dao.presenter.people import Person
from m2dao.presenter.texture import fbm, linear

SKULL = np.array([0.0, -0.030, 0.0425])  # centre of the ellipsoid that hair lies on
SKULL_RADII = np.array([0.0785, 0.0985, 0.0960])


@dataclass(frozen=True)
class Strands:
    """Many strands of one colour.

    Args:
        roots: i64 [N], index into the flattened grid; strands move with their root.
        offsets: f32 [N, M, 3], points relative to the root at rest.
        tint: f32 [N], brightness.
        seen: f32 [N, M], openness to light.
        base: f32 [3], linear albedo.
        region: number of the motion region.
        bias: metres of tolerance against the depth buffer.
    """

    roots: np.ndarray
    offsets: np.ndarray
    tint: np.ndarray
    seen: np.ndarray
    base: np.ndarray
    region: int
    bias: float


def _strands(roots, offsets, tint, seen, color, region, bias) -> Strands:
    return Strands(
        roots=np.asarray(roots, np.int64),
        offsets=np.ascontiguousarray(offsets, np.float32),
        tint=np.asarray(tint, np.float32),
        seen=np.ascontiguousarray(np.broadcast_to(seen, offsets.shape[:2]), np.float32),
        base=np.asarray(linear(color), np.float32),
        region=region,
        bias=bias,
    )


def _sample_roots(share: np.ndarray, points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of grid vertices, drawn by area times ``share`` [R, C]."""
    across = np.linalg.norm(np.gradient(points, axis=1), axis=-1)
    down = np.linalg.norm(np.gradient(points, axis=0), axis=-1)
    mass = (share * across * down).ravel()
    return rng.choice(mass.size, size=count, p=mass / mass.sum())


def scalp_share(points: np.ndarray, person: Person) -> np.ndarray:
    """Where hair grows on the head, 0..1 with a ragged border; f64 [R, C]."""
    x, y, z = np.moveaxis(points.astype(np.float64), -1, 0)
    line = skin.hairline(x, z, person) + 0.006 * (fbm(points * 180.0, 2) - 0.5)
    return shape.smoothstep(0.003, -0.004, y - line)


def head_hair(points: np.ndarray, normals: np.ndarray, person: Person, rng: np.random.Generator) -> Strands:
    """The hair on the head in the person's style."""
    if person.hair_style == "bob":
        return _bob(points, person, rng)
    return _short(points, normals, person, rng)


def _short(points, normals, person, rng) -> Strands:
    count, num = 15000, 7
    roots = _sample_roots(scalp_share(points, person), points, count, rng)
    p = points.reshape(-1, 3)[roots].astype(np.float64)
    n = normals.reshape(-1, 3)[roots].astype(np.float64)
    top = shape.smoothstep(-0.060, -0.100, p[:, 1])
    length = (0.0055 + 0.0135 * top) * rng.uniform(0.75, 1.25, count)
    comb = np.stack([0.35 + 0.1 * rng.standard_normal(count), 0.6 - 1.0 * top, 0.5 - 0.9 * top], -1)
    comb -= n * (comb * n).sum(1, keepdims=True)
    swirl = fbm(p * 60.0, 2)[:, None] - 0.5
    direction = n * (0.55 + 0.5 * top)[:, None] + comb * 0.6 + 0.25 * rng.standard_normal((count, 3)) + swirl
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    t = np.linspace(0.0, 1.0, num)[None, :, None]
    curl = np.cross(direction, n) * 0.25
    offsets = length[:, None, None] * (direction[:, None] * t + (comb * 0.35 + curl)[:, None] * t**2)
    depth = np.linspace(0.35, 1.0, num)[None, :]
    return _strands(roots, offsets, rng.uniform(0.6, 1.4, count), depth, person.hair, HEAD, 0.0006)


def _scalp_table(points: np.ndarray) -> RegularGridInterpolator:
    """How far the head reaches beyond the skull's ellipsoid, as a factor, over (turn, polar angle)."""
    upper = points.astype(np.float64).reshape(-1, 3)
    q = (upper[upper[:, 1] < 0.030] - SKULL) / SKULL_RADII
    factor = np.linalg.norm(q, axis=1)
    turn, polar = np.arctan2(q[:, 0], -q[:, 2]), np.arccos(np.clip(-q[:, 1] / factor, -1, 1))
    turns, polars = np.linspace(-np.pi, np.pi, 97), np.linspace(0.0, 2.2, 45)
    i = np.clip(np.round((turn + np.pi) / (2 * np.pi) * 96).astype(int), 0, 96)
    j = np.clip(np.round(polar / 2.2 * 44).astype(int), 0, 44)
    table = np.zeros((97, 45))
    np.maximum.at(table, (i, j), factor)
    for _ in range(6):  # fill what no vertex hit from its neighbours
        around = np.maximum.reduce([np.roll(table, s, axis) for axis in (0, 1) for s in (-1, 1)])
        table = np.where(table == 0, around, table)
    table[[0, -1]] = np.maximum(table[0], table[-1])
    table = gaussian_filter(table, 1.0, mode=("wrap", "nearest"))
    return RegularGridInterpolator((turns, polars), table, bounds_error=False, fill_value=None)


def _bob(points, person, rng) -> Strands:
    count, num = 13000, 26
    share = scalp_share(points, person) * (points[..., 1] < 0.020)
    roots = _sample_roots(share, points, count, rng)
    p = points.reshape(-1, 3)[roots].astype(np.float64)
    q = (p - SKULL) / SKULL_RADII
    turn = np.arctan2(q[:, 0], -q[:, 2])
    polar = np.arccos(np.clip(-q[:, 1] / np.linalg.norm(q, axis=1), -1, 1))
    part = -0.016
    sign = np.where(p[:, 0] > part, 1.0, -1.0)
    clump = np.floor((turn + 0.4 * polar) * 14.0) + 40.0 * np.floor(polar * 5.0)
    clump_noise = fbm(np.stack([clump * 7.3, clump * 0.0, clump * 0.0], -1), 1) - 0.5
    layer = np.sort(rng.uniform(0.0, 1.0, count) ** 0.7)[::-1]  # outer strands first: they hide the others
    # strands of the forehead swing to the temples before they fall
    goal = np.maximum(np.abs(turn), 1.24 + 0.20 * rng.uniform(-1, 1, count) + 0.20 * clump_noise)
    goal = sign * np.where(np.abs(turn) > 1.2, np.abs(turn), goal)
    goal = np.where(sign * turn < -0.9, turn, goal)  # at the back nobody crosses over
    end_y = 0.090 + 0.006 * clump_noise + 0.007 * rng.standard_normal(count)
    t = np.linspace(0.0, 1.0, num)[None, :]
    equator = np.pi / 2
    split = np.clip((equator - polar) / (equator - polar + 1.25), 0.02, 0.9)[:, None]
    on_skull = np.clip(t / split, 0.0, 1.0)
    angle = polar[:, None] + (equator - polar[:, None]) * on_skull
    theta = turn[:, None] + (goal - turn)[:, None] * on_skull**0.62
    fall = np.clip((t - split) / (1.0 - split), 0.0, 1.0)
    lift = (0.0025 + 0.0125 * layer)[:, None] * shape.smoothstep(0.0, 0.35, t) + 0.0010
    lift = lift + 0.006 * np.sin(np.pi * np.clip(fall * 1.05, 0, 1)) * layer[:, None]
    lift = lift - 0.014 * shape.smoothstep(0.65, 1.0, fall) * (0.4 + 0.6 * layer[:, None])
    wave = 0.035 * np.sin(fall * 6.0 + clump[:, None] * 1.7) * fall + 0.02 * clump_noise[:, None] * fall
    theta = theta + wave * sign[:, None]
    ring = np.sin(angle)
    wrapped = (theta + np.pi) % (2 * np.pi) - np.pi
    factor = _scalp_table(points)(np.stack([wrapped, angle], -1))
    radius = SKULL_RADII[None, None] * factor[..., None] + lift[..., None]
    x = SKULL[0] + radius[..., 0] * ring * np.sin(theta)
    z = SKULL[2] - radius[..., 2] * ring * np.cos(theta)
    y = SKULL[1] - radius[..., 1] * np.cos(angle) + fall * (end_y[:, None] - SKULL[1])
    strand = np.stack([x, y, z], -1) + 0.0004 * rng.standard_normal((count, 1, 3))
    for _ in range(3):  # no kink where a strand leaves the skull
        strand[:, 1:-1] = 0.25 * strand[:, :-2] + 0.5 * strand[:, 1:-1] + 0.25 * strand[:, 2:]
    offsets = strand - p[:, None]
    seen = (0.22 + 0.78 * layer[:, None] ** 1.3) * (0.45 + 0.55 * shape.smoothstep(0.0, 0.20, t))
    tint = (0.65 + 0.7 * rng.uniform(0, 1, count)) * (1.0 + 0.5 * clump_noise)
    return _strands(roots, offsets, tint, seen, person.hair, HEAD, 0.0004)


def brows(points: np.ndarray, normals: np.ndarray, person: Person, rng: np.random.Generator) -> Strands:
    """Hairs of both brows, combed outwards."""
    x, y, z = np.moveaxis(points.astype(np.float64), -1, 0)
    middle, thick = skin.brow_curve(np.abs(x), person)
    inside = (np.abs(x) > 0.0115) & (np.abs(x) < 0.0525) & (z < 0.0)
    share = inside * np.exp(-(((y - middle) / (0.75 * thick + 1e-4)) ** 2))
    count, num = int(900 * person.brow_weight), 5
    roots = _sample_roots(share, points, count, rng)
    p, n = points.reshape(-1, 3)[roots].astype(np.float64), normals.reshape(-1, 3)[roots].astype(np.float64)
    ahead = np.sign(p[:, 0])[:, None]
    inner = shape.smoothstep(0.026, 0.012, np.abs(p[:, 0]))[:, None]
    middle, _ = skin.brow_curve(np.abs(p[:, 0]), person)
    towards = np.clip((middle - p[:, 1]) / 0.004, -1, 1)[:, None]
    direction = np.concatenate([ahead * (1 - 0.6 * inner), -0.25 - 0.7 * inner + 0.5 * towards, 0.25 + 0 * inner], 1)
    direction += 0.16 * rng.standard_normal((count, 3))
    direction -= n * (direction * n).sum(1, keepdims=True)
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True) + 0.12 * n
    t = np.linspace(0.0, 1.0, num)[None, :, None]
    length = rng.uniform(0.0030, 0.0062, count)[:, None, None]
    offsets = length * direction[:, None] * t + 0.0003 * n[:, None]
    return _strands(roots, offsets, rng.uniform(0.5, 1.1, count), 0.8, person.hair, FACIAL, 0.0008)


def beard(points: np.ndarray, normals: np.ndarray, person: Person, rng: np.random.Generator) -> Strands | None:
    """A short beard, where the person has one."""
    if not person.stubble:
        return None
    x, y, z = np.moveaxis(points.astype(np.float64), -1, 0)
    share = skin.beard_share(np.abs(x), y, z, person) ** 2
    upper, lower = shape.lip_borders(x, person)
    share = share * ~((y > upper - 0.001) & (y < lower + 0.001) & (np.abs(x) < shape.MOUTH_HALF_WIDTH * 1.05))
    count, num = 7000, 4
    roots = _sample_roots(share, points, count, rng)
    p, n = points.reshape(-1, 3)[roots].astype(np.float64), normals.reshape(-1, 3)[roots].astype(np.float64)
    direction = np.stack([0.4 * np.sign(p[:, 0]), np.full(count, 0.9), np.full(count, 0.1)], -1)
    direction += 0.45 * rng.standard_normal((count, 3))
    direction -= 0.6 * n * (direction * n).sum(1, keepdims=True)
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True) + 0.45 * n
    t = np.linspace(0.0, 1.0, num)[None, :, None]
    offsets = rng.uniform(0.0015, 0.0036, count)[:, None, None] * direction[:, None] * t
    return _strands(roots, offsets, rng.uniform(0.5, 1.3, count), 0.75, person.hair, FACIAL, 0.0005)


def lashes(grid: shape.HeadGrid, person: Person, rng: np.random.Generator) -> tuple[Strands, np.ndarray]:
    """Upper lashes on the edge of the lids.

    Returns:
        the strands with the lid open, and f32 [N, M, 3], the offsets with the lid closed.
    """
    row = grid.eye_rows[0]
    x = grid.points[row, :, 0]
    share = (shape.eye_arch(x) > 0.04) * (grid.points[row, :, 2] < 0)
    count, num = int(84 * person.lashes), 6
    cols = rng.choice(len(x), size=count, p=share / share.sum())
    roots = row * grid.points.shape[1] + cols
    s = (np.abs(x[cols]) - shape.EYE_X) / shape.EYE_HALF_WIDTH
    outwards = np.sign(x[cols]) * (0.15 + 0.55 * s) + 0.12 * rng.standard_normal(count)
    length = (0.0040 + 0.0026 * np.clip(s, -0.5, 1)) * rng.uniform(0.75, 1.15, count) * min(person.lashes, 1.2)
    t = np.linspace(0.0, 1.0, num)[None, :]

    def curve(rise):
        ox = length[:, None] * outwards[:, None] * t
        oy = length[:, None] * (0.25 * t - rise * t**2)
        oz = -length[:, None] * 0.85 * t
        return np.stack([ox, oy, oz], -1).astype(np.float32)

    open_, closed = curve(1.0), curve(-0.55)
    return _strands(roots, open_, rng.uniform(0.6, 1.3, count), 0.6, (40, 26, 20), FACIAL, 0.0015), closed
