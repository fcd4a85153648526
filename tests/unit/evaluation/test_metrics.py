"""Metrics: known values, regions that count, and the things a figure must not be moved by."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2dao.capture.faces.models import BLENDSHAPE_NAMES
from m2dao.errors import InputError
from m2dao.evaluation.metrics import (
    LIP_LANDMARKS,
    MAX_PSNR_DB,
    VOWELS,
    FlickerMeter,
    bilabial_closure,
    blendshape_error,
    edge_band,
    held_vowel_frames,
    lip_jitter,
    lmd_px,
    neck_band,
    psnr_db,
    silent_frames,
    ssim,
)


def noise_image(seed: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side, 3)).astype(np.float32)


def portrait_masks(side: int = 64) -> np.ndarray:
    """Head in the upper middle, torso below it, background around."""
    masks = np.zeros((side, side, 4), np.uint8)
    masks[side // 8 : side // 2, side // 4 : -side // 4, 2] = 255
    masks[side // 2 :, side // 8 : -side // 8, 3] = 255
    return masks


def test_psnr_of_a_known_error():
    image = np.full((20, 20, 3), 0.5, np.float32)
    assert psnr_db(image, image + 0.1) == pytest.approx(20.0, abs=1e-4)
    assert psnr_db((image * 200).astype(np.uint8), (image * 200).astype(np.uint8)) == MAX_PSNR_DB


def test_psnr_counts_only_the_weighted_pixels():
    target = noise_image(0)
    image = target.copy()
    image[:10] = 1 - image[:10]
    weights = np.zeros((40, 40), np.float32)
    weights[20:] = 1
    assert psnr_db(image, target, weights) == MAX_PSNR_DB
    assert psnr_db(image, target, 1 - weights) < 15
    assert math.isnan(psnr_db(image, target, np.zeros((40, 40))))


def test_bytes_and_floats_give_the_same_figures():
    image = (noise_image(1) * 255).astype(np.uint8)
    target = (noise_image(2) * 255).astype(np.uint8)
    floats = image.astype(np.float32) / 255, target.astype(np.float32) / 255
    assert psnr_db(image, target) == pytest.approx(psnr_db(*floats), abs=1e-4)
    assert ssim(image, target) == pytest.approx(ssim(*floats), abs=1e-5)


def test_ssim_agrees_with_scikit_image():
    from skimage.metrics import structural_similarity

    target = noise_image(3, 64)
    image = np.clip(target + 0.1 * noise_image(4, 64), 0, 1)
    expected = structural_similarity(
        image, target, channel_axis=2, data_range=1.0, gaussian_weights=True, use_sample_covariance=False, sigma=1.5
    )
    assert ssim(image, target) == pytest.approx(expected, abs=1e-5)


def test_ssim_of_a_region_ignores_the_rest():
    target = noise_image(5, 64)
    image = target.copy()
    image[40:] = 0
    weights = np.zeros((64, 64), np.float32)
    weights[:30] = 1
    assert ssim(image, target, weights) == pytest.approx(1, abs=1e-5)
    assert ssim(image, target) < 0.9


def test_the_neck_band_lies_on_the_line_between_head_and_torso():
    band = neck_band(portrait_masks())
    assert band[32, 32] == 1
    assert band[20, 32] == 0
    assert band[50, 32] == 0
    assert band[:, 2].max() == 0  # no head above the shoulder's end
    assert neck_band(np.zeros((64, 64, 4), np.uint8)).max() == 0


def test_the_edge_band_lies_on_the_outline_of_the_person():
    band = edge_band(portrait_masks())
    assert band[8, 32] == 1
    assert band[20, 16] == 1
    assert band[20, 32] == 0
    assert band[32, 32] == 0


def test_lmd_is_the_mean_lip_distance_and_ignores_where_the_head_is():
    rng = np.random.default_rng(0)
    landmarks = rng.random((5, 478, 3)) * 100
    assert lmd_px(landmarks, landmarks + [7, -3, 50]) == pytest.approx(0, abs=1e-9)
    moved = landmarks.copy()
    moved[:, LIP_LANDMARKS[0], 0] += 8
    num = len(LIP_LANDMARKS)
    # one point moves by 8, and centring moves all the others by 8 / num
    assert lmd_px(landmarks, moved) == pytest.approx((8 * (1 - 1 / num) + (num - 1) * 8 / num) / num)


def test_frames_without_a_face_do_not_count():
    landmarks = np.random.default_rng(0).random((4, 478, 2))
    other = landmarks.copy()
    other[1] = np.nan
    assert lmd_px(landmarks, other) == 0
    assert math.isnan(lmd_px(landmarks, np.full_like(landmarks, np.nan)))


def test_blendshape_errors_are_told_apart_by_half_of_the_face():
    a = np.zeros((3, 52))
    b = a.copy()
    b[:, BLENDSHAPE_NAMES.index("jawOpen")] = 0.5
    error = blendshape_error(a, b)
    assert error.lower > 0
    assert error.upper == 0
    b = a.copy()
    b[:, BLENDSHAPE_NAMES.index("browInnerUp")] = 0.5
    error = blendshape_error(a, b)
    assert error.lower == 0
    assert error.upper > 0


def test_flicker_is_change_that_the_recording_does_not_have():
    recorded = [noise_image(seed) for seed in range(4)]
    faithful, steady, flickering = FlickerMeter(), FlickerMeter(), FlickerMeter()
    for index, frame in enumerate(recorded):
        faithful.update(frame, frame)
        steady.update(recorded[0], frame)
        flickering.update(np.clip(0.5 + 0.05 * (-1) ** index + 0 * frame, 0, 1), np.full_like(frame, 0.5))
    assert faithful.value == 0
    assert steady.value == 0  # too little motion is another fault
    assert flickering.value == pytest.approx(0.1 * 255, rel=1e-4)
    assert math.isnan(FlickerMeter().value)


def test_lip_jitter_looks_at_silence_only():
    opening = np.array([0.1, 0.1, 0.1, 0.9, 0.2, 0.9, 0.1, 0.1])
    silent = np.array([True, True, True, False, False, False, True, True])
    assert lip_jitter(opening, silent) == 0
    assert lip_jitter(opening, ~silent) == pytest.approx(0.7)
    assert math.isnan(lip_jitter(opening, np.zeros(8, bool)))


def test_silent_frames_keep_away_from_speech():
    probability = np.ones(40)
    probability[20] = 0.1
    silent = silent_frames(probability, 20, margin_frames=2)
    np.testing.assert_array_equal(np.flatnonzero(~silent), [8, 9, 10, 11, 12])


def test_vowels_are_held_from_four_frames_on():
    phones = ("SIL", *VOWELS)
    sounds = ["SIL", "AA", "AA", "AA", "SIL", "IY", "IY", "IY", "EH", "SIL"]
    posteriors = np.repeat(np.eye(len(phones))[[phones.index(sound) for sound in sounds]], 2, axis=0)
    np.testing.assert_array_equal(np.flatnonzero(held_vowel_frames(posteriors, phones, len(sounds))), [5, 6, 7, 8])
    assert not held_vowel_frames(posteriors, phones, len(sounds), min_frames=5).any()


def test_closure_is_counted_for_each_bilabial():
    phones = ("SIL", "AA", "B", "M", "P")
    posteriors = np.zeros((60, 5))
    posteriors[:, 1] = 1
    for frame, column in ((10, 2), (30, 3), (50, 4)):
        posteriors[frame] = np.eye(5)[column]
    opening = np.full(60, 0.3)
    opening[11] = 0.01  # within reach of the first
    opening[30] = 0.02
    part, count = bilabial_closure(opening, posteriors, phones, closed_below=0.05)
    assert count == 3
    assert part == pytest.approx(2 / 3)
    part, count = bilabial_closure(opening[:5], posteriors[:5], phones, closed_below=0.05)
    assert count == 0
    assert math.isnan(part)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(InputError):
        psnr_db(noise_image(0), noise_image(0, 20))
    with pytest.raises(InputError):
        psnr_db(noise_image(0).astype(np.int32), noise_image(0).astype(np.int32))
    with pytest.raises(InputError):
        ssim(noise_image(0, 8), noise_image(0, 8))
    with pytest.raises(InputError):
        psnr_db(noise_image(0), noise_image(0), np.ones((3, 3)))
