"""Out-of-focus rooms behind the presenters."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from m2dao.presenter.people import Person
from m2dao.presenter.texture import fbm, linear

_OUT_OF_FOCUS, _IN_FOCUS = 5.0, 0.8  # standard deviation of the blur, of a picture of 256


def make_backdrop(person: Person, size: int, seed: int) -> np.ndarray:
    """The room behind a presenter, f32 [size, size, 3], linear light, blurred like a far background."""
    rng = np.random.default_rng([seed, 77])
    base = 256
    y, x = np.mgrid[0:base, 0:base] / base
    image = _ROOMS[person.backdrop](x, y, rng)
    blur = _IN_FOCUS if person.backdrop == "garden" else _OUT_OF_FOCUS
    image = np.stack([gaussian_filter(image[..., i], blur, mode="nearest") for i in range(3)], -1)
    grid = (np.arange(size) + 0.5) / size * base - 0.5
    low = np.clip(np.floor(grid).astype(int), 0, base - 2)
    f = np.clip(grid - low, 0.0, 1.0)
    rows = image[low] * (1 - f)[:, None, None] + image[low + 1] * f[:, None, None]
    full = rows[:, low] * (1 - f)[None, :, None] + rows[:, low + 1] * f[None, :, None]
    v, u = np.mgrid[0:size, 0:size] / size
    plaster = fbm(np.stack([u * 24, v * 24, 0 * u], -1), 4)
    return (full * (0.96 + 0.08 * plaster)[..., None]).astype(np.float32)


def _fill(image, x, y, box, color):
    x0, y0, x1, y1 = box
    image[(x >= x0) & (x < x1) & (y >= y0) & (y < y1)] = color


def _library(x, y, rng):
    """A warm wall with two book shelves and a lamp."""
    wall = np.array(linear((196, 172, 142)))
    image = wall * (0.75 + 0.35 * x)[..., None] * (1.05 - 0.35 * y)[..., None]
    wood = np.array(linear((96, 62, 38)))
    _fill(image, x, y, (0.0, 0.0, 0.34, 1.0), wood * 0.55)
    covers = [(150, 52, 44), (44, 74, 96), (190, 160, 96), (60, 92, 70), (110, 60, 88), (206, 196, 178), (70, 70, 84)]
    for shelf in np.arange(0.02, 1.0, 0.195):
        left = 0.005
        while left < 0.30:
            wide = rng.uniform(0.014, 0.032)
            tall = rng.uniform(0.115, 0.165)
            color = np.array(linear(covers[rng.integers(len(covers))])) * rng.uniform(0.5, 0.9)
            _fill(image, x, y, (left, shelf + 0.175 - tall, left + wide, shelf + 0.175), color)
            left += wide + rng.uniform(0.0, 0.004)
        _fill(image, x, y, (0.0, shelf + 0.175, 0.34, shelf + 0.193), wood)
    glow = np.exp(-(((x - 0.86) / 0.16) ** 2) - (((y - 0.30) / 0.20) ** 2))
    shade = (np.abs(x - 0.86) < 0.07 + 0.10 * (y - 0.20)) & (y > 0.20) & (y < 0.36)
    image = image + glow[..., None] * np.array([0.42, 0.27, 0.12])
    image[shade] = np.array([1.05, 0.82, 0.52])
    _fill(image, x, y, (0.853, 0.36, 0.867, 0.62), np.array(linear((60, 46, 30))))
    _fill(image, x, y, (0.70, 0.62, 1.0, 0.66), wood * 0.9)
    return image


def _office(x, y, rng):
    """A cool wall with a window, a plant and a cupboard."""
    wall = np.array(linear((126, 142, 156)))
    image = wall * (1.10 - 0.55 * x)[..., None] * (1.0 - 0.15 * y)[..., None]
    _fill(image, x, y, (0.03, 0.04, 0.33, 0.60), np.array(linear((226, 238, 246))))
    sky = (x >= 0.03) & (x < 0.33) & (y >= 0.30) & (y < 0.60)
    image[sky] *= np.array([0.45, 0.55, 0.50])
    for bar in (0.03, 0.175, 0.322):
        _fill(image, x, y, (bar - 0.008, 0.04, bar + 0.008, 0.60), np.array(linear((96, 104, 112))))
    for bar in (0.04, 0.31, 0.595):
        _fill(image, x, y, (0.022, bar - 0.008, 0.33, bar + 0.008), np.array(linear((96, 104, 112))))
    _fill(image, x, y, (0.70, 0.42, 1.0, 1.0), np.array(linear((92, 74, 60))))
    _fill(image, x, y, (0.70, 0.42, 1.0, 0.44), np.array(linear((142, 116, 92))))
    for _ in range(46):
        angle, length = rng.uniform(-2.6, -0.5), rng.uniform(0.08, 0.24)
        t = np.linspace(0, 1, 40)
        px, py = 0.86 + np.cos(angle) * length * t, 0.36 + np.sin(angle) * length * t + 0.10 * t * t
        green = np.array(linear((58, 104, 58))) * rng.uniform(0.5, 1.5)
        for a, b, w in zip(px, py, 0.010 * np.sin(np.pi * (0.15 + 0.85 * t)), strict=True):
            _fill(image, x, y, (a - w, b - w, a + w, b + w), green)
    _fill(image, x, y, (0.81, 0.34, 0.91, 0.43), np.array(linear((206, 200, 190))))
    return image


def _garden(x, y, rng):
    """Leaves, flowers and light between them, hardly out of focus: as busy as a background gets."""
    image = np.broadcast_to(np.array(linear((52, 84, 44))), (*x.shape, 3)).copy()
    greens = [
        (66, 112, 52),
        (98, 140, 60),
        (40, 70, 40),
        (150, 168, 92),
        (214, 222, 190),
        (176, 120, 96),
        (206, 172, 150),
    ]
    for _ in range(900):
        u, v, turn = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, np.pi)
        along, across = rng.uniform(0.012, 0.05), rng.uniform(0.006, 0.02)
        a = (x - u) * np.cos(turn) + (y - v) * np.sin(turn)
        b = (y - v) * np.cos(turn) - (x - u) * np.sin(turn)
        leaf = (a / along) ** 2 + (b / across) ** 2 < 1
        image[leaf] = np.array(linear(greens[rng.integers(len(greens))])) * rng.uniform(0.5, 1.3)
    return image


_ROOMS = {"library": _library, "office": _office, "garden": _garden}
