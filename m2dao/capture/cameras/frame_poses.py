"""Head poses as weaker pipelines find them, for the baselines.

refined         the capture's own: on the picture of face, hair and ears, smoothed over time
tracked         as published trackers find them: one fit of focal length, face and poses to the landmarks, then to
                the picture of the face alone, smoothed over time
frame_by_frame  by the landmarks of each frame alone, neither refined nor smoothed
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np

from m2dao.capture.cameras.bundle import Poses, Structure, solve_poses
from m2dao.capture.cameras.solve import CameraSolution, as_viewmats, landmark_sigma_px, solve_cameras
from m2dao.capture.dataset import Capture
from m2dao.capture.faces.rigid_shape import fit_rigid_shape
from m2dao.errors import ConfigError

POSE_KINDS = ("refined", "tracked", "frame_by_frame")
_NUM_ITERATIONS = 10


def with_poses(capture: Capture, kind: str) -> Capture:
    """A view of a capture with poses of one of ``POSE_KINDS``; the capture itself is not changed.

    Raises:
        ConfigError: another kind.
    """
    if kind not in POSE_KINDS:
        raise ConfigError("kind of poses", f"one of {', '.join(POSE_KINDS)}", repr(kind))
    if kind == "refined":
        return capture
    view = copy.copy(capture)
    if kind == "tracked":
        found = _tracked(capture.folder, capture.content_sha256)
        view.K, view.viewmats, view.canonical_landmarks = found.K, found.viewmats, found.canonical_landmarks
    else:
        view.viewmats = frame_by_frame_viewmats(capture)
    return view


@functools.lru_cache(maxsize=1)  # a fit and its evaluations ask one after the other, and every frame is read for it
def _tracked(folder: Path, content_sha256: str) -> CameraSolution:
    """Cameras of a capture by its landmarks and the picture of its face.

    Args:
        folder: of the capture.
        content_sha256: of what lies there, so that another capture in its place is tracked anew.
    """
    capture = Capture.open(folder, verify=False)
    jumps = np.flatnonzero(np.diff(capture.shots)) + 1
    return solve_cameras(capture.landmarks, capture.valid, capture.size, capture.frame, jumps=jumps.tolist())


def frame_by_frame_viewmats(capture: Capture) -> np.ndarray:
    """Each frame's pose by its rigid landmarks alone (Gauss-Newton with robust weights).

    Points and focal length are the capture's, so the poses live in the same head space.

    Returns:
        float32 [T, 4, 4], head space to camera.
    """
    shape = fit_rigid_shape(capture.landmarks)
    points = capture.canonical_landmarks[shape.rigid].astype(np.float64)
    observed = capture.landmarks[:, shape.rigid, :2].astype(np.float64)
    start = capture.viewmats.astype(np.float64)
    poses, _ = solve_poses(
        observed,
        landmark_sigma_px(shape),
        Structure(points=points, focal_px=float(capture.K[0, 0])),
        Poses(rotations=start[:, :3, :3], translations=start[:, :3, 3]),
        capture.K[:2, 2].astype(np.float64),
        num_iterations=_NUM_ITERATIONS,
    )
    return as_viewmats(poses)
