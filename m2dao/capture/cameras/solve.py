"""Head poses, one focal length and the head's shape from tracked landmarks.

The head is the world: its pose is the camera's. Poses decide the quality of everything fitted on them, so
they are solved for the whole recording at once: a bundle adjustment over the landmarks that move with the skull
(`bundle.py`), then the most likely smooth motion (`smoothing.py`).

Head space: metres with 0.09 m between the outer eye corners; origin at the centroid of the rigid landmarks; x to the
image right, y down, z away from the camera when the face looks straight at it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.cameras.bundle import Poses, Structure, StructurePrior, adjust_structure, project, solve_poses
from m2dao.capture.cameras.photometric import FrameSource, PoseRefiner, RefinedPoses
from m2dao.capture.cameras.smoothing import SmoothedMotion, motion_statistics, smooth_poses, spanning
from m2dao.capture.cameras.texture_points import below_brows, face_points, head_points
from m2dao.capture.faces.rigid_shape import RigidShape, fit_rigid_shape, frontal_frame
from m2dao.capture.rotations import best_rotation, interpolate_rotations, turns_between
from m2dao.errors import CaptureRejected
from m2dao.regions import NUM_LANDMARKS
from m2dao.timeline import split_recording

OUTER_EYE_DISTANCE_M = 0.09
MIN_VALID_FRAMES = 5
_MAX_STRUCTURE_FRAMES = 250
_POINT_SIGMA_M = 0.001  # how far a rigid landmark may lie from the tracker's own shape of the face
_FOCAL_PER_SIZE = 2.5  # a portrait fills a frame of this many times its width at a usual distance
_LOG_FOCAL_SIGMA = 0.3
_ENOUGH_AROUND = 0.25  # texture points around a face, as a share of its own, that can do without its forehead
# Typical third difference of a head's motion at 25 frames per second: radians, metres.
_JERK_SIGMA = np.array([3e-3, 3e-3, 3e-3, 1.5e-4, 1.5e-4, 1.5e-4])


@dataclasses.dataclass(frozen=True, kw_only=True)
class CameraSolution:
    """Cameras of a recording around the head."""

    K: np.ndarray  # float32 [3, 3], pixels
    viewmats: np.ndarray  # float32 [T, 4, 4], head space to camera, OpenCV axes
    canonical_landmarks: np.ndarray  # float32 [478, 3], metres, the mean expression in head space
    rigid_landmarks: np.ndarray  # int64 [R], the landmarks that carried the solution
    reprojection_px: float  # root mean square over rigid landmarks and valid frames
    pose_jitter_deg: float  # noise left in the rotations: standard deviation of its second difference, degrees
    second_difference_deg: float  # the same of the rotations themselves: noise, judder and real accelerations
    measured_on_picture: np.ndarray  # bool [T], frames whose pose was refined on the picture


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tracked:
    """What was tracked in a recording, as ``solve_cameras`` is given it."""

    landmarks: np.ndarray  # [T, 478, 3] px
    valid: np.ndarray  # bool [T]
    size: int
    jumps: Sequence[int]

    @property
    def learned(self) -> np.ndarray:
        """bool [T], frames to learn shape, depths and texture from: the training part if it shows a face."""
        learned = self.valid & (np.arange(len(self.valid)) < len(split_recording(len(self.valid)).train))
        return learned if learned.sum() >= MIN_VALID_FRAMES else self.valid

    @property
    def centre_px(self) -> np.ndarray:
        return np.full(2, self.size / 2)


def solve_cameras(
    landmarks: np.ndarray,
    valid: np.ndarray,
    size: int,
    frames: FrameSource | None = None,
    *,
    masks: FrameSource | None = None,
    jumps: Sequence[int] = (),
) -> CameraSolution:
    """Solve the head's pose in every frame, the focal length and the canonical landmarks.

    Args:
        landmarks: float [T, 478, 3], pixels of the square crop; z in the scale of x, smaller is nearer.
        valid: bool [T]; false where no face was found. Those landmarks are ignored, their poses interpolated.
        size: width and height of the crop in pixels.
        frames: gives the brightness of a frame, uint8 [size, size], by its index. With it the poses are refined on the
            picture, which is several times more precise than landmarks; called from two threads, once for each valid
            frame after a sample of them.
        masks: gives a frame's region masks, uint8 [size, size, 4], by its index. With them hair and ears count as well
            as the face, without which a nod can hardly be told from a brow that rises.
        jumps: the first frames after a jump cut, over which no motion leads.

    Raises:
        CaptureRejected: fewer than 5 valid frames.
    """
    landmarks = np.asarray(landmarks)
    valid = np.asarray(valid, dtype=bool)
    if landmarks.shape != (len(valid), NUM_LANDMARKS, 3):
        raise ValueError(f"landmarks: expected shape ({len(valid)}, {NUM_LANDMARKS}, 3); got {landmarks.shape}")
    if valid.sum() < MIN_VALID_FRAMES:
        raise CaptureRejected("head pose", f"at least {MIN_VALID_FRAMES} frames with a face", f"{int(valid.sum())}")
    tracked = _Tracked(landmarks=landmarks, valid=valid, size=size, jumps=jumps)
    measured = landmarks[valid] if not valid.all() else landmarks
    centre_px, num_learned = tracked.centre_px, int(tracked.learned.sum())
    shape = fit_rigid_shape(measured, num_learned)
    sigma_px = landmark_sigma_px(shape)
    observed = measured[:, shape.rigid, :2].astype(np.float64)
    structure, poses = _solve_structure(shape, observed, sigma_px, size, num_learned)
    poses, _ = solve_poses(observed, sigma_px, structure, poses, centre_px)
    measured_poses = _fill_gaps(poses, valid)
    motion, on_picture = _smooth(measured_poses, tracked), np.zeros(len(valid), dtype=bool)
    if frames is not None:
        motion, on_picture = _refine_on_picture(structure, shape, measured_poses, motion.poses, tracked, frames, masks)
    head, canonical = _to_head_space(structure, shape, motion.poses, tracked)
    residual = project(canonical[shape.rigid], head.take(valid), structure.focal_px, centre_px) - observed
    second_difference = second_difference_deg(head.rotations, jumps)
    jitter = second_difference
    if motion.remaining_noise is not None and on_picture.any():
        jitter = noise_jitter_deg(motion.remaining_noise[:, :3], on_picture)
    return CameraSolution(
        K=np.array([[structure.focal_px, 0, size / 2], [0, structure.focal_px, size / 2], [0, 0, 1]], dtype=np.float32),
        viewmats=as_viewmats(head),
        canonical_landmarks=canonical.astype(np.float32),
        rigid_landmarks=shape.rigid,
        reprojection_px=float(np.sqrt(np.mean((residual**2).sum(axis=-1)))),
        pose_jitter_deg=jitter,
        second_difference_deg=second_difference,
        measured_on_picture=on_picture,
    )


def _refine_on_picture(
    structure: Structure,
    shape: RigidShape,
    measured: Poses,
    smooth: Poses,
    tracked: _Tracked,
    frames: FrameSource,
    masks: FrameSource | None,
) -> tuple[SmoothedMotion, np.ndarray]:
    """The points' motion refined against the head's texture, and the frames [T] where that worked."""
    valid = tracked.valid
    canonical = _unproject_landmarks(structure, shape, smooth, tracked)
    texture = face_points(canonical)
    if masks is not None:
        model = _usual_frame(smooth, tracked.learned)
        pose = smooth.rotations[model], smooth.translations[model]
        around = head_points(masks(model), *pose, structure.focal_px, canonical)
        if len(around.points) > _ENOUGH_AROUND * len(texture.points):
            texture = below_brows(texture, canonical).joined(around)
    if not len(texture.points):  # landmarks that are shaped like no face: nothing of the picture can be followed
        return _smooth(measured, tracked), np.zeros(len(valid), dtype=bool)
    refiner = PoseRefiner(texture, canonical, structure.focal_px, tracked.size)
    refined = refiner.refine(frames, measured, valid, tracked.learned)
    information = refined.information
    information[valid & ~refined.measured] = np.diag(1.0 / _disagreement(measured, refined) ** 2)
    # Two independent halves of the texture disagree by twice the noise of their mean.
    noise = 0.5 * refined.half_difference
    motion = smooth_poses(refined.poses, information, _JERK_SIGMA, noise=noise, jumps=tracked.jumps)
    return motion, refined.measured


def _usual_frame(poses: Poses, valid: np.ndarray) -> int:
    """The valid frame whose pose is nearest to the median of all valid ones."""
    viewmats = as_viewmats(poses)
    return int(np.where(valid, away_from_median(viewmats, viewmats[valid]), np.inf).argmin())


def away_from_median(viewmats: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far poses [T, 4, 4] are from the median of others [M, 4, 4]: [T], sums of absolute differences."""
    return np.abs(viewmats - np.median(others, axis=0)).sum(axis=(1, 2))


