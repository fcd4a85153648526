"""Refines head poses on the picture: aligns a head's texture with its own mean.

Landmarks say where a face is to about half a pixel and every frame errs anew. The texture of forehead, nose and upper
cheeks, of hair and ears is known much better: thousands of points, each with its mean brightness over the recording,
are laid over every frame, and the pose is moved until they match (Lucas and Kanade 1981, with the head's pose as the
warp). The template is one for the whole recording, so nothing drifts; points that move by themselves (brows, wrinkles,
highlights) count less, by how much they were seen to vary. How deep hair and ears lie comes out of a sample of frames
together with its poses (`relief.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from m2dao.capture.cameras.alignment_kernel import NUM_UNKNOWNS, normal_equations
from m2dao.capture.cameras.bundle import POSE_DIM, Poses, pinhole
from m2dao.capture.cameras.relief import find_shifts
from m2dao.capture.cameras.texture_points import TexturePoints, outwards
from m2dao.capture.prefetch import in_turn

FrameSource = Callable[[int], np.ndarray]  # frame index -> uint8 [H, W] brightness, or [H, W, C] masks

_MIN_FACING = 0.25  # cosine between the surface normal and the ray; points turned further away are not seen
_NUM_TEMPLATE_FRAMES = 96
_NUM_FACE_ROUNDS, _NUM_HEAD_ROUNDS = 3, 6  # of making the template: with the face alone, then with all there is
_NUM_FIRST_DEPTHS, _NUM_DEPTHS = 15, 9  # tried in the first search and in those after it
_FREEDOM_LEFT = 0.7  # of a point's freedom, from one search for its depth to the next
_NUM_THREADS = 2
_MAX_STEPS = 20  # nods need them: brows that have risen look much like one
_CONVERGED = 1e-4  # radians, of the last step; what is left is several times less, a hundredth of a pixel on the face
_ROBUST_DOF = 5.0
_MIN_CORRELATION = 0.4  # below, the frame does not show the face the template knows
_MIN_SEEN_SHARE = 0.3  # of the face's points must be turned towards the camera
_LEAST_INFORMATION = 1e-9  # of every unknown: where a flat picture says nothing, the pose stays
_NOISE_FLOOR = 0.05  # of the normalised brightness


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """Points of a head and what they look like."""

    texture: TexturePoints
    mean: np.ndarray  # [S], normalised brightness
    sigma: np.ndarray  # [S], how much each point varies over the recording


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinedPoses:
    """Poses measured on the picture."""

    poses: Poses
    information: np.ndarray  # [T, 6, 6], inverse covariances; zero where the measurement failed
    half_difference: np.ndarray  # [T, 6], pose from one half of the points minus that from the other
    measured: np.ndarray  # bool [T]


class PoseRefiner:
    """Refines poses frame by frame against one template.

    Args:
        texture: points of the head, those of the face first.
        canonical: float [478, 3], metres, head space.
        focal_px: focal length in pixels.
        size: width and height of the frames in pixels.
    """

    def __init__(self, texture: TexturePoints, canonical: np.ndarray, focal_px: float, size: int):
        self._texture = texture
        self._canonical = canonical
        self._focal_px = focal_px
        self._centre_px = size / 2

    def refine(self, frames: FrameSource, poses: Poses, valid: np.ndarray, learned: np.ndarray) -> RefinedPoses:
        """Poses of all valid frames, measured on the picture.

        Args:
            frames: called once per valid frame, and before that for a sample of them to make the template; from
                two threads at once.
            poses: T poses to start from, right to a few pixels.
            valid: bool [T].
            learned: bool [T], valid frames that the template may be made from.
        """
        template = self._make_template(frames, poses, np.flatnonzero(learned))
        num_frames = len(valid)
        rotations, translations = poses.rotations.copy(), poses.translations.copy()
        information = np.zeros((num_frames, POSE_DIM, POSE_DIM))
        half_difference = np.zeros((num_frames, POSE_DIM))
        measured = np.zeros(num_frames, dtype=bool)

        def align(frame: int):
            picture = self._head_image(frames(frame), rotations[frame], translations[frame])
            return self._align(picture, rotations[frame], translations[frame], template)

        for frame, found in in_turn([align] * _NUM_THREADS, np.flatnonzero(valid).tolist()):
            if found is not None:
                rotations[frame], translations[frame], information[frame], half_difference[frame] = found
                measured[frame] = True
        refined = Poses(rotations=rotations, translations=translations)
        return RefinedPoses(poses=refined, information=information, half_difference=half_difference, measured=measured)

    def _make_template(self, frames: FrameSource, poses: Poses, valid_frames: np.ndarray) -> Template:
        """Mean texture and its spread over a sample of frames.

        Each round takes the poses and depths of the round before.
        """
        chosen = valid_frames[np.unique(np.linspace(0, len(valid_frames) - 1, _NUM_TEMPLATE_FRAMES).astype(int))]
        moved = {int(frame): (poses.rotations[frame], poses.translations[frame]) for frame in chosen}
        face = self._texture.take(self._texture.on_face)
        around = self._texture.take(~self._texture.on_face)
        num_depths = _NUM_FIRST_DEPTHS

        def look(frame: int) -> _HeadImage:
            return self._head_image(frames(frame), *moved[frame])

        def align(frame: int):
            return self._align(pictures[frame], *moved[frame], template)

        pictures = dict(in_turn([look] * _NUM_THREADS, list(moved)))
        template = _mean_texture(face, self._sampled(face.points, pictures, moved))
        for number in range(_NUM_FACE_ROUNDS + (_NUM_HEAD_ROUNDS if len(around.points) else 0)):
            for frame, found in in_turn([align] * _NUM_THREADS, list(moved)):
                if found is not None:
                    moved[frame] = found[:2]
            texture = face
            if len(around.points) and number + 1 >= _NUM_FACE_ROUNDS:
                around, num_depths = self._at_better_depths(around, num_depths, pictures, moved), _NUM_DEPTHS
                texture = face.joined(around)
            template = _mean_texture(texture, self._sampled(texture.points, pictures, moved))
        return template

    def _at_better_depths(
        self, around: TexturePoints, num_depths: int, pictures: dict[int, _HeadImage], poses: dict[int, tuple]
    ) -> TexturePoints:
        """The points around the face where the sampled frames agree best; the next search has less freedom."""

        def look(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            seen = [_facing(points, around.normals, *pose) for pose in poses.values()]
            return self._sampled(points, pictures, poses), np.stack(seen)

        shifts = find_shifts(around.points, around.rays, around.freedom_m, look, num_depths)
        points = around.points + shifts[:, None] * around.rays
        normals, freedom_m = outwards(points, self._canonical), _FREEDOM_LEFT * around.freedom_m
        return dataclasses.replace(around, points=points, normals=normals, freedom_m=freedom_m)

    def _sampled(self, points: np.ndarray, pictures: dict[int, _HeadImage], poses: dict[int, tuple]) -> np.ndarray:
        """[F, S] brightness of points in the sampled frames."""
        return np.stack([pictures[frame].sample(self._project(points, *pose)) for frame, pose in poses.items()])

    def _head_image(self, frame: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> _HeadImage:
        pixels = self._project(self._texture.points, rotation, translation)
        return _HeadImage(frame, pixels, self._brightness_window(translation))

    def _align(self, image: _HeadImage, rotation, translation, template: Template):
        """Gauss-Newton on pose, gain, offset; (rotation, translation, information, half difference) or None."""
        texture = template.texture
        facing = _facing(texture.points, texture.normals, rotation, translation)
        if not _enough_seen(facing, texture.on_face):
            return None  # with nothing in sight there is nothing to solve
        for _ in range(_MAX_STEPS):
            normals, gradients, brightness = self._equations(image, rotation, translation, template, facing)
            normal = normals.sum(axis=0)
            step = -np.linalg.solve(normal, gradients.sum(axis=0))
            if not np.isfinite(step).all():
                return None
            rotation = cv2.Rodrigues(step[:3])[0] @ rotation  # for one vector nine times as fast as SciPy's
            translation = translation + step[3:POSE_DIM]
            if np.abs(step[:3]).max() < _CONVERGED:
                break
        if not _looks_like(brightness, template, facing & texture.on_face):
            return None
        by_half = -np.linalg.solve(normals, gradients[..., None])[..., 0]
        # Gain and offset are nuisances: their share of the information is marginalised away.
        information = np.linalg.inv(np.linalg.inv(normal)[:POSE_DIM, :POSE_DIM])
        return rotation, translation, information, (by_half[0] - by_half[1])[:POSE_DIM]

    def _equations(self, image: _HeadImage, rotation, translation, template: Template, facing: np.ndarray):
        """Normal matrices [2, 8, 8] and gradients [2, 8] of the points' two halves, and the brightness [S]."""
        texture = template.texture
        normals, gradients, brightness = normal_equations(
            texture.points,
            rotation,
            translation,
            float(self._focal_px),
            self._centre_px,
            image.layers,
            image.origin,
            template.mean,
            template.sigma,
            facing,
            texture.half,
            _ROBUST_DOF,
        )
        diagonal = normals[:, np.arange(NUM_UNKNOWNS), np.arange(NUM_UNKNOWNS)]
        normals[:, np.arange(NUM_UNKNOWNS), np.arange(NUM_UNKNOWNS)] = (1.0 + 1e-7) * diagonal + _LEAST_INFORMATION
        return normals, gradients, brightness

    def _project(self, points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
        return pinhole(points @ rotation.T + translation, self._focal_px, self._centre_px)

    def _brightness_window(self, translation: np.ndarray) -> int:
        """Side in pixels of the window brightness is normalised in: a third of the outer eye distance, odd."""
        return 2 * round(0.015 * self._focal_px / translation[2]) + 1


class _HeadImage:
    """The head's part of a frame: brightness with local mean and contrast taken out, and its gradient."""

    def __init__(self, frame: np.ndarray, pixels: np.ndarray, window: int):
        margin = window
        height, width = frame.shape[:2]
        left, top = np.clip(np.floor(pixels.min(axis=0)).astype(int) - margin, 0, [width - 2, height - 2])
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + margin, [left + 2, top + 2], [width, height])
        # Pixel centres lie at +0.5; array indices at whole numbers.
        self.origin = np.array([left + 0.5, top + 0.5])
        part = np.ascontiguousarray(frame[top:bottom, left:right])
        gray = cv2.GaussianBlur(part.astype(np.float32), (0, 0), 1.0)
        detail = gray - cv2.blur(gray, (window, window))
        contrast = cv2.blur(detail * detail, (window, window))
        brightness = detail / np.sqrt(contrast + 25.0)
        by_x = cv2.Sobel(brightness, cv2.CV_32F, 1, 0, scale=1 / 8)
        by_y = cv2.Sobel(brightness, cv2.CV_32F, 0, 1, scale=1 / 8)
        self.layers = cv2.merge([brightness, by_x, by_y])

    def sample(self, pixels: np.ndarray) -> np.ndarray:
        """[S] brightness at ``pixels`` [S, 2]."""
        where = (pixels - self.origin).astype(np.float32)[None]
        nothing: Any = None  # a second map, which OpenCV's types do not allow to leave out
        seen = cv2.remap(self.layers, where, nothing, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return seen[0, :, 0].astype(np.float64)


def _mean_texture(texture: TexturePoints, values: np.ndarray) -> Template:
    """The template that brightness [F, S] in a sample of frames gives."""
    mean = np.median(values, axis=0)
    return Template(texture=texture, mean=mean, sigma=1.4826 * np.median(np.abs(values - mean), axis=0) + _NOISE_FLOOR)


def _facing(points: np.ndarray, normals: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """bool [S]: which points are turned towards the camera."""
    rays = points + translation @ rotation  # from the camera, in head space
    towards = -np.einsum("nc,nc->n", rays, normals)
    return towards > _MIN_FACING * np.sqrt(np.einsum("nc,nc->n", rays, rays))


def _enough_seen(facing: np.ndarray, on_face: np.ndarray) -> bool:
    """Whether enough of the face's points are turned towards the camera; both [S]."""
    return bool((facing & on_face).sum() >= max(_MIN_SEEN_SHARE * on_face.sum(), 1))


def _looks_like(brightness: np.ndarray, template: Template, seen: np.ndarray) -> bool:
    """Whether the brightness of the points that are seen correlates with the template's; all [S]."""
    weights = 1.0 / template.sigma[seen] ** 2
    weights /= weights.sum()
    a = brightness[seen] - weights @ brightness[seen]
    b = template.mean[seen] - weights @ template.mean[seen]
    return bool(weights @ (a * b) > _MIN_CORRELATION * np.sqrt((weights @ a**2) * (weights @ b**2)))
