"""A head whose shape, texture, motion and camera are known exactly: truth for the tests of capture.

The face is a height field over its frontal plane, so landmarks can be projected and pictures rendered (ray by ray)
without any of the code under test.
"""

from __future__ import annotations

import dataclasses
import functools

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.faces.layout import face_layout

EYE_DISTANCE_M = 0.09
_IRIS_RING = np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]]) * 0.006
_FLAT = (0.0, 0.01)  # where the height field's top lies, metres
_TEXTURE_SIDE_M = 0.3


def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth in metres (smaller is nearer) of the face over its frontal plane: a bowl with a nose."""
    x, y = np.clip(x, -0.12, 0.12), np.clip(y, -0.12, 0.14)  # flat beyond the head, so that every ray meets it
    bowl = 4.5 * x**2 + 1.8 * (y - _FLAT[1]) ** 2
    nose = 0.018 * np.exp(-((x / 0.012) ** 2) - ((y - 0.005) / 0.02) ** 2)
    return bowl - nose


def head_shape() -> np.ndarray:
    """float64 [478, 3] landmarks of the simulated face, metres; outer eye corners 0.09 m apart."""
    layout = face_layout() * EYE_DISTANCE_M
    eyes = [layout[list(corners)].mean(axis=0) for corners in ((33, 133), (263, 362))]
    flat = np.concatenate([layout, eyes[0] + _IRIS_RING, eyes[1] + _IRIS_RING])
    shape = np.concatenate([flat, height(flat[:, 0], flat[:, 1])[:, None]], axis=1)
    return shape * (EYE_DISTANCE_M / np.linalg.norm(shape[33] - shape[263]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedRecording:
    """Truth of a simulated recording of T frames."""

    size: int
    focal_px: float
    rotations: np.ndarray  # [T, 3, 3], head to camera
    translations: np.ndarray  # [T, 3], metres
    shape: np.ndarray  # [478, 3], metres

    def landmarks(
        self,
        *,
        noise_px: float = 0.0,
        rigid_noise_px: float = 0.0,
        mouth_opening: np.ndarray | None = None,
        seed: int = 0,
    ):
        """float32 [T, 478, 3] pixels as a tracker would give them.

        Args:
            noise_px: of every landmark by itself.
            rigid_noise_px: of the landmarks of a frame together, as trackers err: a shift and a wrong turn of that
                size.
            mouth_opening: [T], metres by which lower lip and chin drop.
        """
        random = np.random.default_rng(seed)
        num_frames = len(self.rotations)
        shape = np.repeat(self.shape[None], num_frames, axis=0)
        if mouth_opening is not None:
            lower = np.clip((self.shape[:, 1] - 0.03) / 0.04, 0, 1)
            shape[:, :, 1] += mouth_opening[:, None] * lower
        turn = random.normal(0, rigid_noise_px / 100, (num_frames, 3))
        wrong = (Rotation.from_rotvec(turn) * Rotation.from_matrix(self.rotations)).as_matrix()
        camera = shape @ wrong.transpose(0, 2, 1) + self.translations[:, None]
        pixels = self.focal_px * camera[..., :2] / camera[..., 2:] + self.size / 2
        scale = self.focal_px / self.translations[:, 2]
        depth = (camera[..., 2] - self.translations[:, 2:]) * scale[:, None]
        result = np.concatenate([pixels, depth[..., None]], axis=-1)
        result += random.normal(0, 1, result.shape) * noise_px
        result[..., :2] += random.normal(0, 1, (num_frames, 1, 2)) * rigid_noise_px
        return result.astype(np.float32)

    def frame(self, index: int) -> np.ndarray:
        """uint8 [size, size, 3]: the textured face over grey, ray by ray."""
        rotation, translation = self.rotations[index], self.translations[index]
        axis = (np.arange(self.size) + 0.5 - self.size / 2) / self.focal_px
        rays = np.stack([*np.meshgrid(axis, axis), np.ones((self.size, self.size))], axis=-1)
        origin, direction = -rotation.T @ translation, rays @ rotation
        reach = np.full((self.size, self.size), translation[2])
        for _ in range(12):
            point = origin + reach[..., None] * direction
            reach += (height(point[..., 0], point[..., 1]) - point[..., 2]) / direction[..., 2]
        point = origin + reach[..., None] * direction
        texture = _texture()
        where = ((point[..., :2] / _TEXTURE_SIDE_M + 0.5) * texture.shape[0]).astype(np.float32)
        gray = cv2.remap(texture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = (np.abs(point[..., 0]) < 0.075) & (np.abs(point[..., 1]) < 0.1)
        return np.repeat(np.where(inside, gray, 128.0).clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@functools.cache
def _texture() -> np.ndarray:
    """Skin with blotches of several sizes: float32 [600, 600], half a millimetre a pixel."""
    random = np.random.default_rng(7)
    total = np.full((600, 600), 150.0, dtype=np.float32)
    for sigma, contrast in ((3.0, 10.0), (6.0, 14.0), (14.0, 18.0)):
        noise = cv2.GaussianBlur(random.normal(size=(600, 600)).astype(np.float32), (0, 0), sigma)
        total += contrast * noise / noise.std()
    return total


def talking_head(
    num_frames: int,
    *,
    size: int = 256,
    focal_px: float = 500.0,
    eye_px: float = 70.0,
    swing_deg: float = 8.0,
    seed: int = 0,
):
    """A SimulatedRecording of somebody who turns, nods and sways smoothly, up to 1.2 Hz."""
    random = np.random.default_rng(seed)
    time_s = np.arange(num_frames) / 25

    def wander(amplitude):
        frequencies, phases = random.uniform(0.1, 1.2, (5, 3)), random.uniform(0, 2 * np.pi, (5, 3))
        share = random.normal(size=(5, 3)) / (1 + 2 * frequencies)
        waves = np.sin(2 * np.pi * frequencies * time_s[:, None, None] + phases)
        return amplitude * np.einsum("tkc,kc->tc", waves, share)

    rotations = Rotation.from_rotvec(np.radians(wander(swing_deg))).as_matrix()
    distance = focal_px * EYE_DISTANCE_M / eye_px
    translations = wander(0.008) + [0.004, 0.01, distance]
    return SimulatedRecording(
        size=size, focal_px=focal_px, rotations=rotations, translations=translations, shape=head_shape()
    )
