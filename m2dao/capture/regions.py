"""Soft masks of the regions that move in their own ways: facial skin, mouth, rest of the head, torso.

Where the person ends is the segmentation network's word, sharpened on the picture. Where the face ends is the landmark
mesh's, except along the hair line, where the colours of this person's skin and hair decide. The chin line divides head
from torso; hair that hangs below it belongs to the head if the recording shows such hair.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from m2dao.capture.colour_models import ColourModels
from m2dao.capture.facemesh import FACE_OVAL, LEFT_BROW, LEFT_EYE, OUTER_LIPS, RIGHT_BROW, RIGHT_EYE
from m2dao.capture.head_frame import HeadFrame, soft_polygon
from m2dao.capture.matte import MATTE_SIDE, GuidedFilter, PersonSegmenter
from m2dao.errors import CaptureRejected

REGIONS = ("facial", "oral", "head", "torso")  # channel order of every mask

_ZONES = ("skin", "hair", "neck", "clothes", "beside_neck")  # where colours are taken from
_SAMPLES_PER_FRAME = 400  # colours of each class taken from one observed frame
_EDGE_RADIUS, _EDGE_EPSILON = 4, 2e-4  # of the guided filter, pixels at 256 and variance of a colour in 0..1
_POLYGON_SIGMA = 0.012  # softness of polygon edges, outer eye distances
_BORDER_SIGMA = 0.02  # softness of the border between head and torso
# Heights and widths in the head frame (outer eye distances; v is negative above the eyes).
_DOME_HEIGHT = 0.42  # how far above the tracked oval the forehead may reach
_HAIR_LOW_V = 2.4  # hanging hair is not looked for below this
_HAIR_HALF_WIDTH_U = 1.8
_JAW_ANGLES = (58, 288)  # where the line between head and neck leaves the oval
_EAR_LOBES = (132, 361)
_OVAL_TOP = (162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389)  # from temple to temple over the forehead
_LONG_HAIR_SHARE = 0.12  # of the person beside the neck that must look like hair before any is looked for


class RegionSegmenter:
    """Cuts pictures of one recording into regions.

    First ``observe`` some frames spread over the recording (20 to 100), then ``segment`` any frame, in any order: the
    result depends on nothing but the frame, its landmarks and the observed ones.

    Args:
        model_path: segmentation network; fetched when not given.
        num_threads: of the network.
        seed: of the colour models.
    """

    def __init__(self, model_path: Path | None = None, *, num_threads: int = 1, seed: int = 0):
        self._person = PersonSegmenter(model_path, num_threads=num_threads)
        self._random = np.random.default_rng(seed)
        self._seed = seed
        self._samples: dict[str, list[np.ndarray]] = {name: [] for name in _ZONES}
        self._models: ColourModels | None = None
        self._has_long_hair = False

    def observe(self, rgb: np.ndarray, landmarks: np.ndarray) -> None:
        """Learn the colours of this person from one frame.

        Args:
            rgb: uint8 [H, W, 3].
            landmarks: float [478, 2 or 3], pixels.
        """
        small, scale = _shrink(rgb)
        alpha = self._person(small.astype(np.float32) / 255.0)
        points = landmarks[:, :2] * scale
        frame = HeadFrame.of(points)
        u, v = frame.coordinates(MATTE_SIDE, MATTE_SIDE)
        inner_face = _inner_face(points, frame)
        uv = frame.to_frame(points)
        chin_v, top_v = uv[152, 1], uv[10, 1]
        sure = alpha > 0.95
        beside = sure & (np.abs(u) > 0.5) & (np.abs(u) < 1.0) & (v > chin_v) & (v < chin_v + 0.5)
        zones = {
            "skin": inner_face & sure,
            "hair": sure & (np.abs(u) < 0.8) & (v < top_v - _DOME_HEIGHT),
            "neck": sure & (np.abs(u) < 0.3) & (v > chin_v + 0.06) & (v < chin_v + 0.3),
            # The lowest part that is in the picture, off the middle where the collar may be open.
            "clothes": sure & (v > max(chin_v + 0.45, v[sure].max(initial=0) - 0.5)) & (np.abs(u) > 0.5),
            "beside_neck": beside,
        }
        for name, zone in zones.items():
            colours = small[zone]
            if len(colours) > _SAMPLES_PER_FRAME:
                colours = colours[self._random.choice(len(colours), _SAMPLES_PER_FRAME, replace=False)]
            self._samples[name].append(colours)
        self._models = None

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
        height, width = rgb.shape[:2]
        small, scale = _shrink(rgb)
        guide = small.astype(np.float32) / 255.0
        matte = self._person(guide)
        edges = GuidedFilter(guide, _EDGE_RADIUS, _EDGE_EPSILON)
        full_guide = rgb.astype(np.float32) / 255.0
        person = np.clip(1.02 * edges(matte, full_guide) - 0.01, 0.0, 1.0)

        points = landmarks[:, :2].astype(np.float64)
        frame = HeadFrame.of(points)
        small_frame = HeadFrame.of(points * scale)
        indices = ColourModels.indices(small)
        skin = _enlarge(edges(self._skin_share(models, indices)), height, width)
        facial, oral = _face_shapes(points, frame, skin, height, width)
        head_side = soft_polygon(_head_side(points, frame), height, width, _BORDER_SIGMA * frame.unit_px)
        if self._has_long_hair:
            hair = _enlarge(edges(self._hair_share(models, indices, small_frame)), height, width)
            head_side = np.maximum(head_side, hair)
        return _quantise(person, facial, oral, head_side)

    def _fitted_models(self) -> ColourModels:
        if self._models is None:
            if not self._samples["skin"]:
                raise CaptureRejected("region masks", "frames observed before any is cut into regions", "none")
            colours = {name: np.concatenate(parts) for name, parts in self._samples.items()}
            beside_neck = colours.pop("beside_neck")
            self._models = ColourModels(colours, seed=self._seed)
            self._has_long_hair = self._share_of_hair(self._models, beside_neck) > _LONG_HAIR_SHARE
        return self._models

    @staticmethod
    def _share_of_hair(models: ColourModels, colours: np.ndarray) -> float:
        """How much of some colours looks like hair and neither like skin nor like clothes."""
        if not len(colours):
            return 0.0
        indices = ColourModels.indices(colours[None])
        others = _highest(models, indices, ("skin", "neck", "clothes"))
        return float(np.mean(models.log_density("hair", indices) > others + 1.0))

    @staticmethod
    def _skin_share(models: ColourModels, indices: np.ndarray) -> np.ndarray:
        """Skin against hair by colour, 0..1."""
        return _sigmoid(models.log_density("skin", indices) - models.log_density("hair", indices))

    @staticmethod
    def _hair_share(models: ColourModels, indices: np.ndarray, frame: HeadFrame) -> np.ndarray:
        """Hanging hair against neck and clothes by colour, where it can be."""
        u, v = frame.coordinates(*indices.shape)
        others = _highest(models, indices, ("skin", "neck", "clothes"))
        near = np.clip((_HAIR_HALF_WIDTH_U - np.abs(u)) * 4, 0, 1) * np.clip((_HAIR_LOW_V - v) * 4, 0, 1)
        return _sigmoid(models.log_density("hair", indices) - others - 0.5) * near


def _shrink(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture at 256x256, and the factor [2] from its pixels to those."""
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (MATTE_SIDE, MATTE_SIDE), interpolation=cv2.INTER_AREA)
    return small, np.array([MATTE_SIDE / width, MATTE_SIDE / height])


