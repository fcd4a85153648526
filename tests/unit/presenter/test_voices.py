"""The presenters' speech: the words asked for, in their own voices, with true times."""

from __future__ import annotations

import wave
from itertools import pairwise

import numpy as np
import pytest

from m2dao.errors import ConfigError
from m2dao.presenter import persons, speak
from m2dao.presenter.people import get_person
from m2dao.timeline import SAMPLE_RATE
from m2dao.tts import Voice, synthesise

SENTENCE = "Maybe my brother bought a big apple. People came home."


def pitch_hz(waveform: np.ndarray) -> float:
    """Median fundamental frequency by autocorrelation over voiced windows."""
    size, found = 800, []
    for start in range(0, len(waveform) - size, size // 2):
        window = waveform[start : start + size] * np.hanning(size)
        if window.std() < 0.03:
            continue
        ratio = np.correlate(window, window, "full")[size - 1 :]
        lag = 40 + int(np.argmax(ratio[40:260]))
        if ratio[lag] > 0.5 * ratio[0]:
            found.append(SAMPLE_RATE / lag)
    return float(np.median(found))


def test_speak_writes_a_16_khz_mono_wav(tmp_path):
    path = speak("Hello there.", persons()[0], tmp_path / "deep" / "hello.wav")
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert 0.5 < len(samples) / SAMPLE_RATE < 3.0
    assert 20_000 < np.abs(samples).max() < 32_767


def test_phones_tile_the_speech_without_gaps():
    speech = synthesise(SENTENCE, Voice())
    assert speech.phones[0].start_s == 0.0
    for one, following in pairwise(speech.phones):
        assert one.end_s == pytest.approx(following.start_s, abs=1e-6)
    assert speech.phones[-1].end_s == pytest.approx(len(speech.waveform) / SAMPLE_RATE, abs=0.003)
    assert "".join(p.symbol for p in speech.phones).count("b") == 4


def test_vowels_are_loud_and_long_pauses_are_silent():
    speech = synthesise(SENTENCE, Voice())

    def level(phone):
        part = speech.waveform[int(phone.start_s * SAMPLE_RATE) : int(phone.end_s * SAMPLE_RATE)]
        return np.sqrt((part**2).mean())

    vowels = [level(p) for p in speech.phones if p.symbol in tuple("ˈAIOʌɔæi") and p.symbol]
    pauses = [level(p) for p in speech.phones if not p.symbol and p.end_s - p.start_s > 0.15]
    assert len(vowels) >= 6
    assert len(pauses) >= 2
    assert np.median(vowels) > 10 * np.median(pauses)


def test_presenters_speak_at_clearly_different_pitches():
    pitches = [pitch_hz(synthesise(SENTENCE, get_person(name).voice).waveform) for name in persons()]
    assert max(pitches) > 1.35 * min(pitches)


def test_speech_is_the_same_for_the_same_seed_and_differs_by_voice():
    one, again = synthesise("Papa.", Voice(), seed=5), synthesise("Papa.", Voice(), seed=5)
    assert np.array_equal(one.waveform, again.waveform)
    assert one.phones == again.phones
    other = synthesise("Papa.", Voice(pitch=0.6, tract=0.9), seed=5)
    assert other.phones == one.phones
    assert not np.array_equal(other.waveform, one.waveform)


@pytest.mark.parametrize("sentence", ["", "  ", "?!"])
def test_nothing_to_say_is_an_error(tmp_path, sentence):
    with pytest.raises(ConfigError, match="sentence"):
        speak(sentence, persons()[0], tmp_path / "x.wav")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_presenter_has_no_voice(tmp_path):
    with pytest.raises(ConfigError, match="nobody"):
        speak("Hello.", "nobody", tmp_path / "x.wav")
