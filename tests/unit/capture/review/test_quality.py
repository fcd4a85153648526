"""What rules a recording out and what is only reported, on tracks made by code."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2dao.capture.crop import choose_crop
from m2dao.capture.faces.layout import face_layout
from m2dao.capture.faces.tracking import Tracks
from m2dao.capture.review.cuts import find_cuts
from m2dao.capture.review.quality import (
    QualityRules,
    check_faces,
    check_length,
    check_sound,
    motion_problems,
    picture_problems,
    sound_problems,
)
from m2dao.errors import CaptureRejected
from tests.support.speech import speech_like

T = 200
RULES = QualityRules()


def tracks(face_px=300.0, **changes):
    """Tracks of a face that sways a little in the middle of a 1280 x 720 picture."""
    face = np.zeros((478, 3))
    face[:468, :2] = face_layout() * face_px / 1.85  # the layout is about 1.85 eye distances high
    phase = np.arange(T) / 25
    sway = np.stack([640 + 20 * np.sin(phase), 360 + 8 * np.cos(1.3 * phase), np.zeros(T)], -1)
    rng = np.random.default_rng(0)
    made = Tracks(
        width=1280,
        height=720,
        landmarks=(face + sway[:, None] + rng.normal(0, 0.1, (T, 1, 3))).astype(np.float32),
        blendshapes=np.zeros((T, 52), np.float32),
        valid=np.ones(T, bool),
        num_faces=np.where(np.arange(T) % 12 == 0, 1, -1),
        change=rng.uniform(0.3, 0.8, T).astype(np.float32),
        median_change=np.zeros(T, np.float32),
        source_times_s=np.arange(T) / 25,
        sharpness=np.full(T, 150, np.float32),
        brightness=np.tile(np.array([60, 130, 190], np.float32), (T, 1)),
        covered=np.where(np.arange(T) % 5 == 0, np.float32(0.02), np.float32(np.nan)),
        samples=[],
    )
    return dataclasses.replace(made, **changes)


def with_rows(values, rows, value):
    changed = np.array(values, copy=True)
    changed[rows] = value
    return changed


def test_a_good_recording_has_no_problems():
    good = tracks()
    crop = choose_crop(good.landmarks, good.valid, width=1280, height=720, size=512)
    assert check_faces(good, "a.mp4", RULES) == []
    assert picture_problems(good, crop, RULES) == []


def test_short_gaps_are_reported_and_long_ones_refused_with_the_place():
    problems = check_faces(tracks(valid=with_rows(np.ones(T, bool), slice(50, 55), False)), "a.mp4", RULES)
    assert problems == ["no face in 5 frames, at 0:02.00: interpolated"]
    with pytest.raises(CaptureRejected, match=r"no face in the picture from 0:02\.00 to 0:02\.24"):
        check_faces(tracks(valid=with_rows(np.ones(T, bool), slice(50, 56), False)), "a.mp4", RULES)


def test_a_face_that_leaves_the_picture_is_refused_with_the_place():
    leaving = tracks()
    leaving.landmarks[100:, :, 0] += np.minimum(np.arange(100) * 8, 620)[:, None]
    with pytest.raises(CaptureRejected, match=r"leaves the picture from 0:0[67]\."):
        check_faces(leaving, "a.mp4", RULES)


def test_several_faces_are_refused_and_a_passer_by_is_reported():
    counts = tracks().num_faces
    assert "another face at 0:03.84" in check_faces(tracks(num_faces=with_rows(counts, 96, 2)), "a.mp4", RULES)
    with pytest.raises(CaptureRejected, match="2 faces, from 0:03.84"):
        check_faces(tracks(num_faces=with_rows(counts, [96, 108, 120], 2)), "a.mp4", RULES)


def test_a_small_face_and_one_that_lies_on_its_side_are_refused():
    with pytest.raises(CaptureRejected, match="px high; got 8[0-9] px"):
        check_faces(tracks(face_px=85.0), "a.mp4", RULES)
    lying = tracks()
    middle = np.array([640.0, 360.0])
    x, y = (lying.landmarks[..., :2] - middle).transpose(2, 0, 1)
    lying.landmarks[..., 0], lying.landmarks[..., 1] = middle[0] - y, middle[1] + x
    with pytest.raises(CaptureRejected, match="turned by 90 degrees; rotate"):
        check_faces(lying, "a.mp4", RULES)


def test_another_scene_is_a_cut_and_a_leap_of_the_face_too():
    scene = tracks(
        change=with_rows(tracks().change, 80, 45.0), median_change=with_rows(tracks().median_change, 80, 30.0)
    )
    assert find_cuts(scene).scenes == [80]
    with pytest.raises(CaptureRejected, match=r"1 cut at 0:03\.20"):
        check_faces(scene, "a.mp4", RULES)
    leap = tracks()
    leap.landmarks[120:, :, 0] += 150
    assert find_cuts(leap).scenes == [120]


def test_a_jump_cut_in_one_scene_is_reported_and_many_are_refused():
    jump = tracks(change=with_rows(tracks().change, 80, 9.0))
    jump.landmarks[80:, :, 0] += 25
    assert (find_cuts(jump).scenes, find_cuts(jump).jumps) == ([], [80])
    assert any("jump cuts, at 0:03.20" in problem for problem in check_faces(jump, "a.mp4", RULES))
    places = np.arange(10, 190, 20)
    many = tracks(change=with_rows(tracks().change, places, 9.0))
    for i, place in enumerate(places):
        many.landmarks[place:, :, 0] += 25 * (-1) ** i
    with pytest.raises(CaptureRejected, match="9 cuts"):
        check_faces(many, "a.mp4", RULES)


@pytest.mark.parametrize("degrees_per_frame", [3, 8, 14])
def test_a_quick_turn_of_the_head_is_no_cut(degrees_per_frame):
    """From one side to the other in five frames: the head gathers speed and loses it."""
    speed = degrees_per_frame * np.array([0.2, 0.7, 1.0, 0.8, 0.3])
    moved = 300 / 1.85 * np.sin(np.radians(np.cumsum(speed)))
    turn = tracks(change=with_rows(tracks().change, slice(80, 85), 14 * speed / speed.max()))
    turn.landmarks[80:85, :, 0] += moved[:, None]
    turn.landmarks[85:, :, 0] += moved[-1]
    assert (find_cuts(turn).scenes, find_cuts(turn).jumps) == ([], [])


def test_a_picture_that_was_stored_twice_before_a_cut_hides_it_not():
    jump = tracks(change=with_rows(with_rows(tracks().change, 79, 0.005), 80, 9.0))
    jump.landmarks[79] = jump.landmarks[78]
    jump.landmarks[80:, :, 0] += 25
    assert find_cuts(jump).jumps == [80]


def test_fast_motion_and_repeated_pictures_are_no_cuts():
    swift = tracks()
    swift.landmarks[:, :, 0] += (60 * np.sin(np.arange(T) / 4))[:, None]
    assert find_cuts(swift).jumps == []
    assert find_cuts(swift).scenes == []
    times = np.floor(np.arange(T) * 0.48) / 12  # 12 pictures a second
    slow = tracks(source_times_s=times)
    slow.landmarks[:] = slow.landmarks[np.searchsorted(times, times)]
    assert find_cuts(slow).scenes == []
    crop = choose_crop(slow.landmarks, slow.valid, width=1280, height=720, size=512)
    assert any("12 different pictures per second" in problem for problem in picture_problems(slow, crop, RULES))


def test_blur_darkness_and_enlargement_are_reported():
    poor = tracks(
        face_px=110.0,
        sharpness=np.full(T, 5, np.float32),
        brightness=np.tile(np.array([5, 30, 60], np.float32), (T, 1)),
    )
    crop = choose_crop(poor.landmarks, poor.valid, width=1280, height=720, size=512)
    text = " ".join(picture_problems(poor, crop, RULES))
    assert "blurred" in text
    assert "dark" in text
    assert "enlarged to 512" in text
    assert "--size 2" in text


def test_what_covers_the_face_is_reported_with_the_places():
    usual = tracks()
    crop = choose_crop(usual.landmarks, usual.valid, width=1280, height=720, size=512)
    hand = dataclasses.replace(usual, covered=with_rows(usual.covered, [50, 55, 60, 150], 0.3))
    (problem,) = picture_problems(hand, crop, RULES)
    assert "covers the face" in problem
    assert "at 0:02.00, 0:06.00:" in problem


def test_length_decides():
    with pytest.raises(CaptureRejected, match=r"at least 5 s.*4\.9 s"):
        check_length(123, "a.mp4", RULES)
    assert "only 8 s" in check_length(200, "a.mp4", RULES)[0]
    assert check_length(600, "a.mp4", RULES) == []


@pytest.mark.parametrize("waveform", [np.zeros(80000, np.float32), np.full(80000, 0.3, np.float32)])
def test_silence_is_refused_also_when_it_has_an_offset(waveform):
    with pytest.raises(CaptureRejected, match="silence"):
        check_sound(waveform, "a.mp4")


def test_speech_passes_and_noise_pauses_and_clipping_are_reported():
    speech = speech_like(8.0, seed=2)
    assert sound_problems(check_sound(speech, "a.mp4"), RULES) == []
    noise = np.random.default_rng(0).normal(0, 0.1, len(speech)).astype(np.float32)
    assert "dB above the noise" in " ".join(sound_problems(check_sound(speech + noise, "a.mp4"), RULES))
    pauses = np.concatenate([speech, np.zeros(16000 * 60, np.float32)])
    assert "speech in only" in " ".join(sound_problems(check_sound(pauses, "a.mp4"), RULES))
    assert "overdriven" in " ".join(sound_problems(check_sound(np.clip(speech * 20, -1, 1), "a.mp4"), RULES))


def test_still_lips_and_jitter_are_reported():
    views = np.tile(np.eye(4), (T, 1, 1))
    talking = 0.1 + 0.05 * np.sin(np.arange(T))
    assert motion_problems(views, talking, 0.02, RULES) == []
    assert "lips hardly move" in motion_problems(views, np.full(T, 0.1), 0.02, RULES)[0]
    assert "jitter" in motion_problems(views, talking, 0.3, RULES)[0]


@pytest.mark.parametrize(("swing_deg", "is_quick"), [(4.0, False), (20.0, True)])
def test_quick_turns_are_reported_with_their_speed(swing_deg, is_quick):
    angles = swing_deg * np.sin(2 * np.pi * 0.8 * np.arange(T) / 25)
    views = np.tile(np.eye(4), (T, 1, 1))
    views[:, :3, :3] = Rotation.from_euler("x", angles[:, None], degrees=True).as_matrix()
    problems = motion_problems(views, 0.1 + 0.05 * np.sin(np.arange(T)), 0.02, RULES)
    assert len(problems) == is_quick
    assert all("100 degrees a second" in problem for problem in problems)
