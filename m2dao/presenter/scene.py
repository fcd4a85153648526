"""A presenter in front of a camera: all that is drawn, and the function that draws a frame."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from m2dao.kernels.compiled import warms_up
from m2dao.presenter import expressions, hair, light, parts, raster, shape, skin
from m2dao.presenter.backdrop import make_backdrop
from m2dao.presenter.people import Person, get_person, persons

FOCAL = 2.70  # focal length in picture widths
DISTANCE_M = 1.05
LOOK_AT_Y = 0.010  # height in head space of the picture's centre
EXPOSURE = 1.0


def intrinsics(size: int) -> np.ndarray:
    """K f32 [3, 3] of a picture of ``size`` pixels."""
    return np.array([[FOCAL * size, 0, size / 2], [0, FOCAL * size, size / 2], [0, 0, 1]], np.float32)


def rest_viewmat() -> np.ndarray:
    """Head space to camera for a head that looks straight into it, f64 [4, 4]."""
    viewmat = np.eye(4)
    viewmat[:3, 3] = (0.0, -LOOK_AT_Y, DISTANCE_M)
    return viewmat


@dataclass(frozen=True, kw_only=True)
class FrameState:
    """What the presenter does in one frame.

    Args:
        controls: f32 [K], in the order of ``expressions.CONTROLS``.
        tongue: 0 rest .. 1 tip at the upper teeth.
        gaze: (yaw, pitch) of the eyes in radians relative to the head; positive looks to image right and down.
        head, torso: f64 [4, 4], head space to camera for the head and for the trunk.
    """

    controls: np.ndarray
    tongue: float
    gaze: tuple[float, float]
    head: np.ndarray
    torso: np.ndarray


@dataclass(frozen=True)
class Rendered:
    """One drawn frame: rgb u8 [H, W, 3], masks u8 [H, W, 4] and what the face measured in head space."""

    rgb: np.ndarray
    masks: np.ndarray
    lip_opening: float
    lip_width: float
    blink: np.ndarray  # [2] image-left, image-right: 0 open, 1 closed
    landmarks: np.ndarray  # f32 [L, 2] pixels, see Scene.LANDMARKS


class Scene:
    """A presenter, built once; ``render`` may be called from several threads at the same time.

    Args:
        person: who.
        size: side of the picture in pixels.
        seed: fixes every random detail.
    """

    LANDMARKS = (
        "left_eye_outer",
        "left_eye_inner",
        "right_eye_inner",
        "right_eye_outer",
        "mouth_left",
        "mouth_right",
        "upper_lip_inner",
        "lower_lip_inner",
        "nose_tip",
        "chin",
        "left_lid_upper",
        "left_lid_lower",
        "right_lid_upper",
        "right_lid_lower",
    )

    def __init__(self, person: Person, *, size: int, seed: int):
        self.person, self.size = person, size
        self._local = threading.local()
        self._curve = raster.tone_curve(EXPOSURE)
        rng = np.random.default_rng([seed, 11])
        self.grid = shape.build_grid(person)
        self.fields = expressions.build_fields(self.grid, person).reshape(len(expressions.CONTROLS), -1)
        self.body = skin.paint_head(self.grid, person, seed)
        normals = np.empty_like(self.body.points)
        raster.grid_normals(self.body.points, True, normals)
        scalp = hair.scalp_share(self.grid.points, person)
        self.body.albedo[:] += (scalp * 0.92)[..., None] * (
            np.array(hair.linear(person.hair)) * 0.45 - self.body.albedo
        )
        self.body.region[scalp > 0.5] = parts.HEAD
        self.hair = hair.head_hair(self.grid.points, normals, person, rng)
        self.brows = hair.brows(self.grid.points, normals, person, rng)
        self.beard = hair.beard(self.grid.points, normals, person, rng)
        self.lashes, self.lashes_closed = hair.lashes(self.grid, person, rng)
        self.eyes = [parts.eyeball(person, sign, seed) for sign in (-1.0, 1.0)]
        self.upper_teeth, self.lower_teeth = parts.teeth(person, upper=True), parts.teeth(person, upper=False)
        self.tongue, self.cavity = parts.tongue(), parts.cavity()
        self.ears = [parts.ear(person, sign) for sign in (-1.0, 1.0)]
        self.lights = light.lights_of(person)
        self.backdrop = make_backdrop(person, size, seed)
        self._lid_mask = self._find_lid_vertices()
        self._bake()
        self._marks = self._find_landmarks()

    def backdrop_rgb(self) -> np.ndarray:
        """The room without the presenter, u8 [H, W, 3]."""
        side = 2 * self.size + 2
        rgb, masks = np.empty((self.size, self.size, 3), np.uint8), np.empty((self.size, self.size, 4), np.uint8)
        empty = np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.uint8)
        raster.resolve(*empty, self.backdrop, self._curve, rgb, masks)
        return rgb

    # ------------------------------------------------------------------ building
    def _find_lid_vertices(self) -> np.ndarray:
        """Flat indices of grid vertices that must stay outside the eyeballs."""
        x, y, z = np.moveaxis(self.grid.points, -1, 0)
        near = (np.abs(np.abs(x) - shape.EYE_X) < 0.0155) & (np.abs(y - shape.EYE_Y) < 0.0145) & (z < 0)
        return np.flatnonzero(near)

    def _find_landmarks(self) -> dict[str, int]:
        """Flat indices of named grid vertices."""
        points = self.grid.points
        cols = points.shape[1]

        def on_row(row, x):
            return row * cols + int(np.argmin(np.abs(points[row, :, 0] - x) + 10.0 * (points[row, :, 2] > 0)))

        eye_up, eye_low = self.grid.eye_rows
        lip_up, lip_low = self.grid.mouth_rows
        outer, inner = shape.EYE_X + shape.EYE_HALF_WIDTH, shape.EYE_X - shape.EYE_HALF_WIDTH
        corner = shape.MOUTH_HALF_WIDTH * self.person.mouth_width
        middle = points.shape[1] // 2
        front = points[:, middle, 2]
        nose = int(np.argmin(np.abs(points[:, middle, 1] - 0.0113) + 10.0 * (front > 0)))
        chin = int(np.argmin(np.abs(points[:, middle, 1] - 0.0935 - self.person.chin_drop)))
        return {
            "left_eye_outer": on_row(eye_up, -outer),
            "left_eye_inner": on_row(eye_up, -inner),
            "right_eye_inner": on_row(eye_up, inner),
            "right_eye_outer": on_row(eye_up, outer),
            "mouth_left": on_row(lip_up, -corner),
            "mouth_right": on_row(lip_up, corner),
            "upper_lip_inner": on_row(lip_up, 0.0),
            "lower_lip_inner": on_row(lip_low, 0.0),
            "nose_tip": nose * cols + middle,
            "chin": chin * cols + middle,
            "left_lid_upper": on_row(eye_up, -shape.EYE_X),
            "left_lid_lower": on_row(eye_low, -shape.EYE_X),
            "right_lid_upper": on_row(eye_up, shape.EYE_X),
            "right_lid_lower": on_row(eye_low, shape.EYE_X),
        }

    def _bake(self) -> None:
        """Light the resting, open-eyed head and its ears; see ``light.bake``."""
        controls = np.zeros(len(expressions.CONTROLS), np.float32)
        controls[[expressions.CONTROLS.index("lids_left"), expressions.CONTROLS.index("lids_right")]] = 1.0
        points = self._deform(controls)
        sheets = [(self.body, points, self.grid.rim)]
        sheets += [(ear, ear.points, np.zeros(len(ear.points), np.float32)) for ear in self.ears]
        light.bake(sheets, self.hair, points.reshape(-1, 3)[self.hair.roots], self.lights[0, :3])

    # ------------------------------------------------------------------ drawing
    def _deform(self, controls: np.ndarray) -> np.ndarray:
        weights = np.array(controls, np.float32)
        seal, jaw = expressions.CONTROLS.index("seal"), expressions.CONTROLS.index("jaw")
        weights[seal] *= weights[jaw]  # the sealing field undoes the gap of a fully open jaw
        moved = (weights @ self.fields).reshape(self.body.points.shape) + self.body.points
        flat = moved.reshape(-1, 3)
        p = flat[self._lid_mask]
        rim = np.repeat(self.grid.rim, moved.shape[1])[self._lid_mask]
        dx = np.abs(p[:, 0]) - shape.EYE_X
        dy = p[:, 1] - shape.EYE_Y
        radius = shape.EYE_RADIUS + np.where(rim > 0, 0.0004, 0.0012)
        inside = radius**2 - dx * dx - dy * dy
        shell = shape.EYE_Z - np.sqrt(np.maximum(inside, 0.0))
        # a soft minimum: the lid drapes over the ball without a crease where it leaves it
        gap = np.where(inside > 0, p[:, 2] - shell, -1.0)
        soft = 0.0012
        push = np.where(gap > -soft, 0.25 * np.maximum(gap + soft, 0.0) ** 2 / soft, 0.0)
        push = np.where(gap > soft, gap, push)
        p[:, 2] -= np.where(inside > 0, push, 0.0)
        flat[self._lid_mask] = p
        return moved

    def _close_seams(self, normals: np.ndarray, points: np.ndarray) -> None:
        """Beyond a slit's corners its two edges are one line of skin: give them one normal."""
        for upper, lower in (self.grid.eye_rows, self.grid.mouth_rows):
            apart = np.abs(points[lower] - points[upper]).sum(-1, keepdims=True)
            inner = np.abs(points[upper + 1] - points[upper]).sum(-1, keepdims=True)
            both = normals[upper] + normals[lower]
            both /= np.linalg.norm(both, axis=-1, keepdims=True) + 1e-9
            joined = (apart < 1e-6) & (inner < 1e-6)
            for row in (upper, lower):
                normals[row] = np.where(joined, both, normals[row])

    def _draw(self, sheet, points, lit, state, buffers, follow=None) -> None:
        normals = np.empty_like(points)
        raster.grid_normals(points, sheet.wrap, normals)
        if sheet is self.body:
            self._close_seams(normals, points)
        camera, turned = np.empty_like(points), np.empty_like(points)
        head = state.head if follow is None else follow
        raster.to_camera(
            points, normals, sheet.weight, head.astype(np.float32), state.torso.astype(np.float32), camera, turned
        )
        colors = np.zeros_like(points)
        raster.shade(camera, turned, sheet.albedo, sheet.material, lit, self.lights, colors)
        projected = np.empty_like(points)
        raster.project(camera, np.float32(FOCAL * 2 * self.size), np.float32(self.size + 1), projected)
        raster.draw_sheet(projected, colors, sheet.region, sheet.skip_row, *buffers)

    def _draw_strands(self, strands, offsets, roots, state, buffers) -> None:
        raster.draw_strands(
            roots[strands.roots],
            offsets,
            strands.tint,
            strands.base,
            strands.seen,
            strands.region,
            state.head.astype(np.float32),
            self.lights,
            np.float32(FOCAL * 2 * self.size),
            np.float32(self.size + 1),
            np.float32(strands.bias),
            *buffers,
        )

    def _buffers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """This thread's sample buffers, emptied: depth, colour, region."""
        if not hasattr(self._local, "buffers"):
            side = 2 * self.size + 2
            self._local.buffers = (
                np.empty((side, side), np.float32),
                np.empty((side, side, 3), np.float32),
                np.empty((side, side), np.uint8),
            )
        raster.clear(*self._local.buffers)
        return self._local.buffers

    def render(self, state: FrameState) -> Rendered:
        """Draw one frame."""
        buffers = self._buffers()
        named = dict(zip(expressions.CONTROLS, state.controls, strict=True))
        points = self._deform(state.controls)
        self._draw(self.body, points, self.body.light, state, buffers)
        for ear in self.ears:
            self._draw(ear, ear.points, ear.light, state, buffers)
        self._draw_eyes(state, named, buffers)
        self._draw_mouth(state, named, buffers)
        roots = points.reshape(-1, 3)
        opening = np.where(roots[self.lashes.roots, 0] < 0, named["lids_left"], named["lids_right"])[:, None, None]
        self._draw_strands(self.brows, self.brows.offsets, roots, state, buffers)
        if self.beard is not None:
            self._draw_strands(self.beard, self.beard.offsets, roots, state, buffers)
        lash = self.lashes_closed + (self.lashes.offsets - self.lashes_closed) * opening.astype(np.float32)
        self._draw_strands(self.lashes, lash, roots, state, buffers)
        self._draw_strands(self.hair, self.hair.offsets, roots, state, buffers)
        rgb = np.empty((self.size, self.size, 3), np.uint8)
        masks = np.empty((self.size, self.size, 4), np.uint8)
        raster.resolve(buffers[1], buffers[2], self.backdrop, self._curve, rgb, masks)
        return self._measure(points, state, rgb, masks)

    def _draw_eyes(self, state, named, buffers) -> None:
        yaw, pitch = state.gaze
        turn = rotation(pitch, yaw, 0.0).astype(np.float32)
        for sign, eye in zip((-1.0, 1.0), self.eyes, strict=True):
            centre = np.array([sign * shape.EYE_X, shape.EYE_Y, shape.EYE_Z], np.float32)
            points = eye.points @ turn.T + centre
            lids = named["lids_left" if sign < 0 else "lids_right"]
            x, y = points[..., 0], points[..., 1]
            rise, _ = expressions.lid_lift(x, self.person)
            below_lid = y - (shape.eye_line(x) - rise * lids)
            shadow = shape.smoothstep(-0.0005, 0.0042, below_lid)
            s = (np.abs(x) - shape.EYE_X) / shape.EYE_HALF_WIDTH
            corner = shape.smoothstep(1.08, 0.55, np.abs(s))
            lit = np.empty((*x.shape, 2), np.float32)
            lit[..., 0] = (0.16 + 0.72 * shadow) * (0.35 + 0.65 * corner)
            lit[..., 1] = (0.05 + 0.85 * shadow) * (0.25 + 0.75 * corner)
            self._draw(eye, np.ascontiguousarray(points, np.float32), lit, state, buffers)

    def _draw_mouth(self, state, named, buffers) -> None:
        angle = float(named["jaw"]) * expressions.JAW_RADIANS
        jaw = np.eye(4)
        jaw[:3, :3] = rotation(angle, 0.0, 0.0)
        hinge = np.array([0.0, shape.JAW_HINGE_Y, shape.JAW_HINGE_Z])
        jaw[:3, 3] = hinge - jaw[:3, :3] @ hinge
        lower = state.head @ jaw
        open_ = min(
            float(named["jaw"]) * (1.0 - float(named["seal"])) * 1.6
            + 0.5 * float(named["lower_drop"])
            + 0.4 * float(named["upper_raise"]),
            1.0,
        )
        lit = np.float32(0.32 + 0.46 * open_)
        for sheet, points, follow in (
            (self.upper_teeth, self.upper_teeth.points, state.head),
            (self.lower_teeth, self.lower_teeth.points, lower),
            (self.tongue, self._tongue_points(state.tongue), lower),
            (self.cavity, self.cavity.points, state.head),
        ):
            self._draw(sheet, points, np.full((*points.shape[:2], 2), lit, np.float32), state, buffers, follow)

    def _tongue_points(self, raised: float) -> np.ndarray:
        points = self.tongue.points.copy()
        tip = shape.smoothstep(-0.010, -0.042, points[..., 2])
        points[..., 1] -= np.float32(0.012 * raised) * tip
        points[..., 2] -= np.float32(0.0030 * raised) * tip
        return points

    def _measure(self, points, state, rgb, masks) -> Rendered:
        flat = points.reshape(-1, 3).astype(np.float64)
        at = {name: flat[index] for name, index in self._marks.items()}
        eye_distance = np.linalg.norm(at["left_eye_outer"] - at["right_eye_outer"])
        gap = np.linalg.norm(at["upper_lip_inner"] - at["lower_lip_inner"]) / eye_distance
        width = np.linalg.norm(at["mouth_left"] - at["mouth_right"]) / eye_distance
        lids = dict(zip(expressions.CONTROLS, state.controls, strict=True))
        blink = 1.0 - np.array([lids["lids_left"], lids["lids_right"]], np.float32)
        camera = np.stack([at[name] for name in self.LANDMARKS]) @ state.head[:3, :3].T + state.head[:3, 3]
        pixels = FOCAL * self.size * camera[:, :2] / camera[:, 2:] + self.size / 2
        return Rendered(rgb, masks, float(gap), float(width), blink, pixels.astype(np.float32))


def rotation(about_x: float, about_y: float, about_z: float) -> np.ndarray:
    """Rz Ry Rx in camera axes, f64 [3, 3]; positive: nods down, turns image right, tips clockwise."""
    cx, sx, cy, sy, cz, sz = (f(a) for a in (about_x, about_y, about_z) for f in (np.cos, np.sin))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


@warms_up
def _draw_somebody() -> None:
    """A small picture of somebody, and of the room."""
    scene = Scene(get_person(persons()[0]), size=16, seed=0)
    still = np.zeros(len(expressions.CONTROLS), np.float32)
    scene.render(FrameState(controls=still, tongue=0.0, gaze=(0.0, 0.0), head=rest_viewmat(), torso=rest_viewmat()))
    scene.backdrop_rgb()
