"""What rules a recording out and what is only reported, on tracks made by code."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2dao.capture.crop import choose_crop
from m2dao.capture.review.cuts import find_cuts
from m2dao.capture.review.quality import (
    QualityRules,
    check_faces,
    check_length,
    motion_findings,
    picture_findings,
)
from m2dao.capture.review.sound import measure_sound, other_voices, sound_findings
from m2dao.errors import CaptureRejected
from tests.support.recordings import T, tracks, with_rows
from tests.support.speech import speech_like

RULES = QualityRules()


def texts(found):
    return [finding.text for finding in found]


def faces(found):
    """What is said of a face's tracks."""
    return texts(check_faces(found, find_cuts(found), "a.mp4", RULES))


def sound_texts(waveform):
    return texts(sound_findings(measure_sound(waveform, "a.mp4")))


def test_a_good_recording_has_no_problems():
    good = tracks()
    crop = choose_crop(good.landmarks, good.valid, width=1280, height=720, size=512)
    assert faces(good) == []
    assert picture_findings(good, crop, RULES) == []


def test_short_gaps_are_reported_and_long_ones_refused_with_the_place():
    problems = faces(tracks(valid=with_rows(np.ones(T, bool), slice(50, 55), False)))
    assert problems == ["no face in 5 frames, at 0:02.00: interpolated"]
    with pytest.raises(CaptureRejected, match=r"no face in the picture from 0:02\.00 to 0:02\.24"):
        faces(tracks(valid=with_rows(np.ones(T, bool), slice(50, 56), False)))


def test_a_face_that_leaves_the_picture_is_refused_with_the_place():
    leaving = tracks()
    leaving.landmarks[100:, :, 0] += np.minimum(np.arange(100) * 8, 620)[:, None]
    with pytest.raises(CaptureRejected, match=r"leaves the picture from 0:0[67]\."):
        faces(leaving)


def test_several_faces_are_refused_and_a_passer_by_is_reported():
    counts = tracks().num_faces
    assert "another face at 0:03.84" in faces(tracks(num_faces=with_rows(counts, 96, 2)))
    assert "another face at 0:03.84" in faces(tracks(num_faces=with_rows(counts, [96, 97], [2, 1])))
    with pytest.raises(CaptureRejected, match="2 faces, from 0:03.84"):
        faces(tracks(num_faces=with_rows(counts, [96, 108, 120], 2)))


def test_a_small_face_and_one_that_lies_on_its_side_are_refused():
    with pytest.raises(CaptureRejected, match="px high; got 8[0-9] px"):
        faces(tracks(face_px=85.0))
    lying = tracks()
    middle = np.array([640.0, 360.0])
    x, y = (lying.landmarks[..., :2] - middle).transpose(2, 0, 1)
    lying.landmarks[..., 0], lying.landmarks[..., 1] = middle[0] - y, middle[1] + x
    with pytest.raises(CaptureRejected, match="turned by 90 degrees; rotate"):
        faces(lying)


def test_another_scene_is_a_cut_and_a_leap_of_the_face_too():
    scene = tracks(
        change=with_rows(tracks().change, 80, 45.0), median_change=with_rows(tracks().median_change, 80, 30.0)
    )
    assert find_cuts(scene).scenes == [80]
    with pytest.raises(CaptureRejected, match=r"1 cut at 0:03\.20"):
        faces(scene)
    leap = tracks()
    leap.landmarks[120:, :, 0] += 150
    assert find_cuts(leap).scenes == [120]


def test_a_jump_cut_in_one_scene_is_reported_and_many_are_refused():
    jump = tracks(change=with_rows(tracks().change, 80, 9.0))
    jump.landmarks[80:, :, 0] += 25
    assert (find_cuts(jump).scenes, find_cuts(jump).jumps) == ([], [80])
    assert any("1 jump cut, at 0:03.20" in problem for problem in faces(jump))
    places = np.arange(10, 190, 20)
    many = tracks(change=with_rows(tracks().change, places, 9.0))
    for i, place in enumerate(places):
        many.landmarks[place:, :, 0] += 25 * (-1) ** i
    with pytest.raises(CaptureRejected, match="9 cuts"):
        faces(many)


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
    assert any("12 different pictures per second" in problem for problem in texts(picture_findings(slow, crop, RULES)))


def test_blur_darkness_and_enlargement_are_reported():
    poor = tracks(
        face_px=110.0,
        sharpness=np.full(T, 5, np.float32),
        brightness=np.tile(np.array([5, 30, 60], np.float32), (T, 1)),
    )
    crop = choose_crop(poor.landmarks, poor.valid, width=1280, height=720, size=512)
    text = " ".join(texts(picture_findings(poor, crop, RULES)))
    assert "blurred" in text
    assert "dark" in text
    assert "enlarged to 512" in text
    assert "--size 2" in text


def test_what_covers_the_face_is_reported_with_the_places():
    usual = tracks()
    crop = choose_crop(usual.landmarks, usual.valid, width=1280, height=720, size=512)
    hand = dataclasses.replace(usual, covered=with_rows(usual.covered, [50, 55, 60, 150], 0.3))
    (problem,) = texts(picture_findings(hand, crop, RULES))
    assert "covers the face" in problem
    assert "at 0:02.00, 0:06.00:" in problem


