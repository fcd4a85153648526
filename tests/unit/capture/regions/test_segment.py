"""Region masks on composed pictures whose regions are known: a painted person before a wall."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest

from m2dao.capture.faces.head_frame import HeadFrame, soft_polygon
from m2dao.capture.regions.colour_models import ColourModels
from m2dao.capture.regions.matte import GuidedFilter
from m2dao.capture.regions.segment import RegionSegmenter
from m2dao.errors import CaptureRejected
from m2dao.regions import FACE_OVAL, OUTER_LIPS, REGIONS
from tests.support.simulated_head import EYE_DISTANCE_M, head_shape

SIZE = 512
EYE_PX = 120.0
SKIN, HAIR, CLOTHES, WALL, LIPS = (205, 160, 135), (60, 40, 30), (40, 60, 120), (170, 175, 165), (170, 80, 85)


@functools.cache
def painted_person(long_hair: bool = False) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A picture, its landmarks and the true regions (bool), drawn as flat shapes with some texture."""
    landmarks = head_shape() * (EYE_PX / EYE_DISTANCE_M)
    landmarks[:, :2] += [SIZE / 2, 0.42 * SIZE]
    oval = landmarks[list(FACE_OVAL), :2]

    def blank():
        return np.zeros((SIZE, SIZE), np.uint8)

    centre = oval.mean(axis=0)
    hair_shape = cv2.ellipse(blank(), (256, int(centre[1] - 40)), (112, 150), 0, 0, 360, 255, -1)
    if long_hair:
        hair_shape[int(centre[1]) : int(centre[1]) + 190, 256 - 150 : 256 + 150] = 255
        hair_shape[int(centre[1]) - 60 : int(centre[1]) + 1] |= cv2.dilate(hair_shape, np.ones((1, 75), np.uint8))[
            int(centre[1]) - 60 : int(centre[1]) + 1
        ]
    face = cv2.fillPoly(blank(), [oval.astype(np.int32)], 255)
    neck = cv2.rectangle(blank(), (256 - 48, int(centre[1])), (256 + 48, SIZE - 60), 255, -1)
    body = cv2.ellipse(blank(), (256, SIZE + 50), (230, 140), 0, 0, 360, 255, -1)
    lips = cv2.fillPoly(blank(), [landmarks[list(OUTER_LIPS), :2].astype(np.int32)], 255)
    picture = np.empty((SIZE, SIZE, 3), np.uint8)
    picture[:] = WALL
    for shape, colour in ((neck, SKIN), (body, CLOTHES), (hair_shape, HAIR), (face, SKIN), (lips, LIPS)):
        picture[shape > 0] = colour
    if long_hair:  # the neck shows between the strands
        picture[(neck > 0) & (face == 0) & (np.indices(neck.shape)[0] > oval[:, 1].max() - 20)] = SKIN
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    picture = np.clip(cv2.GaussianBlur(picture, (0, 0), 0.8) + noise, 0, 255).astype(np.uint8)
    person = (neck | body | hair_shape | face) > 0
    truth = {
        "facial": (face > 0) & (lips == 0),
        "oral": lips > 0,
        "head": (hair_shape > 0) & (face == 0) & (np.indices(neck.shape)[0] < centre[1]),
        "torso": ((body | neck) > 0)
        & (hair_shape == 0)
        & (face == 0)
        & (np.indices(neck.shape)[0] > oval[:, 1].max() + 8),
        "strands": (hair_shape > 0)
        & (face == 0)
        & (np.indices(neck.shape)[0] > oval[:, 1].max())
        & (np.abs(np.indices(neck.shape)[1] - 256) > 60),
        "background": ~person,
    }
    return picture, landmarks.astype(np.float32), truth


class PaintedPerson:
    """Stands in for the network, which has only seen photographs: the person's blurred outline."""

    def __init__(self, truth: dict[str, np.ndarray]):
        person = (~truth["background"]).astype(np.float32)
        self._alpha = cv2.GaussianBlur(cv2.resize(person, (256, 256), interpolation=cv2.INTER_AREA), (0, 0), 2.0)

    def __call__(self, small: np.ndarray) -> np.ndarray:
        return self._alpha


@functools.cache
def segmented(long_hair: bool = False) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    picture, landmarks, truth = painted_person(long_hair)
    segmenter = RegionSegmenter(person=PaintedPerson(truth))
    for _ in range(4):
        segmenter.observe(picture, landmarks)
    return segmenter.segment(picture, landmarks), truth


