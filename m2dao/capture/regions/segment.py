"""Soft masks of the motion regions: facial skin, mouth, rest of the head, torso.

Where the person ends is the segmentation network's word, sharpened on the picture. Where the face ends is the landmark
mesh's, except along the hair line, where the colours of this person's skin and hair decide. The chin line divides head
from torso; hair that hangs below it belongs to the head if the recording shows such hair.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from m2dao.capture.faces.head_frame import HeadFrame, soft_polygon
from m2dao.capture.regions.colour_models import ColourModels
from m2dao.capture.regions.mask_kernel import finish_masks
from m2dao.capture.regions.matte import MATTE_SIDE, GuidedFilter, PersonSegmenter
from m2dao.errors import CaptureRejected
from m2dao.regions import CHIN, FACE_OVAL, FOREHEAD, LEFT_BROW, LEFT_EYE, OUTER_LIPS, RIGHT_BROW, RIGHT_EYE

_ZONES = ("skin", "hair", "neck", "clothes", "beside_neck", "beside_ears")  # where colours are taken from
_SAMPLES_PER_FRAME = 400  # colours of each class taken from one observed frame
_EDGE_RADIUS, _EDGE_EPSILON = 4, 2e-4  # of the guided filter, pixels at 256 and variance of a colour in 0..1
_POLYGON_SIGMA = 0.012  # softness of polygon edges, outer eye distances
_BORDER_SIGMA = 0.02  # softness of the border between head and torso
# Heights and widths in the head frame (outer eye distances; v is negative above the eyes).
_DOME_HEIGHT = 0.42  # how far above the tracked oval the forehead may reach
_HAIR_LOW_V = 2.4  # hanging hair is not looked for below this
_HAIR_HALF_WIDTH_U = 1.8
_NO_SKIN_BESIDE = 8.0  # how much less likely (log density) skin is beside the neck than in front of it
_ALL_HEAD = 0.9999  # of a share, but for rounding
_JAW_ANGLES = (58, 288)  # where the line between head and neck leaves the oval
_EAR_LOBES = (132, 361)
_OVAL_TOP = (162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389)  # from temple to temple over the forehead
_WIDE_HAIR_SHARE = (
    0.5  # of the strips beside the ears that must be person before hair is taken to fall to the shoulders
)
_LONG_HAIR_SHARE = 0.12  # of the person beside the neck that must look like hair before any is looked for


class RegionSegmenter:
    """Cuts pictures of one recording into regions.

    First ``observe`` some frames spread over the recording (20 to 100), then ``segment`` any frame, in any order: the
    result depends on nothing but the frame, its landmarks and the observed ones.

    Args:
        model_path: segmentation network; fetched when not given.
        num_threads: of the network.
        seed: of the colour models.
        person: finds the person's coarse alpha in a picture of 256x256, float32 [256, 256, 3] in 0..1 to float32
            [256, 256]; the segmentation network when not given.
    """

    def __init__(
        self,
        model_path: Path | None = None,
        *,
        num_threads: int = 1,
        seed: int = 0,
        person: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self._make_person = lambda: person or PersonSegmenter(model_path, num_threads=num_threads)
        self._person = self._make_person()
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._samples: dict[str, list[np.ndarray]] = {name: [] for name in _ZONES}
        self._models: ColourModels | None = None
        self._wide_shares: list[float] = []  # per observed frame: how much of the strips beside the ears is person
        self._has_long_hair = False

    def observe(self, rgb: np.ndarray, landmarks: np.ndarray) -> None:
        """Learn the colours of this person from one frame.

        Args:
            rgb: uint8 [H, W, 3].
            landmarks: float [478, 2 or 3], pixels.
        """
        small = _shrink(rgb, MATTE_SIDE)
        alpha = self._person(small.astype(np.float32) / 255.0)
        points = landmarks[:, :2] * (MATTE_SIDE / _side(rgb))
        frame = HeadFrame.of(points)
        u, v = frame.coordinates(MATTE_SIDE, MATTE_SIDE)
        inner_face = _inner_face(points, frame)
        uv = frame.to_frame(points)
        chin_v, top_v = uv[CHIN, 1], uv[FOREHEAD, 1]
        sure = alpha > 0.95
        lobe_v = uv[list(_EAR_LOBES), 1].mean()
        strips = (np.abs(u) > 1.0) & (np.abs(u) < 1.15) & (v > lobe_v - 0.35) & (v < lobe_v)
        self._wide_shares.append(float(alpha[strips].mean()) if strips.any() else 0.0)
        beside = sure & (np.abs(u) > 0.5) & (np.abs(u) < 1.0) & (v > chin_v) & (v < chin_v + 0.5)
        zones = {
            "skin": inner_face & sure,
            "hair": sure & (np.abs(u) < 0.8) & (v < top_v - _DOME_HEIGHT),
            "neck": sure & (np.abs(u) < 0.3) & (v > chin_v + 0.06) & (v < chin_v + 0.3),
            # The lowest part that is in the picture, off the middle where the collar may be open.
            "clothes": sure & (v > max(chin_v + 0.45, v[sure].max(initial=0) - 0.5)) & (np.abs(u) > 0.5),
            "beside_neck": beside,
            "beside_ears": sure & strips,
        }
        for name, zone in zones.items():
            colours = small[zone]
            if len(colours) > _SAMPLES_PER_FRAME:
                colours = colours[self._random.choice(len(colours), _SAMPLES_PER_FRAME, replace=False)]
            self._samples[name].append(colours)
        self._models = None

    def twin(self) -> RegionSegmenter:
        """One that has learned the same and has a network of its own, for another thread.

        Raises:
            CaptureRejected: no frame was observed.
        """
        self._fitted_models()
        twin = copy.copy(self)
        twin._person = self._make_person()  # the network keeps its buffers from call to call
        return twin

    def segment(self, rgb: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Region masks of one frame.

        Args:
            rgb: uint8 [H, W, 3].
            landmarks: float [478, 2 or 3], pixels.

        Returns:
            uint8 [H, W, 4], channels as in ``REGIONS``; they never sum to more than 255, the rest is background.

        Raises:
            CaptureRejected: no frame was observed.
        """
        models = self._fitted_models()
        size = _side(rgb)
        small = _shrink(rgb, MATTE_SIDE)
        guide = small.astype(np.float32) / 255.0
        edges = GuidedFilter(guide, _EDGE_RADIUS, _EDGE_EPSILON)
        matte = self._person(guide)

        # Shapes are soft by more than two pixels, so half the resolution is enough for them.
        side = max(MATTE_SIDE, size // 2)
        points = landmarks[:, :2].astype(np.float64) * (side / size)
        frame = HeadFrame.of(points)
        facial, oral = _face_shapes(points, frame, self._skin(models, small, edges, points, frame, side))
        head_side = soft_polygon(_head_side(points, frame), side, side, _BORDER_SIGMA * frame.unit_px)
        if self._has_long_hair:
            head_side = np.maximum(head_side, self._hanging_hair(models, small, edges, points, head_side))
        # Away from its edge the network is right, and the picture's noise has no say.
        window = np.ones((2 * _EDGE_RADIUS + 1,) * 2, dtype=np.uint8)
        lowest, highest = cv2.erode(matte, window), cv2.dilate(matte, window)
        return finish_masks(rgb, edges.coefficients(matte), lowest, highest, _shares(facial, oral, head_side))

    def _fitted_models(self) -> ColourModels:
        if self._models is None:
            if not self._samples["skin"]:
                raise CaptureRejected("region masks", "frames observed before any is cut into regions", "none")
            colours = {name: np.concatenate(parts) for name, parts in self._samples.items()}
            beside_neck = colours.pop("beside_neck")
            beside_ears = colours.pop("beside_ears")
            falls_wide = bool(np.mean(self._wide_shares) > _WIDE_HAIR_SHARE)
            if falls_wide:
                colours["hair"] = np.concatenate([colours["hair"], beside_ears])
                # Then it lies on the shoulders as well, and must not be learned as clothes.
                for name in ("clothes", "neck"):
                    colours[name] = _unlike_hair(colours[name], colours["hair"], self._seed)
            self._models = ColourModels(colours, seed=self._seed)
            self._has_long_hair = falls_wide or self._share_of_hair(self._models, beside_neck) > _LONG_HAIR_SHARE
        return self._models

    @staticmethod
    def _share_of_hair(models: ColourModels, colours: np.ndarray) -> float:
        """How much of some colours looks like hair and neither like skin nor like clothes."""
        if not len(colours):
            return 0.0
        indices = ColourModels.indices(colours[None])
        others = _highest(models, indices, ("skin", "neck", "clothes"))
        return float(np.mean(models.log_density("hair", indices) > others + 1.0))

    def _skin(
        self, models: ColourModels, small: np.ndarray, edges: GuidedFilter, points, frame, side: int
    ) -> np.ndarray:
        """Skin against hair with the edges of the picture, float32 [side, side]; zero away from the face."""
        shape = _with_forehead(points, frame)
        margin = 10 * _POLYGON_SIGMA * frame.unit_px + 4 * _EDGE_RADIUS
        low, high = (
            (corner * MATTE_SIDE / side).astype(int) for corner in (shape.min(0) - margin, shape.max(0) + margin)
        )
        (left, top), (right, bottom) = np.clip(low, 0, MATTE_SIDE - 1), np.clip(high, 1, MATTE_SIDE)
        part = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
        skin = np.zeros((MATTE_SIDE, MATTE_SIDE), np.float32)
        skin[part] = edges.within(*part)(self._skin_share(models, ColourModels.indices(small[part])))
        return _resize(skin, side)

    def _hanging_hair(
        self, models: ColourModels, small: np.ndarray, edges: GuidedFilter, points, head_side: np.ndarray
    ) -> np.ndarray:
        """Hair beside and below the face with the picture's edges, float32 like ``head_side``.

        Where all is head anyway it is not looked for.
        """
        side = len(head_side)
        hair = np.zeros((MATTE_SIDE, MATTE_SIDE), np.float32)
        open_rows = np.flatnonzero(head_side.min(axis=1) < _ALL_HEAD)
        if len(open_rows):
            top = max(open_rows[0] * MATTE_SIDE // side - 4 * _EDGE_RADIUS - 2, 0)
            part = slice(top, MATTE_SIDE), slice(0, MATTE_SIDE)
            frame = HeadFrame.of(points * (MATTE_SIDE / side))
            frame = dataclasses.replace(frame, origin_px=frame.origin_px - [0.0, float(top)])
            hair[part] = edges.within(*part)(self._hair_share(models, ColourModels.indices(small[part]), frame))
        return _resize(hair, side)

    @staticmethod
    def _skin_share(models: ColourModels, indices: np.ndarray) -> np.ndarray:
        """Skin against hair by colour, 0..1."""
        return _sigmoid(models.log_density("skin", indices) - models.log_density("hair", indices))

    @staticmethod
    def _hair_share(models: ColourModels, indices: np.ndarray, frame: HeadFrame) -> np.ndarray:
        """Hanging hair against neck and clothes by colour, where it can be."""
        u, v = frame.coordinates(*indices.shape)
        # Bright strands have the colour of skin; beside the neck there is none to be taken for.
        beside = np.clip((np.abs(u) - 0.45) * 4, 0, 1) * _NO_SKIN_BESIDE
        bare = _highest(models, indices, ("skin", "neck")) - beside
        others = np.maximum(bare, models.log_density("clothes", indices))
        near = np.clip((_HAIR_HALF_WIDTH_U - np.abs(u)) * 4, 0, 1) * np.clip((_HAIR_LOW_V - v) * 4, 0, 1)
        return _sigmoid(models.log_density("hair", indices) - others - 0.5) * near


def _side(rgb: np.ndarray) -> int:
    """Side of a square picture."""
    if rgb.shape[0] != rgb.shape[1]:
        raise ValueError(f"rgb: expected a square picture, got {rgb.shape[1]}x{rgb.shape[0]}")
    return rgb.shape[0]


def _shrink(rgb: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    """A share at another resolution, within 0..1."""
    if side != image.shape[0]:
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.clip(image, 0.0, 1.0)


def _unlike_hair(colours: np.ndarray, hair: np.ndarray, seed: int) -> np.ndarray:
    """Those of ``colours`` [N, 3] that nearly no hair has."""
    if not len(colours) or not len(hair):
        return colours
    model = ColourModels({"hair": hair}, seed=seed)
    threshold = np.quantile(model.log_density("hair", ColourModels.indices(hair[None])), 0.1)
    return colours[model.log_density("hair", ColourModels.indices(colours[None]))[0] < threshold]


def _highest(models: ColourModels, indices: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The highest log density of several classes."""
    return np.max([models.log_density(name, indices) for name in names], axis=0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _inner_face(points: np.ndarray, frame: HeadFrame) -> np.ndarray:
    """bool [256, 256]: skin for sure: within the oval, away from eyes, brows and lips."""
    side = MATTE_SIDE
    inside = soft_polygon(_shrunk(points[list(FACE_OVAL)], 0.85), side, side, 1.0) > 0.9
    for ring in (RIGHT_EYE, LEFT_EYE, RIGHT_BROW, LEFT_BROW, OUTER_LIPS):
        hull = cv2.convexHull(points[list(ring)].astype(np.float32))[:, 0]
        inside &= soft_polygon(_shrunk(hull, 1.25), side, side, 1.0) < 0.1
    return inside


def _shrunk(polygon: np.ndarray, factor: float) -> np.ndarray:
    centre = polygon.mean(axis=0)
    return centre + factor * (polygon - centre)


def _face_shapes(points, frame: HeadFrame, skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Facial (mouth included) and oral share of every pixel of ``skin``, as if all of it were person."""
    height, width = skin.shape
    sigma = _POLYGON_SIGMA * frame.unit_px
    oval = soft_polygon(points[list(FACE_OVAL)], height, width, sigma)
    core = soft_polygon(_shrunk(points[list(FACE_OVAL)], 0.8), height, width, 6 * sigma)
    dome = soft_polygon(_with_forehead(points, frame), height, width, 2 * sigma)
    oral = soft_polygon(points[list(OUTER_LIPS)], height, width, sigma)
    v = frame.coordinates(height, width)[1]
    # Below the brows the oval is face whatever its colour (beards, shadows); above, hair may cover it.
    brow_v = float(frame.to_frame(points[list(RIGHT_BROW + LEFT_BROW)])[:, 1].min())
    below_brows = np.clip((v - brow_v) * 8 + 0.5, 0.0, 1.0)
    sure = np.maximum(core, below_brows) * oval
    facial = sure + (1.0 - sure) * np.maximum(oval, dome) * skin
    return np.maximum(facial, oral), oral


def _with_forehead(points: np.ndarray, frame: HeadFrame) -> np.ndarray:
    """The oval with its upper arc raised to where the hair line can be at most."""
    uv = frame.to_frame(points[list(FACE_OVAL)])
    top = np.isin(FACE_OVAL, _OVAL_TOP)
    span = uv[top, 1].max() - uv[top, 1].min()
    rise = (uv[top, 1].max() - uv[top, 1]) / max(span, 1e-6)
    uv[top, 1] -= _DOME_HEIGHT * np.sqrt(rise)
    return frame.to_pixels(uv)


def _head_side(points: np.ndarray, frame: HeadFrame) -> np.ndarray:
    """Polygon of all that lies above the chin line, and above the ear lobes left and right of the face."""
    far = 8.0
    oval = list(FACE_OVAL)
    jaw = oval[oval.index(_JAW_ANGLES[1]) : oval.index(_JAW_ANGLES[0]) + 1]  # left jaw angle, chin, right jaw angle
    uv = frame.to_frame(points[jaw])
    lobes = frame.to_frame(points[list(_EAR_LOBES)])[:, 1]
    right_v, left_v = ((lobes[i] + uv[j, 1]) / 2 for i, j in ((0, -1), (1, 0)))
    corners = [[-far, right_v], [-far, -far], [far, -far], [far, left_v]]
    return frame.to_pixels(np.concatenate([uv, corners]))


def _shares(facial: np.ndarray, oral: np.ndarray, head_side: np.ndarray) -> np.ndarray:
    """What part of a person each region has, float32 [side, side, 4]."""
    facial_only = np.maximum(facial - oral, 0.0)
    rest = 1.0 - facial_only - oral
    return cv2.merge([facial_only, oral, rest * head_side, rest * (1.0 - head_side)])
