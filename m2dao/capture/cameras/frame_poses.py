"""Head poses found frame by frame, neither refined nor smoothed, for the weakest baseline.

A capture's own poses are refined on the picture and smoothed over time; these are neither.
"""

from __future__ import annotations

import copy

import numpy as np

from m2dao.capture.cameras.bundle import Poses, Structure, solve_poses
from m2dao.capture.cameras.solve import as_viewmats, landmark_sigma_px
from m2dao.capture.dataset import Capture
from m2dao.capture.faces.rigid_shape import fit_rigid_shape
from m2dao.errors import ConfigError

POSE_KINDS = ("refined", "frame_by_frame")
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
    view.viewmats = frame_by_frame_viewmats(capture)
    return view


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
