"""Bundle adjustment: shared 3D points, one focal length, and a pose for every frame.

Reference for the algebra: Triggs et al., "Bundle adjustment - a modern synthesis" (1999), sections 4 and 6 (robust
cost, Schur complement). Here the poses are eliminated, because there are few points and many frames.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.rotations import cross_matrix

POSE_DIM = 6  # rotation vector (left perturbation, about the head's origin) and translation
_CHUNK_FRAMES = 1024  # frames whose Jacobians are held at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Poses:
    """World-to-camera poses of T frames."""

    rotations: np.ndarray  # [T, 3, 3]
    translations: np.ndarray  # [T, 3], metres

    def moved(self, delta: np.ndarray) -> Poses:
        """The poses after the small motions ``delta`` [T, 6]."""
        return Poses(
            rotations=Rotation.from_rotvec(delta[:, :3]).as_matrix() @ self.rotations,
            translations=self.translations + delta[:, 3:],
        )

    def take(self, frames: np.ndarray | slice) -> Poses:
        """The poses of some frames."""
        return Poses(rotations=self.rotations[frames], translations=self.translations[frames])


def project(points: np.ndarray, poses: Poses, focal_px: float, centre_px: np.ndarray) -> np.ndarray:
    """Pixels [T, N, 2] of the head-space points [N, 3] (or [T, N, 3]) under every pose."""
    return pinhole(points @ np.swapaxes(poses.rotations, -1, -2) + poses.translations[:, None], focal_px, centre_px)


def pinhole(camera: np.ndarray, focal_px: float, centre_px: np.ndarray | float) -> np.ndarray:
    """Pixels [..., 2] of camera-space points [..., 3]."""
    return focal_px * camera[..., :2] / camera[..., 2:] + centre_px


def projection_jacobians(points, poses: Poses, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of ``project`` by the pose [T, N, 2, 6] and by the camera point [T, N, 2, 3]."""
    rotated = points @ np.swapaxes(poses.rotations, -1, -2)
    camera = rotated + poses.translations[:, None]
    inverse_z = 1.0 / camera[..., 2]
    by_point = np.zeros((*camera.shape[:2], 2, 3))
    by_point[..., 0, 0] = by_point[..., 1, 1] = focal_px * inverse_z
    by_point[..., :, 2] = -focal_px * camera[..., :2] * inverse_z[..., None] ** 2
    by_pose = np.empty((*camera.shape[:2], 2, POSE_DIM))
    by_pose[..., :3] = -by_point @ cross_matrix(rotated)
    by_pose[..., 3:] = by_point
    return by_pose, by_point


def robust_weights(residual: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """Weights 1/sigma^2 that fall off for outliers (Student's t, 4 degrees of freedom): [..., 2]."""
    square = (residual**2).sum(axis=-1) / np.square(sigma)
    return (6.0 / (4.0 + square)) / np.square(sigma)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
    """What all frames share."""

    points: np.ndarray  # [R, 3], metres
    focal_px: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class StructurePrior:
    """Gaussian beliefs about what the recording does not show: depth without turning, focal length."""

    points: np.ndarray  # [R, 3], metres
    point_sigma: float  # metres
    focal_px: float
    log_focal_sigma: float


def adjust_structure(
    observed: np.ndarray,
    sigma_px: np.ndarray,
    start: Structure,
    poses: Poses,
    prior: StructurePrior,
    centre_px: np.ndarray,
    *,
    num_iterations: int = 12,
) -> tuple[Structure, Poses]:
    """Points, focal length and poses that explain the observed pixels best.

    Args:
        observed: [F, R, 2] pixels of the rigid landmarks in a subset of frames.
        sigma_px: [R], how precise each landmark is; includes the error that frames share.
        start, poses: the first guess.

    Returns:
        The structure and the poses of the subset.
    """
    points, log_focal = start.points.copy(), np.log(start.focal_px)
    damping = 1e-4
    cost = np.inf
    for _ in range(num_iterations):
        focal = float(np.exp(log_focal))
        hessian, gradient, back, now = _reduced_system(observed, sigma_px, points, focal, poses, prior, centre_px)
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient)
        step[-1] = np.clip(step[-1], -0.3, 0.3)
        poses = poses.moved(back(step))
        points = points + step[:-1].reshape(-1, 3)
        log_focal += step[-1]
        if abs(cost - now) < 1e-6 * now:
            break
        cost = now
    return Structure(points=points, focal_px=float(np.exp(log_focal))), poses


