"""Speech in many languages from eSpeak NG, as the package espeakng-loader has it.

The library and its data are inside the package. A formant synthesiser: nothing about its sound is estimated, so the
times of its phones are exact. Its timbres, pitch and pace are its own; the vocal tract is bent by playing the sound
faster or slower while it speaks slower or faster.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from m2dao.errors import ConfigError, needs_extra
from m2dao.timeline import SAMPLE_RATE
from m2dao.tts.speech import Phone, Speech, Voice, at_peak

# ISO 639-1 to eSpeak's name.
LANGUAGES = {
    **{"cs": "cs", "da": "da", "de": "de", "en": "en-us", "es": "es", "fr": "fr", "it": "it", "nl": "nl"},
    **{"pl": "pl", "pt": "pt", "ru": "ru", "sv": "sv", "tr": "tr"},
}
TIMBRES = (
    *("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
    *("klatt", "klatt2", "klatt3", "klatt4"),
)
_PROGRAM = Path(__file__).with_name("espeak_process.py")
_WORDS_PER_MINUTE, _SLOWEST, _FASTEST = 170, 80, 400
_MIDDLE_PITCH, _HIGHEST_PITCH = 50, 99
_LIMIT_S = 120.0  # an hour of speech takes it seconds
_STRESS = "ˈˌ"
_NO_SOUND = str.maketrans("", "", "ˈˌː-ˑ‿.|\"'̩̯̪͡")  # marks of stress, length and syllables
# eSpeak tells of a voiceless stop when it bursts. The lips or the tongue have closed before: since the sound went out.
_VOICELESS_STOPS = ("p", "t", "k", "c", "q")
_HELD_AT_MOST_S, _SILENT_BELOW, _STEP_S = 0.10, 0.01, 0.0025
_FINEST = 400  # largest number in the ratio of the two sampling rates


def say(text: str, voice: Voice, *, language: str, seed: int) -> Speech:
    """As `m2dao.tts.synthesise`, for a voice of one of ``TIMBRES``."""
    if language not in LANGUAGES or voice.timbre not in TIMBRES:
        raise ConfigError(
            f"timbre {voice.timbre!r} in language {language!r}",
            f"a timbre of {', '.join(TIMBRES)} and a language of {', '.join(LANGUAGES)}",
            "another",
        )
    answer, samples = _run(text, voice, language, seed)
    if not any(symbol for _, symbol in answer["phones"]):
        raise ConfigError("text to say", f"words of language {language!r}", repr(text[:60]))
    # What was said at rate_hz is played at rate_hz * tract, and written at our own rate.
    ratio = Fraction(SAMPLE_RATE / (answer["rate_hz"] * voice.tract)).limit_denominator(_FINEST)
    sound = samples.astype(np.float32) / 32768.0
    waveform = at_peak(resample_poly(sound, ratio.numerator, ratio.denominator))
    seconds_per_sample = float(ratio) / SAMPLE_RATE
    return Speech(waveform, _with_closures(_phones(answer["phones"], seconds_per_sample, len(samples)), waveform))


def _run(text: str, voice: Voice, language: str, seed: int) -> tuple[dict, np.ndarray]:
    """The program's answer and its samples i16 [S]."""
    with needs_extra("speech"):
        import espeakng_loader
    rate = round(_WORDS_PER_MINUTE * voice.pace / voice.tract)
    request = {
        "library": espeakng_loader.get_library_path(),
        "data": espeakng_loader.get_data_path(),
        "voice": f"{LANGUAGES[language]}+{voice.timbre}",
        "words_per_minute": min(max(rate, _SLOWEST), _FASTEST),
        "pitch": min(max(round(_MIDDLE_PITCH * voice.pitch / voice.tract), 0), _HIGHEST_PITCH),
        "seed": seed,
        "text": text,
    }
    command = [sys.executable, "-I", "-S", str(_PROGRAM)]
    ran = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, timeout=_LIMIT_S)
    head, _, sound = ran.stdout.partition(b"\n")
    answer = json.loads(head) if ran.returncode == 0 and head else {"error": ran.stderr.decode(errors="replace")[-300:]}
    if "error" in answer:
        raise ConfigError(
            "package espeakng-loader", "speech", answer["error"], "install the version of requirements.lock"
        )
    return answer, np.frombuffer(sound, "<i2")


def _phones(events: list, seconds_per_sample: float, num_samples: int) -> tuple[Phone, ...]:
    """Phones that tile the sound, from where each begins."""
    events = [event for event in events if not event[1].startswith("(")]  # names a foreign word's language
    spoken = [
        (start, name.translate(_NO_SOUND), any(mark in name for mark in _STRESS))
        for (start, name), (end, _) in zip(events, [*events[1:], (num_samples, "")], strict=True)
        if end > start
    ]
    if spoken[0][0] > 0:
        spoken.insert(0, (0, "", False))
    ends = [*(start for start, _, _ in spoken[1:]), num_samples]
    return tuple(
        Phone(symbol, start * seconds_per_sample, end * seconds_per_sample, stressed)
        for (start, symbol, stressed), end in zip(spoken, ends, strict=True)
    )


def _with_closures(phones: tuple[Phone, ...], waveform: np.ndarray) -> tuple[Phone, ...]:
    """The same phones; voiceless stops begin with the silence before their burst."""
    step = round(_STEP_S * SAMPLE_RATE)
    starts = [phone.start_s for phone in phones]
    for number, phone in enumerate(phones[1:], 1):
        if not phone.symbol.startswith(_VOICELESS_STOPS) or not phones[number - 1].symbol:
            continue
        first = round(phone.start_s * SAMPLE_RATE) // step
        earliest = max(phones[number - 1].start_s + 0.01, phone.start_s - _HELD_AT_MOST_S)
        while first * _STEP_S > earliest and _is_silent(waveform[(first - 1) * step : first * step]):
            first -= 1
        starts[number] = min(phone.start_s, first * _STEP_S)
    ends = [*starts[1:], phones[-1].end_s]
    return tuple(replace(p, start_s=start, end_s=end) for p, start, end in zip(phones, starts, ends, strict=True))


def _is_silent(samples: np.ndarray) -> bool:
    return float(np.sqrt(np.mean(samples**2))) < _SILENT_BELOW
