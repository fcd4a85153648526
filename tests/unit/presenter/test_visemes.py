"""Mouth controls follow the phones."""

from __future__ import annotations

import numpy as np

from m2dao.presenter.visemes import MOUTH, closure_frame, mouth_track
from m2dao.tts import Phone


def said(*parts: tuple[str, float]) -> tuple[Phone, ...]:
    phones, clock = [], 0.0
    for symbol, length in parts:
        phones.append(Phone(symbol, clock, clock + length, stressed=True))
        clock += length
    return tuple(phones)


def track(*parts, num_frames=40):
    return dict(zip(MOUTH, mouth_track(said(*parts), num_frames).T, strict=True))


def test_silence_keeps_the_mouth_shut():
    mouth = track(("", 1.6))
    assert mouth["jaw"].max() < 0.01
    assert mouth["seal"].min() > 0.99


def test_an_open_vowel_opens_the_jaw_and_lets_the_lips_go():
    mouth = track(("", 0.4), ("ɑ", 0.4), ("", 0.4))
    assert mouth["jaw"][15] > 0.6
    assert mouth["seal"][15] < 0.05
    assert mouth["jaw"][2] < 0.02
    assert mouth["jaw"][28] < 0.02


def test_a_bilabial_too_short_for_a_frame_still_closes_one():
    # 24 ms, which no middle of a frame meets
    mouth = track(("ɑ", 0.415), ("b", 0.024), ("ɑ", 0.561))
    frame = closure_frame(Phone("b", 0.415, 0.439))
    assert mouth["seal"][frame] == 1.0
    assert mouth["jaw"][frame] < 0.2
    assert mouth["seal"][frame - 3] < 0.1
    assert mouth["seal"][frame + 3] < 0.1


def test_rounded_vowels_pucker_and_spread_vowels_widen():
    rounded, spread = track(("u", 1.0)), track(("i", 1.0))
    assert rounded["pucker"][12] > 0.8 > 0.1 > spread["pucker"][12]
    assert spread["wide"][12] > 0.7 > 0.1 > rounded["wide"][12]


def test_lips_prepare_for_a_vowel_during_the_consonant_before_it():
    before_round = track(("", 0.2), ("t", 0.08), ("u", 0.4))
    before_spread = track(("", 0.2), ("t", 0.08), ("i", 0.4))
    assert before_round["pucker"][6] > before_spread["pucker"][6] + 0.2


def test_f_and_v_tuck_the_lower_lip():
    assert track(("ɑ", 0.3), ("f", 0.12), ("ɑ", 0.3))["tuck"][9] > 0.7


def test_controls_stay_between_zero_and_one_for_any_symbols():
    mouth = mouth_track(said(*((symbol, 0.05) for symbol in "mAbiɹʌðəʔːxθ")), 30)
    assert mouth.shape == (30, len(MOUTH))
    assert np.isfinite(mouth).all()
    assert mouth.min() >= 0.0
    assert mouth.max() <= 1.0
