"""Chooses the points on a head that poses are measured at: rigid skin, hair and ears.

Of a face alone a nod is hard to tell from a brow that rises, because all of it lies at about the same depth. Hair, ears
and temples lie up to a decimetre behind: points there tell the two apart. The face's depth is its landmarks', that of
the rest is a guess which the recording itself corrects (`relief.py`).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator

from m2dao.capture.rotations import unit
from m2dao.gaussians.surface import surface_depth
from m2dao.gaussians.views import project, unproject
from m2dao.regions import BETWEEN_BROWS, CHIN, FACE_OVAL, FACIAL, HEAD, IRIS, LEFT_EYE, NOSE_BASE, OUTER_LIPS, RIGHT_EYE

_SPACING_M = 0.003  # between texture points; about four pixels of a 512-pixel portrait
_TILE_POINTS = 5  # side of the tiles that fall to one half or the other
_RASTER_M = 0.0005
_BORDER_M = {"oval": 0.006, "eyes": 0.003, "lips": 0.004, "head": 0.003}  # kept clear, because these contours move
_BELOW_NOSE_M = 0.012
_SIDES_OF_FACE = (234, 454)  # landmarks before the ears
_SKULL_BEHIND_M = 0.03  # the middle of the skull behind the line between them
_SEEN_IN_REFERENCE = 0.5  # how far normals beyond the face are drawn towards the camera that saw them
_SURE = 0.9  # of a region mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class TexturePoints:
    """S points of a head that turns as one."""

    points: np.ndarray  # [S, 3], metres, head space
    normals: np.ndarray  # [S, 3], unit, towards the outside (negative z in front)
    half: np.ndarray  # bool [S], a checkerboard that splits the points into two independent halves
    freedom_m: np.ndarray  # [S], how far each may be off along its ray; zero on the face
    rays: np.ndarray  # [S, 3], unit, away from the camera that saw the point

    @property
    def on_face(self) -> np.ndarray:
        """bool [S]."""
        return self.freedom_m == 0

    def take(self, chosen: np.ndarray) -> TexturePoints:
        """Some of the points."""
        return TexturePoints(**{f.name: getattr(self, f.name)[chosen] for f in dataclasses.fields(self)})

    def joined(self, other: TexturePoints) -> TexturePoints:
        """These points, then those."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)}
        return TexturePoints(**{name: np.concatenate(pair) for name, pair in pairs.items()})


def face_points(canonical: np.ndarray) -> TexturePoints:
    """A regular grid over forehead, nose and upper cheeks of the mesh ``canonical`` [478, 3], metres."""
    flat = canonical[: IRIS.start, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    mask = _rigid_region(canonical, low, high)
    axes = [np.arange(low[i], high[i], _SPACING_M) for i in range(2)]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    depth = LinearNDInterpolator(flat, canonical[: IRIS.start, 2])(grid)
    slope_y, slope_x = np.gradient(depth, _SPACING_M)
    normals = unit(np.stack([slope_x, slope_y, -np.ones_like(depth)], axis=-1))
    pixel = ((grid - low) / _RASTER_M).astype(int)
    kept = (mask[pixel[..., 1], pixel[..., 0]] > 0) & np.isfinite(depth) & np.isfinite(normals).all(axis=-1)
    points = np.concatenate([grid, depth[..., None]], axis=-1)[kept]
    return TexturePoints(
        points=points,
        normals=normals[kept],
        half=_checkerboard(grid[kept], _SPACING_M),
        freedom_m=np.zeros(len(points)),
        rays=np.zeros_like(points),
    )


def head_points(
    masks: np.ndarray, rotation: np.ndarray, translation: np.ndarray, focal_px: float, canonical: np.ndarray
) -> TexturePoints:
    """A regular grid over hair, ears and temples as one frame shows them.

    Args:
        masks: uint8 [size, size, 4], the frame's regions.
        rotation, translation: [3, 3] and [3], the frame's pose.
        focal_px: focal length in pixels.
        canonical: [478, 3], metres, head space.

    Returns:
        Points above the chin and outside the landmarks; none where no head is seen there.
    """
    size = len(masks)
    K = np.array([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1]])
    viewmat = np.concatenate([rotation, translation[:, None]], axis=1)
    pixels_per_m = focal_px / translation[2]
    grid = _grid(size, _SPACING_M * pixels_per_m)
    around = _around_face(masks, project(canonical, viewmat, K), pixels_per_m)
    pixels = grid[around[grid[:, 1].astype(int), grid[:, 0].astype(int)]]
    depth, freedom_m = surface_depth(pixels, viewmat, K, canonical)
    camera = unproject(pixels, depth, K)
    points = (camera - translation) @ rotation
    found = TexturePoints(
        points=points,
        normals=outwards(points, canonical),
        half=_checkerboard(pixels, _SPACING_M * pixels_per_m),
        freedom_m=freedom_m,
        rays=unit(camera) @ rotation,
    )
    return found.take(points[:, 1] < canonical[CHIN, 1])


