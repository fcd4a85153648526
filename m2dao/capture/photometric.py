"""Head poses refined on the picture itself: the skin of the rigid part of the face against its own mean texture.

Landmarks say where a face is to about half a pixel and every frame errs anew. The texture of forehead, nose and upper
cheeks is known much better: thousands of points on the mesh, each with its mean brightness over the recording, are laid
over every frame, and the pose is moved until they match (Lucas and Kanade 1981, with the head's pose as the warp). The
template is one for the whole recording, so nothing drifts; points that move by themselves (brows, wrinkles, highlights)
count less, by how much they were seen to vary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator

from m2dao.capture.alignment_kernel import NUM_UNKNOWNS, normal_equations
from m2dao.capture.bundle import POSE_DIM, Poses
from m2dao.capture.facemesh import FACE_OVAL, LEFT_EYE, NOSE_BASE, OUTER_LIPS, RIGHT_EYE
from m2dao.capture.prefetch import in_turn
from m2dao.capture.rigid_shape import IRIS

FrameSource = Callable[[int], np.ndarray]  # frame index -> uint8 [H, W, 3]

_SPACING_M = 0.003  # between texture points; about four pixels of a 512-pixel portrait
_RASTER_M = 0.0005
_BORDER_M = {"oval": 0.006, "eyes": 0.003, "lips": 0.004}  # kept clear, because these contours move
_BELOW_NOSE_M = 0.012
_MIN_FACING = 0.25  # cosine between the surface normal and the ray; points turned further away are not seen
_NUM_TEMPLATE_FRAMES = 96
_NUM_TEMPLATE_ROUNDS = 3
_NUM_THREADS = 2
_MAX_STEPS = 6
_CONVERGED = 1e-4  # radians, of the last step; what is left is several times less, a hundredth of a pixel on the face
_ROBUST_DOF = 5.0
_MIN_CORRELATION = 0.4  # below, the frame does not show the face the template knows
_MIN_SEEN_SHARE = 0.3  # of the points must be turned towards the camera
_NOISE_FLOOR = 0.05  # of the normalised brightness


@dataclasses.dataclass(frozen=True, kw_only=True)
class TexturePoints:
    """Points on the rigid part of the face."""

    points: np.ndarray  # [S, 3], metres, head space
    normals: np.ndarray  # [S, 3], unit, towards the outside (negative z in front)
    half: np.ndarray  # bool [S], a checkerboard that splits the points into two independent halves


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """What the texture points look like."""

    mean: np.ndarray  # [S], normalised brightness
    sigma: np.ndarray  # [S], how much each point varies over the recording


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefinedPoses:
    """Poses measured on the picture."""

    poses: Poses
    information: np.ndarray  # [T, 6, 6], inverse covariances; zero where the measurement failed
    half_difference: np.ndarray  # [T, 6], pose from one half of the points minus that from the other
    measured: np.ndarray  # bool [T]


def texture_points(canonical: np.ndarray) -> TexturePoints:
    """A regular grid over forehead, nose and upper cheeks of the mesh ``canonical`` [478, 3] (metres, head space)."""
    flat = canonical[: IRIS.start, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    mask = _rigid_region(canonical, low, high)
    axes = [np.arange(low[i], high[i], _SPACING_M) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    depth = LinearNDInterpolator(flat, canonical[: IRIS.start, 2])(grid)
    slope_y, slope_x = np.gradient(depth, _SPACING_M)
    normals = np.stack([slope_x, slope_y, -np.ones_like(depth)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    pixel = ((grid - low) / _RASTER_M).astype(int)
    kept = (mask[pixel[..., 1], pixel[..., 0]] > 0) & np.isfinite(depth) & np.isfinite(normals).all(axis=-1)
    tiles = np.floor(grid / (5 * _SPACING_M)).astype(int).sum(axis=-1) % 2 == 0
    return TexturePoints(
        points=np.concatenate([grid, depth[..., None]], axis=-1)[kept], normals=normals[kept], half=tiles[kept]
    )


def _rigid_region(canonical: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """uint8 raster over the frontal plane: inside the oval, above the mouth, away from moving contours."""
    shape = np.ceil((high - low) / _RASTER_M).astype(int) + 1
    mask = np.zeros((shape[1], shape[0]), dtype=np.uint8)

    def contour(indices):
        return np.round((canonical[list(indices), :2] - low) / _RASTER_M).astype(np.int32).reshape(-1, 1, 2)

    cv2.fillPoly(mask, [contour(FACE_OVAL)], 255)
    mask = cv2.erode(mask, _disc(_BORDER_M["oval"]), borderValue=0)
    for name, rings in (("eyes", (RIGHT_EYE, LEFT_EYE)), ("lips", (OUTER_LIPS,))):
        hole = np.zeros_like(mask)
        for ring in rings:
            cv2.fillPoly(hole, [cv2.convexHull(contour(ring))], 255)
        mask[cv2.dilate(hole, _disc(_BORDER_M[name])) > 0] = 0
    mask[int((canonical[NOSE_BASE, 1] + _BELOW_NOSE_M - low[1]) / _RASTER_M) :] = 0
    return mask


def _disc(radius_m: float) -> np.ndarray:
    side = 2 * round(radius_m / _RASTER_M) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


class PoseRefiner:
    """Refines poses frame by frame against one template.

    Args:
        canonical: float [478, 3], metres, head space.
        focal_px: focal length in pixels.
        size: width and height of the frames in pixels.
    """

    def __init__(self, canonical: np.ndarray, focal_px: float, size: int):
        self._texture = texture_points(np.asarray(canonical, dtype=np.float64))
        self._focal_px = focal_px
        self._size = size
        self._centre_px = size / 2

    @property
    def num_points(self) -> int:
        """How many texture points the face has."""
        return len(self._texture.points)

    def refine(self, frames: FrameSource, poses: Poses, valid: np.ndarray) -> RefinedPoses:
        """Poses of all valid frames, measured on the picture.

        Args:
            frames: called once per valid frame, and before that for a sample of them to make the template; from
                two threads at once.
            poses: T poses to start from, right to a few pixels.
            valid: bool [T].
        """
        template = self._make_template(frames, poses, np.flatnonzero(valid))
        num_frames = len(valid)
        rotations, translations = poses.rotations.copy(), poses.translations.copy()
        information = np.zeros((num_frames, POSE_DIM, POSE_DIM))
        half_difference = np.zeros((num_frames, POSE_DIM))
        measured = np.zeros(num_frames, dtype=bool)

        def align(frame: int):
            picture = self._face_image(frames(frame), rotations[frame], translations[frame])
            return self._align(picture, rotations[frame], translations[frame], template)

        for frame, found in in_turn([align] * _NUM_THREADS, np.flatnonzero(valid).tolist()):
            if found is not None:
                rotations[frame], translations[frame], information[frame], half_difference[frame] = found
                measured[frame] = True
        refined = Poses(rotations=rotations, translations=translations)
        return RefinedPoses(poses=refined, information=information, half_difference=half_difference, measured=measured)

    def texture(self, frame: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """[S] normalised brightness of the texture points in a frame under a pose (for measuring how still they are)."""
        return self._face_image(frame, rotation, translation).sample(self._project(rotation, translation))

    def _make_template(self, frames: FrameSource, poses: Poses, valid_frames: np.ndarray) -> Template:
        """Mean texture and its spread over a sample of frames, each round with the poses of the round before."""
        chosen = valid_frames[np.unique(np.linspace(0, len(valid_frames) - 1, _NUM_TEMPLATE_FRAMES).astype(int))]
        moved = {int(frame): (poses.rotations[frame], poses.translations[frame]) for frame in chosen}

        def look(frame: int) -> _FaceImage:
            return self._face_image(frames(frame), *moved[frame])

        def align(frame: int):
            return self._align(pictures[frame], *moved[frame], template)

        pictures = dict(in_turn([look] * _NUM_THREADS, list(moved)))
        for _ in range(_NUM_TEMPLATE_ROUNDS):
            values = np.stack([pictures[frame].sample(self._project(*pose)) for frame, pose in moved.items()])
            mean = np.median(values, axis=0)
            sigma = 1.4826 * np.median(np.abs(values - mean), axis=0) + _NOISE_FLOOR
            template = Template(mean=mean, sigma=sigma)
            for frame, found in in_turn([align] * _NUM_THREADS, list(moved)):
                if found is not None:
                    moved[frame] = found[:2]
        return template

    def _face_image(self, frame: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> _FaceImage:
        return _FaceImage(frame, self._project(rotation, translation), self._brightness_window(translation))

    def _align(self, image: _FaceImage, rotation, translation, template: Template):
        """Gauss-Newton on pose, gain and offset; (rotation, translation, information, half difference) or None."""
        facing = self._facing(rotation, translation)
        for _ in range(_MAX_STEPS):
            normals, gradients, brightness = self._equations(image, rotation, translation, template, facing)
            normal = normals.sum(axis=0)
            step = -np.linalg.solve(normal, gradients.sum(axis=0))
            rotation = cv2.Rodrigues(step[:3])[0] @ rotation
            translation = translation + step[3:POSE_DIM]
            if np.abs(step[:3]).max() < _CONVERGED:
                break
        if not np.isfinite(step).all() or not _looks_like(brightness[facing], template, facing):
            return None
        by_half = -np.linalg.solve(normals, gradients[..., None])[..., 0]
        # Gain and offset are nuisances: their share of the information is marginalised away.
        information = np.linalg.inv(np.linalg.inv(normal)[:POSE_DIM, :POSE_DIM])
        return rotation, translation, information, (by_half[0] - by_half[1])[:POSE_DIM]

    def _equations(self, image: _FaceImage, rotation, translation, template: Template, facing: np.ndarray):
        """Normal matrices [2, 8, 8] and gradients [2, 8] of the two halves of the points, and the brightness [S]."""
        texture = self._texture
        normals, gradients, brightness = normal_equations(
            texture.points, rotation, translation, float(self._focal_px), self._centre_px, image.layers, image.origin,
            template.mean, template.sigma, facing, texture.half, _ROBUST_DOF,
        )  # fmt: skip
        normals[:, np.arange(NUM_UNKNOWNS), np.arange(NUM_UNKNOWNS)] *= 1.0 + 1e-7
        return normals, gradients, brightness

    def _facing(self, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
        """bool [S]: which texture points are turned towards the camera."""
        # The ray from the camera, in head space.
        rays = self._texture.points + translation @ rotation
        towards = -np.einsum("nc,nc->n", rays, self._texture.normals)
        return towards > _MIN_FACING * np.sqrt(np.einsum("nc,nc->n", rays, rays))

    def _project(self, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
        camera = self._texture.points @ rotation.T + translation
        return self._focal_px * camera[:, :2] / camera[:, 2:] + self._centre_px

    def _brightness_window(self, translation: np.ndarray) -> int:
        """Side in pixels of the window brightness is normalised in: a third of the outer eye distance, odd."""
        return 2 * round(0.015 * self._focal_px / translation[2]) + 1


class _FaceImage:
    """The face's part of a frame: brightness with local mean and contrast taken out, and its gradient."""

    def __init__(self, frame: np.ndarray, pixels: np.ndarray, window: int):
        margin = window
        height, width = frame.shape[:2]
        left, top = np.clip(np.floor(pixels.min(axis=0)).astype(int) - margin, 0, [width - 2, height - 2])
        right, bottom = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + margin, [left + 2, top + 2], [width, height])
        # Pixel centres lie at +0.5; array indices at whole numbers.
        self.origin = np.array([left + 0.5, top + 0.5])
        gray = cv2.cvtColor(np.ascontiguousarray(frame[top:bottom, left:right]), cv2.COLOR_RGB2GRAY).astype(np.float32)
        gray = cv2.GaussianBlur(gray, (0, 0), 1.0)
        detail = gray - cv2.blur(gray, (window, window))
        contrast = cv2.blur(detail * detail, (window, window))
        brightness = detail / np.sqrt(contrast + 25.0)
        by_x = cv2.Sobel(brightness, cv2.CV_32F, 1, 0, scale=1 / 8)
        by_y = cv2.Sobel(brightness, cv2.CV_32F, 0, 1, scale=1 / 8)
        self.layers = cv2.merge([brightness, by_x, by_y])

    def sample(self, pixels: np.ndarray) -> np.ndarray:
        """[S] brightness at ``pixels`` [S, 2]."""
        where = (pixels - self.origin).astype(np.float32)[None]
        return cv2.remap(self.layers, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0, :, 0].astype(
            np.float64
        )


def _looks_like(brightness: np.ndarray, template: Template, seen: np.ndarray) -> bool:
    """Whether the brightness of the points that are seen (bool [S]) correlates with the template's."""
    if len(brightness) < _MIN_SEEN_SHARE * len(seen):
        return False
    weights = 1.0 / template.sigma[seen] ** 2
    weights /= weights.sum()
    a = brightness - weights @ brightness
    b = template.mean[seen] - weights @ template.mean[seen]
    return bool(weights @ (a * b) > _MIN_CORRELATION * np.sqrt((weights @ a**2) * (weights @ b**2)))