def _enlarge(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.clip(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), 0.0, 1.0)


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


def _face_shapes(points, frame: HeadFrame, skin: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Facial (with the mouth still in it) and oral share of every pixel, as if all of it were person."""
    sigma = _POLYGON_SIGMA * frame.unit_px
    oval = soft_polygon(points[list(FACE_OVAL)], height, width, sigma)
    core = soft_polygon(_shrunk(points[list(FACE_OVAL)], 0.8), height, width, 6 * sigma)
    dome = soft_polygon(_with_forehead(points, frame), height, width, 2 * sigma)
    oral = soft_polygon(points[list(OUTER_LIPS)], height, width, sigma)
    v = frame.coordinates(height, width)[1]
    # Below the brows the oval is face whatever its colour (beards, shadows); above, hair may cover it.
    brow_v = frame.to_frame(points[list(RIGHT_BROW + LEFT_BROW)])[:, 1].min()
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


def _quantise(person: np.ndarray, facial: np.ndarray, oral: np.ndarray, head_side: np.ndarray) -> np.ndarray:
    """Masks uint8 [H, W, 4] from shares of every pixel; rounding down keeps their sum within 255."""
    facial_only = np.maximum(facial - oral, 0.0)
    rest = 1.0 - facial_only - oral
    shares = (facial_only, oral, rest * head_side, rest * (1.0 - head_side))
    scale = 255.0 * person
    return np.stack([(share * scale).astype(np.uint8) for share in shares], axis=-1)