def below_brows(face: TexturePoints, canonical: np.ndarray) -> TexturePoints:
    """The face's points without the forehead, which rises with the brows as if the head nodded."""
    return face.take(face.points[:, 1] > canonical[BETWEEN_BROWS, 1])


def outwards(points: np.ndarray, canonical: np.ndarray) -> np.ndarray:
    """[S, 3] normals of points beyond the face: away from the skull, drawn towards the viewer.

    What hair is really like nobody knows; what a frame has shown must have been turned towards it.
    """
    middle = canonical[list(_SIDES_OF_FACE)].mean(axis=0) + [0, 0, _SKULL_BEHIND_M]
    return unit(unit(points - middle) - [0, 0, _SEEN_IN_REFERENCE])


def _rigid_region(canonical: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """uint8 raster over the frontal plane: inside the oval, above the mouth, away from moving contours."""
    shape = np.ceil((high - low) / _RASTER_M).astype(int) + 1
    mask = np.zeros((shape[1], shape[0]), dtype=np.uint8)

    def contour(indices):
        return np.round((canonical[list(indices), :2] - low) / _RASTER_M).astype(np.int32).reshape(-1, 1, 2)

    cv2.fillPoly(mask, [contour(FACE_OVAL)], 255)
    mask = cv2.erode(mask, _disc(_BORDER_M["oval"] / _RASTER_M), borderValue=0)
    for name, rings in (("eyes", (RIGHT_EYE, LEFT_EYE)), ("lips", (OUTER_LIPS,))):
        hole = np.zeros_like(mask)
        for ring in rings:
            cv2.fillPoly(hole, [cv2.convexHull(contour(ring))], 255)
        mask[cv2.dilate(hole, _disc(_BORDER_M[name] / _RASTER_M)) > 0] = 0
    mask[int((canonical[NOSE_BASE, 1] + _BELOW_NOSE_M - low[1]) / _RASTER_M) :] = 0
    return mask


def _around_face(masks: np.ndarray, marks: np.ndarray, pixels_per_m: float) -> np.ndarray:
    """bool [size, size]: surely head, a little inside its outline, and outside the landmarks [478, 2]."""
    head = masks[..., FACIAL].astype(np.int32) + masks[..., HEAD] > 255 * _SURE
    inside = cv2.erode(head.astype(np.uint8), _disc(_BORDER_M["head"] * pixels_per_m), borderValue=0)
    face = np.zeros(masks.shape[:2], np.uint8)
    cv2.fillPoly(face, [cv2.convexHull(np.round(marks[: IRIS.start]).astype(np.int32))], 1)
    return (inside > 0) & (face == 0)


def _grid(size: int, step: float) -> np.ndarray:
    """[N, 2] positions x, y over a picture."""
    axis = np.arange(step / 2, size, step)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def _checkerboard(grid: np.ndarray, step: float) -> np.ndarray:
    """bool [N]: the tile of the checkerboard that positions [N, 2] of a grid fall on."""
    return np.floor(grid / (_TILE_POINTS * step)).astype(int).sum(axis=-1) % 2 == 0


def _disc(radius: float) -> np.ndarray:
    side = 2 * round(radius) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