def _reduced_system(observed, sigma_px, points, focal, poses, prior, centre_px):
    """Normal equations of (points, log focal) without the poses, and the way back to the pose steps."""
    num_points = len(points)
    residual = project(points, poses, focal, centre_px) - observed
    weights = robust_weights(residual, sigma_px)
    by_pose, by_camera_point = projection_jacobians(points, poses, focal)
    by_point = by_camera_point @ poses.rotations[:, None]  # [F, R, 2, 3]
    by_focal = residual + observed - centre_px  # d pixel / d log focal, [F, R, 2]
    weighted_pose = weights[..., None, None] * by_pose
    pose_pose = np.einsum("tnri,tnrj->tij", weighted_pose, by_pose, optimize=True)
    pose_pose += 1e-9 * np.trace(pose_pose, axis1=1, axis2=2)[:, None, None] * np.eye(POSE_DIM)
    pose_gradient = np.einsum("tnri,tnr->ti", weighted_pose, residual, optimize=True)
    cross = np.empty((len(observed), POSE_DIM, 3 * num_points + 1))
    cross[..., :-1] = np.einsum("tnri,tnrk->tink", weighted_pose, by_point, optimize=True).reshape(
        len(observed), POSE_DIM, -1
    )
    cross[..., -1] = np.einsum("tnri,tnr->ti", weighted_pose, by_focal, optimize=True)

    dim = 3 * num_points + 1
    hessian = np.zeros((dim, dim))
    blocks = np.einsum("tn,tnri,tnrj->nij", weights, by_point, by_point, optimize=True)
    index = np.arange(num_points)
    hessian[:-1, :-1].reshape(num_points, 3, num_points, 3)[index, :, index, :] = blocks
    side = np.einsum("tn,tnri,tnr->ni", weights, by_point, by_focal, optimize=True).ravel()
    hessian[-1, :-1] = hessian[:-1, -1] = side
    hessian[-1, -1] = np.einsum("tn,tnr,tnr->", weights, by_focal, by_focal, optimize=True)
    gradient = np.append(
        np.einsum("tn,tnri,tnr->ni", weights, by_point, residual, optimize=True).ravel(),
        np.einsum("tn,tnr,tnr->", weights, by_focal, residual, optimize=True),
    )
    strength = np.append(np.full(3 * num_points, prior.point_sigma**-2.0), prior.log_focal_sigma**-2.0)
    deviation = np.append((points - prior.points).ravel(), np.log(focal / prior.focal_px))
    hessian[np.diag_indices(dim)] += strength
    gradient += strength * deviation

    eliminated = np.linalg.solve(pose_pose, cross)
    hessian -= np.einsum("tia,tib->ab", cross, eliminated, optimize=True)
    gradient -= np.einsum("tia,ti->a", eliminated, pose_gradient, optimize=True)
    pose_step = np.linalg.solve(pose_pose, pose_gradient[..., None])[..., 0]
    cost = float(np.sum(weights * (residual**2).sum(axis=-1)) + np.sum(strength * deviation**2))

    def back(step: np.ndarray) -> np.ndarray:
        return -pose_step - eliminated @ step

    return hessian, gradient, back, cost


def solve_poses(
    observed: np.ndarray,
    sigma_px: np.ndarray,
    structure: Structure,
    poses: Poses,
    centre_px: np.ndarray,
    *,
    num_iterations: int = 6,
) -> tuple[Poses, np.ndarray]:
    """The pose of every frame by itself, for fixed points and focal length.

    Args:
        observed: [T, R, 2] pixels.

    Returns:
        The poses and their information matrices [T, 6, 6] (inverse covariances if landmarks erred independently).
    """
    rotations, translations = poses.rotations.copy(), poses.translations.copy()
    information = np.empty((len(observed), POSE_DIM, POSE_DIM))
    for begin in range(0, len(observed), _CHUNK_FRAMES):
        chunk = slice(begin, begin + _CHUNK_FRAMES)
        part = poses.take(chunk)
        for _ in range(num_iterations):
            normal, gradient = pose_normal_equations(observed[chunk], sigma_px, structure, part, centre_px)
            part = part.moved(-np.linalg.solve(normal, gradient[..., None])[..., 0])
        rotations[chunk], translations[chunk] = part.rotations, part.translations
        information[chunk] = normal
    return Poses(rotations=rotations, translations=translations), information


def pose_normal_equations(
    observed, sigma_px, structure: Structure, poses: Poses, centre_px
) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Newton normal matrices [T, 6, 6] and gradients [T, 6] of the reprojection error."""
    residual = project(structure.points, poses, structure.focal_px, centre_px) - observed
    weights = robust_weights(residual, sigma_px)
    by_pose, _ = projection_jacobians(structure.points, poses, structure.focal_px)
    num_frames = len(observed)
    rows = (by_pose * np.sqrt(weights)[..., None, None]).reshape(num_frames, -1, POSE_DIM)
    values = (residual * np.sqrt(weights)[..., None]).reshape(num_frames, -1, 1)
    transposed = np.swapaxes(rows, 1, 2)
    return transposed @ rows, (transposed @ values)[..., 0]