def _disagreement(by_landmarks: Poses, refined: RefinedPoses) -> np.ndarray:
    """[6] typical distance of the landmarks' poses from those measured on the picture (radians, metres).

    It is the weight of a landmark pose where the picture could not be used.
    """
    frames = refined.measured
    if not frames.any():
        return np.full(6, 0.01)
    ours, theirs = by_landmarks.take(frames), refined.poses.take(frames)
    turn = Rotation.from_matrix(ours.rotations @ np.swapaxes(theirs.rotations, 1, 2)).as_rotvec()
    difference = np.concatenate([turn, ours.translations - theirs.translations], axis=1)
    return 1.4826 * np.median(np.abs(difference), axis=0) + 1e-6


def landmark_sigma_px(shape: RigidShape) -> np.ndarray:
    """[R] how precisely each rigid landmark is seen, in pixels."""
    spread = shape.spread[shape.rigid] * np.median(shape.scales)
    return np.maximum(spread, 0.2)


def _solve_structure(
    shape: RigidShape, observed: np.ndarray, sigma_px: np.ndarray, size: int, num_learned: int
) -> tuple[Structure, Poses]:
    """Points and focal length from a spread of the first views, and a first pose of every frame."""
    focal = _FOCAL_PER_SIZE * size
    guess = Structure(points=shape.shape[shape.rigid] * OUTER_EYE_DISTANCE_M, focal_px=focal)
    chosen = _spread_of_views(shape.rotations[:num_learned])
    prior = StructurePrior(
        points=guess.points, point_sigma=_POINT_SIGMA_M, focal_px=focal, log_focal_sigma=_LOG_FOCAL_SIGMA
    )
    start = _orthographic_poses(shape, focal, size)
    centre_px = np.full(2, size / 2)
    structure, _ = adjust_structure(observed[chosen], sigma_px, guess, start.take(chosen), prior, centre_px)
    return structure, _orthographic_poses(shape, structure.focal_px, size)