def test_a_lamp_in_the_glasses_is_reported_with_the_places():
    usual = tracks()
    crop = choose_crop(usual.landmarks, usual.valid, width=1280, height=720, size=512)
    lamp = dataclasses.replace(usual, glare=with_rows(usual.glare, [50, 55], 0.06))
    (found,) = picture_findings(lamp, crop, RULES)
    assert found.kind == "glare"
    assert "at 0:02.00:" in found.text


def test_pictures_that_repeat_are_reported():
    often = with_rows(tracks().change, slice(9, None, 10), 0.001)
    crop = choose_crop(tracks().landmarks, tracks().valid, width=1280, height=720, size=512)
    (found,) = picture_findings(tracks(change=often), crop, RULES)
    assert found.kind == "repeated pictures"
    assert found.text.startswith("10% of the pictures")


def test_a_head_that_rests_for_moments_repeats_no_pictures():
    change = tracks().change
    for first in range(9, T, 20):
        change = with_rows(change, slice(first, first + 3), 0.001)
    crop = choose_crop(tracks().landmarks, tracks().valid, width=1280, height=720, size=512)
    assert (~tracks(change=change).fresh).mean() > RULES.max_repeated_share
    assert picture_findings(tracks(change=change), crop, RULES) == []


def test_a_still_picture_is_refused():
    still = tracks()
    still.landmarks[:] = still.landmarks[:1] + np.random.default_rng(0).normal(0, 0.1, (T, 478, 1))
    with pytest.raises(CaptureRejected, match="got a still picture"):
        faces(still)


def test_somebody_who_speaks_while_the_lips_rest_is_heard():
    speech = speech_like(8.0, seed=2)
    talking = 0.1 + 0.08 * np.sin(np.arange(T) * 1.3)
    assert other_voices(speech, talking) == []
    (found,) = other_voices(speech, with_rows(talking, slice(75, 150), 0.02))
    assert found.kind == "second voice"
    assert "at 0:03." in found.text
    quiet = speech.copy()
    quiet[75 * 640 : 150 * 640] *= 1e-3
    assert other_voices(quiet, with_rows(talking, slice(75, 150), 0.02)) == []


def test_a_tune_behind_the_speech_is_reported_and_a_hum_is_none():
    speech = speech_like(8.0, seed=2)
    t = np.arange(len(speech)) / 16000
    tune = 0.02 * np.sin(2 * np.pi * 261.6 * 2 ** (np.floor(t / 0.5) % 5 / 6) * t)
    assert [finding.kind for finding in sound_findings(measure_sound(speech + tune, "a.mp4"))] == ["music"]
    hum = 0.01 * np.sin(2 * np.pi * 150 * t)
    assert "music" not in [finding.kind for finding in sound_findings(measure_sound(speech + hum, "a.mp4"))]


def test_length_decides():
    with pytest.raises(CaptureRejected, match=r"at least 5 s.*4\.9 s"):
        check_length(123, "a.mp4", RULES)
    assert "only 8 s" in check_length(200, "a.mp4", RULES)[0].text
    assert check_length(600, "a.mp4", RULES) == []


@pytest.mark.parametrize("waveform", [np.zeros(80000, np.float32), np.full(80000, 0.3, np.float32)])
def test_silence_is_refused_also_when_it_has_an_offset(waveform):
    with pytest.raises(CaptureRejected, match="silence"):
        measure_sound(waveform, "a.mp4")


def test_speech_passes_and_noise_pauses_and_clipping_are_reported():
    speech = speech_like(8.0, seed=2)
    assert sound_texts(speech) == []
    noise = np.random.default_rng(0).normal(0, 0.1, len(speech)).astype(np.float32)
    assert "dB above the noise" in " ".join(sound_texts(speech + noise))
    pauses = np.concatenate([speech, np.zeros(16000 * 60, np.float32)])
    assert "speech in only" in " ".join(sound_texts(pauses))
    assert "overdriven" in " ".join(sound_texts(np.clip(speech * 20, -1, 1)))


def test_still_lips_and_jitter_are_reported():
    views = np.tile(np.eye(4), (T, 1, 1))
    talking = 0.1 + 0.05 * np.sin(np.arange(T))
    assert motion_findings(views, talking, 0.02, RULES) == []
    assert "lips hardly move" in motion_findings(views, np.full(T, 0.1), 0.02, RULES)[0].text
    assert "jitter" in motion_findings(views, talking, 0.3, RULES)[0].text


@pytest.mark.parametrize(("swing_deg", "is_quick"), [(4.0, False), (20.0, True)])
def test_quick_turns_are_reported_with_their_speed(swing_deg, is_quick):
    angles = swing_deg * np.sin(2 * np.pi * 0.8 * np.arange(T) / 25)
    views = np.tile(np.eye(4), (T, 1, 1))
    views[:, :3, :3] = Rotation.from_euler("x", angles[:, None], degrees=True).as_matrix()
    problems = texts(motion_findings(views, 0.1 + 0.05 * np.sin(np.arange(T)), 0.02, RULES))
    assert len(problems) == is_quick
    assert all("100 degrees a second" in problem for problem in problems)