def mean_inside(mask: np.ndarray, region: np.ndarray) -> float:
    """Mean alpha of a mask over the inside of a region, without its soft rim."""
    inside = cv2.erode(region.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return float(mask[inside].mean() / 255)


@pytest.mark.parametrize("name", REGIONS)
def test_each_region_is_found_where_it_was_painted(name):
    masks, truth = segmented()
    assert mean_inside(masks[..., REGIONS.index(name)], truth[name]) > 0.93
    for other in (*REGIONS, "background"):
        if other != name:
            assert mean_inside(masks[..., REGIONS.index(name)], truth[other]) < 0.05, other


def test_masks_never_sum_to_more_than_255_and_cover_the_person():
    masks, truth = segmented()
    total = masks.astype(int).sum(axis=-1)
    assert masks.dtype == np.uint8
    assert masks.shape == (SIZE, SIZE, 4)
    assert total.max() <= 255
    inside = cv2.erode((~truth["background"]).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert np.quantile(total[inside], 0.01) > 220
    assert total[inside].min() > 150
    assert mean_inside(255 - total, truth["background"]) > 0.99


def test_edges_are_soft_and_lie_on_the_edge_of_the_picture():
    masks, truth = segmented()
    alpha = masks.astype(int).sum(axis=-1) / 255
    between = (alpha > 0.05) & (alpha < 0.95)
    assert between.any()
    distance = cv2.distanceTransform((~truth["background"]).astype(np.uint8), cv2.DIST_L2, 5)
    distance += cv2.distanceTransform(truth["background"].astype(np.uint8), cv2.DIST_L2, 5)
    assert np.quantile(distance[between], 0.8) < 8
    assert np.abs((alpha > 0.5) ^ ~truth["background"]).sum() < 0.01 * alpha.size


def test_hair_that_hangs_below_the_chin_belongs_to_the_head():
    masks, truth = segmented(long_hair=True)
    assert mean_inside(masks[..., REGIONS.index("head")], truth["strands"]) > 0.8
    assert mean_inside(masks[..., REGIONS.index("torso")], truth["torso"]) > 0.9


def test_noise_of_the_picture_does_not_make_masks_flicker():
    picture, landmarks, truth = painted_person()
    segmenter = RegionSegmenter(person=PaintedPerson(truth))
    segmenter.observe(picture, landmarks)
    random = np.random.default_rng(1)
    noisy = [np.clip(picture + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    first, second = (segmenter.segment(frame, landmarks).astype(int) for frame in noisy)
    assert np.abs(first - second).mean() < 0.6
    assert np.quantile(np.abs(first - second), 0.999) < 30


def test_results_depend_on_the_observed_frames_and_the_frame_alone():
    picture, landmarks, truth = painted_person()
    shifted = np.roll(picture, 6, axis=1)
    moved = landmarks + np.array([6, 0, 0], np.float32)
    results = []
    for order in ((0, 1), (1, 0)):
        segmenter = RegionSegmenter(person=PaintedPerson(truth), seed=3)
        segmenter.observe(picture, landmarks)
        done = {i: segmenter.segment(*((picture, landmarks), (shifted, moved))[i]) for i in order}
        results.append(done[0])
    np.testing.assert_array_equal(*results)


def test_segmenting_before_observing_is_refused():
    picture, landmarks, truth = painted_person()
    with pytest.raises(CaptureRejected, match="frames observed before"):
        RegionSegmenter(person=PaintedPerson(truth)).segment(picture, landmarks)


def test_pictures_that_are_not_square_are_refused():
    picture, landmarks, truth = painted_person()
    with pytest.raises(ValueError, match="expected a square picture, got 512x300"):
        RegionSegmenter(person=PaintedPerson(truth)).observe(picture[:300], landmarks)


def test_the_guided_filter_puts_a_blurred_edge_back_on_the_guides_edge():
    guide = np.zeros((64, 64, 3), np.float32)
    guide[:, 32:] = (0.8, 0.5, 0.2)
    guide += np.random.default_rng(0).normal(0, 0.01, guide.shape).astype(np.float32)
    blurred = cv2.GaussianBlur((guide[..., 0] > 0.4).astype(np.float32), (0, 0), 3.0)
    sharp = GuidedFilter(guide, 4, 1e-4)(blurred)
    step = sharp[:, 33].mean() - sharp[:, 30].mean()
    assert step > 1.4 * (blurred[:, 33].mean() - blurred[:, 30].mean())


def test_the_guided_filter_keeps_flat_images():
    guide = np.random.default_rng(0).random((32, 48, 3), dtype=np.float32)
    np.testing.assert_allclose(GuidedFilter(guide, 3, 1e-3)(np.full((32, 48), 0.7, np.float32)), 0.7, atol=1e-4)


def test_colour_models_prefer_the_class_whose_colours_they_saw():
    random = np.random.default_rng(0)
    samples = {
        name: np.clip(random.normal(colour, 12, (2000, 3)), 0, 255).astype(np.uint8)
        for name, colour in (("skin", SKIN), ("hair", HAIR))
    }
    models = ColourModels(samples)
    indices = ColourModels.indices(np.array([[SKIN, HAIR]], np.uint8))
    difference = models.log_density("skin", indices) - models.log_density("hair", indices)
    assert difference[0, 0] > 5
    assert difference[0, 1] < -5


def test_a_class_with_too_few_colours_has_a_flat_density():
    models = ColourModels({"hair": np.zeros((10, 3), np.uint8)})
    assert np.ptp(models.log_density("hair", np.arange(64**3))) == 0


def test_the_head_frame_turns_with_the_head():
    landmarks = head_shape()[:, :2] * 1000
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    turned = landmarks @ turn.T + [200, 100]
    np.testing.assert_allclose(
        HeadFrame.of(turned).to_frame(turned), HeadFrame.of(landmarks).to_frame(landmarks), atol=1e-9
    )
    frame = HeadFrame.of(turned)
    np.testing.assert_allclose(frame.to_pixels(frame.to_frame(turned)), turned, atol=1e-9)
    u, v = frame.coordinates(300, 400)
    assert u.dtype == v.dtype == np.float32
    np.testing.assert_allclose(frame.to_frame(np.array([[120.5, 90.5]]))[0], [u[90, 120], v[90, 120]], atol=1e-5)


def test_a_soft_polygon_keeps_its_area_and_its_subpixel_place():
    square = np.array([[10.25, 10], [30.25, 10], [30.25, 40], [10.25, 40]])
    mask = soft_polygon(square, 64, 64, 1.0)
    assert mask.sum() == pytest.approx(600, rel=0.06)
    centre = (mask * (np.arange(64) + 0.5)).sum() / mask.sum()
    assert centre == pytest.approx(20.25, abs=0.15)
    assert soft_polygon(square + 500, 64, 64, 1.0).sum() == 0