def _orthographic_poses(shape: RigidShape, focal_px: float, size: int) -> Poses:
    """Perspective poses at the distance where the head has its scaled-orthographic size."""
    depth = focal_px * OUTER_EYE_DISTANCE_M / shape.scales
    shift = (shape.offsets[:, :2] - size / 2) * depth[:, None] / focal_px
    return Poses(rotations=shape.rotations, translations=np.concatenate([shift, depth[:, None]], axis=1))


def _spread_of_views(rotations: np.ndarray) -> np.ndarray:
    """Indices of at most 250 frames: half evenly in time, half that look furthest from the mean view."""
    num_frames = len(rotations)
    if num_frames <= _MAX_STRUCTURE_FRAMES:
        return np.arange(num_frames)
    half = _MAX_STRUCTURE_FRAMES // 2
    even = np.linspace(0, num_frames - 1, half).astype(int)
    turn = Rotation.from_matrix(rotations @ best_rotation(rotations.sum(axis=0)).T).magnitude()
    turned = np.argsort(turn)[::-1][: num_frames // 5]
    return np.unique(np.concatenate([even, turned[:: max(1, len(turned) // half)]]))


def _fill_gaps(poses: Poses, valid: np.ndarray) -> Poses:
    """Poses of all frames from those of the valid ones."""
    frames = np.flatnonzero(valid)
    source = np.maximum(np.searchsorted(frames, np.arange(len(valid)), side="right") - 1, 0)
    rotations = interpolate_rotations(poses.rotations[source], valid)
    translations = np.stack(
        [np.interp(np.arange(len(valid)), frames, column) for column in poses.translations.T], axis=1
    )
    return Poses(rotations=rotations, translations=translations)


def _smooth(poses: Poses, tracked: _Tracked) -> SmoothedMotion:
    """The most likely motion through the poses of the valid frames."""
    statistics = motion_statistics(poses, tracked.learned)
    information = np.zeros((len(tracked.valid), 6, 6))
    information[tracked.valid] = np.linalg.inv(statistics.noise_covariance)
    return smooth_poses(poses, information, statistics.jerk_sigma, jumps=tracked.jumps)


def _to_head_space(
    structure: Structure, shape: RigidShape, poses: Poses, tracked: _Tracked
) -> tuple[Poses, np.ndarray]:
    """Poses and all landmarks re-expressed in head space, with its metre, origin and axes."""
    canonical = _unproject_landmarks(structure, shape, poses, tracked)
    turn, centre, unit = frontal_frame(canonical, shape.rigid)
    scale = OUTER_EYE_DISTANCE_M / unit
    canonical = (canonical - centre) @ turn.T * scale
    rotations = poses.rotations @ turn.T
    translations = (poses.translations + poses.rotations @ centre) * scale
    return Poses(rotations=rotations, translations=translations), canonical


def _unproject_landmarks(structure: Structure, shape: RigidShape, poses: Poses, tracked: _Tracked) -> np.ndarray:
    """[478, 3] mean position of every landmark: depth from the tracker, x and y from where it is seen."""
    points = shape.shape * OUTER_EYE_DISTANCE_M
    # The adjusted rigid points may have been scaled and turned against the first shape: bring that shape along.
    fixed = points[shape.rigid]
    points = _similarity(fixed, structure.points, points)
    frames = np.flatnonzero(tracked.learned)
    frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), 1000)).astype(int)]
    part = poses.take(frames)
    for _ in range(3):
        camera = points @ np.swapaxes(part.rotations, 1, 2) + part.translations[:, None]
        ray = (tracked.landmarks[frames, :, :2] - tracked.centre_px) / structure.focal_px
        camera[..., :2] = ray * camera[..., 2:]
        points = np.median((camera - part.translations[:, None]) @ part.rotations, axis=0)
    points[shape.rigid] = structure.points
    return points


def _similarity(source: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``points`` under the similarity transform that takes ``source`` [R, 3] closest to ``target`` [R, 3]."""
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    correlation = (target - target_mean).T @ (source - source_mean)
    rotation = best_rotation(correlation)
    scale = np.trace(rotation.T @ correlation) / np.sum((source - source_mean) ** 2)
    return (points - source_mean) @ rotation.T * scale + target_mean


def as_viewmats(poses: Poses) -> np.ndarray:
    """float32 [T, 4, 4]."""
    viewmats = np.zeros((len(poses.rotations), 4, 4), dtype=np.float32)
    viewmats[:, :3, :3], viewmats[:, :3, 3], viewmats[:, 3, 3] = poses.rotations, poses.translations, 1.0
    return viewmats


def second_difference_deg(rotations: np.ndarray, jumps: Sequence[int] = ()) -> float:
    """Standard deviation of the second difference of rotations [T, 3, 3], in degrees, over all axes.

    Args:
        jumps: first frames after a jump cut; differences over one do not count.
    """
    turns = turns_between(rotations)
    second = np.degrees(np.diff(turns, axis=0))
    second = np.delete(second, spanning(jumps, len(second), order=2), axis=0)
    return float(np.sqrt(np.mean(second.var(axis=0)))) if len(second) else 0.0


def noise_jitter_deg(noise: np.ndarray, measured: np.ndarray) -> float:
    """The same of a sample of rotation noise [T, 3] (radians), over runs of three measured frames."""
    second = np.degrees(np.diff(noise, 2, axis=0))[measured[2:] & measured[1:-1] & measured[:-2]]
    return float(np.sqrt(np.mean(second.var(axis=0)))) if len(second) else 0.0
