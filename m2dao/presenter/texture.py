"""Colour helpers and the noise that breaks up even surfaces."""

from __future__ import annotations

import numpy as np

from m2dao.kernels.compiled import helper, kernel


def linear(srgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """sRGB bytes to linear light by the 2.2 power approximation that ``raster.resolve`` inverts."""
    return tuple((c / 255.0) ** 2.2 for c in srgb)


@helper(error_model="numpy")
def _lattice(x, y, z):
    # integer hash of a lattice point to 0..1; constants are odd, the mixing is xorshift-multiply
    h = (np.int64(x) * 374761393 + np.int64(y) * 668265263 + np.int64(z) * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    return float((h ^ (h >> 16)) & 0xFFFFFF) / 16777215.0


@kernel(error_model="numpy")
def _value_noise(points, octaves, out):
    for i in range(points.shape[0]):
        total, amplitude, norm = 0.0, 1.0, 0.0
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        for _ in range(octaves):
            ix, iy, iz = np.floor(px), np.floor(py), np.floor(pz)
            fx, fy, fz = px - ix, py - iy, pz - iz
            fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
            value = 0.0
            for dz in range(2):
                for dy in range(2):
                    for dx in range(2):
                        weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * (fz if dz else 1 - fz)
                        value += weight * _lattice(ix + dx, iy + dy, iz + dz)
            total += amplitude * value
            norm += amplitude
            amplitude *= 0.5
            px, py, pz = px * 2.03 + 17.1, py * 2.03 + 5.3, pz * 2.03 + 9.7
        out[i] = total / norm


def fbm(points: np.ndarray, octaves: int = 4) -> np.ndarray:
    """Fractal value noise 0..1 at ``points`` [..., 3], one lattice cell per unit."""
    flat = np.ascontiguousarray(points, np.float64).reshape(-1, 3)
    out = np.empty(len(flat))
    _value_noise(flat, octaves, out)
    return out.reshape(points.shape[:-1])
