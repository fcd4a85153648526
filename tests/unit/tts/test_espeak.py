"""Speech in many languages: true times of its phones, and the same samples every time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from m2dao.errors import ConfigError
from m2dao.timeline import SAMPLE_RATE
from m2dao.tts import Voice, synthesise
from m2dao.tts.espeak import LANGUAGES, TIMBRES

SENTENCES = {
    "de": "Papa tappt am Abend. Opa sah die Puppe.",
    "en": "Papa has a copper cup. A tiger kept a puppy.",
    "fr": "Papa a peur de la pipe. Le tapis est petit.",
}


def loudness(speech, start_s, end_s):
    part = speech.waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    return float(np.sqrt((part**2).mean()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_phones_tile_the_speech_of_every_language(language):
    speech = synthesise(SENTENCES.get(language, "Papa, mama, tata."), Voice(timbre="m3"), language=language)
    assert speech.waveform.dtype == np.float32
    assert speech.phones[0].start_s == 0.0
    for one, following in pairwise(speech.phones):
        assert one.start_s < one.end_s == following.start_s
    assert speech.phones[-1].end_s == pytest.approx(len(speech.waveform) / SAMPLE_RATE, abs=0.003)
    assert sum(phone.symbol == "p" for phone in speech.phones) >= 2


@pytest.mark.parametrize("timbre", TIMBRES)
def test_every_timbre_is_a_voice_of_its_own(timbre):
    speech = synthesise("Papa.", Voice(timbre=timbre), language="de")
    other = synthesise("Papa.", Voice(timbre="f1" if timbre != "f1" else "m1"), language="de")
    assert not np.array_equal(speech.waveform[:8000], other.waveform[:8000])


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("tract", [0.85, 1.0, 1.15])
def test_a_stop_between_vowels_begins_when_the_sound_goes_out(language, tract):
    speech = synthesise(SENTENCES[language], Voice(timbre="m3", tract=tract), language=language)
    stops = [
        (before, stop)
        for before, stop, after in zip(speech.phones, speech.phones[1:], speech.phones[2:], strict=False)
        if stop.symbol == "p" and before.symbol and after.symbol
    ]
    assert len(stops) >= 2
    for before, stop in stops:
        # a closure and its burst; the vowel before it sounds until then
        assert 0.04 < stop.end_s - stop.start_s < 0.2
        assert loudness(speech, stop.start_s + 0.005, stop.start_s + 0.02) < 0.01
        assert loudness(speech, max(before.start_s, stop.start_s - 0.03), stop.start_s) > 0.02


def test_the_same_seed_gives_the_same_samples_whatever_was_said_before():
    voice = Voice(timbre="f2", pitch=1.2, tract=1.1, pace=0.8)
    one = synthesise(SENTENCES["fr"], voice, language="fr", seed=7)
    synthesise(SENTENCES["de"], voice, language="de", seed=8)
    again = synthesise(SENTENCES["fr"], voice, language="fr", seed=7)
    assert np.array_equal(one.waveform, again.waveform)
    assert one.phones == again.phones


def test_a_slower_voice_takes_longer():
    slow, fast = (synthesise(SENTENCES["de"], Voice(timbre="m1", pace=p), language="de") for p in (0.7, 1.4))
    assert len(slow.waveform) > 1.4 * len(fast.waveform)


@pytest.mark.parametrize(
    ("voice", "language"), [(Voice(), "de"), (Voice(timbre="m1"), "xx"), (Voice(timbre="nobody"), "de")]
)
def test_a_voice_that_does_not_speak_the_language_is_refused(voice, language):
    with pytest.raises(ConfigError, match="language"):
        synthesise("Papa.", voice, language=language)


def test_nothing_to_say_is_refused():
    with pytest.raises(ConfigError, match="text to say"):
        synthesise("...", Voice(timbre="m1"), language="de")
