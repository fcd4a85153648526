"""Judges the sound of a recording: silence, noise, music, a second voice.

Shapes: S samples at 16 kHz, T frames of 40 ms, B bins of a spectrum, N spectra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_opening, maximum_filter1d, median_filter, minimum_filter1d, uniform_filter1d

from m2dao.capture.review.findings import Finding, clocks
from m2dao.errors import CaptureRejected
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, runs_of

SILENCE_DBFS = -50.0
_GOOD_SPEECH_SHARE = 0.3
_GOOD_RANGE_DB = 15.0
_OVERDRIVEN_SHARE = 1e-3
# Music: tones that stand still for a while, in the quieter half of the sound, and then change.
_WINDOW, _HOP = 1024, 320  # samples
_LOWEST_HZ, _HIGHEST_HZ = 100.0, 3000.0
_TONE_DB = 12.0  # above its surroundings
_TONE_SPECTRA = 12  # in a row: 0.24 s
_HUM_SHARE = 0.6  # of the quiet spectra: a tone that never ends is a hum
_MUSIC_SHARE = 0.25  # of the quiet spectra with a tone
_QUIET_PERCENT = 40
# A second voice: speech while the lips of the person in the picture rest.
_VOICE_S, _LIPS_RANGE = 1.0, 0.045  # range of the lip opening over half a second, outer-eye distances
_VOICE_SHARE = 0.35  # of a second, loud
_LIPS_OF_USUAL = 0.3  # of the range that is usual in this recording


@dataclass(frozen=True, kw_only=True)
class SoundMeasures:
    """Levels of a recording's sound over frames of 40 ms, dB of full scale."""

    speech_dbfs: float  # mean power of the frames with speech, without the noise in them
    floor_dbfs: float  # 10th percentile
    speech_share: float  # of the frames, at least halfway (in dB) from floor to speech level
    clipped_share: float  # of the samples
    tone_share: float  # of the quieter spectra, those with a tone that stands still


def measure_sound(waveform: np.ndarray, name: str) -> SoundMeasures:
    """Measure float32 [S] at 16 kHz.

    Raises:
        CaptureRejected: silence.
    """
    level = _levels(waveform)
    if not len(level):
        raise CaptureRejected(
            f"sound of {name}", "speech", "less than 40 ms of sound", "record picture and sound together"
        )
    loudest, floor = np.percentile(level, 95), np.percentile(level, 10)
    if loudest < SILENCE_DBFS:
        raise CaptureRejected(
            f"sound of {name}",
            f"speech above {SILENCE_DBFS:.0f} dBFS",
            f"silence ({loudest:.0f} dBFS at its loudest)",
            "check the microphone: the mouth is learnt from speech",
        )
    active = _speech(level)
    power = np.mean(10 ** (level[active] / 10)) if active.any() else 1e-12
    return SoundMeasures(
        speech_dbfs=float(10 * np.log10(max(power - 10 ** (floor / 10), 1e-12))),
        floor_dbfs=float(max(floor, -120.0)),
        speech_share=float(active.mean()),
        clipped_share=float((np.abs(waveform) > 0.999).mean()),
        tone_share=_tone_share(waveform),
    )


def _levels(waveform: np.ndarray) -> np.ndarray:
    """[T] dB of full scale, constant parts taken out."""
    num_frames = len(waveform) // SAMPLES_PER_FRAME
    blocks = waveform[: num_frames * SAMPLES_PER_FRAME].reshape(num_frames, SAMPLES_PER_FRAME).astype(np.float64)
    blocks -= blocks.mean(1, keepdims=True)
    return 10 * np.log10(np.square(blocks).mean(1) + 1e-12)


def _speech(level: np.ndarray) -> np.ndarray:
    """bool [T]: frames at least halfway from the floor to the loudest, and not far below it."""
    loudest, floor = np.percentile(level, 95), np.percentile(level, 10)
    return level > max((loudest + floor) / 2, loudest - 25)


def sound_findings(sound: SoundMeasures) -> list[Finding]:
    """What the sound costs."""
    found = []
    range_db = sound.speech_dbfs - sound.floor_dbfs
    # in noise, weak speech is not told from none
    if sound.speech_share < _GOOD_SPEECH_SHARE and range_db >= _GOOD_RANGE_DB:
        found.append(Finding("pauses", f"speech in only {sound.speech_share:.0%} of the recording: talk all the time"))
    if sound.tone_share > _MUSIC_SHARE:
        found.append(Finding("music", "music or other tones are heard in the pauses: record without them"))
    if range_db < _GOOD_RANGE_DB:
        found.append(Finding("noise", f"speech stands only {range_db:.0f} dB above the noise: record in a quiet room"))
    if sound.clipped_share > _OVERDRIVEN_SHARE:
        found.append(
            Finding(
                "overdriven", f"the sound is overdriven ({sound.clipped_share:.1%} of it at full scale): lower the gain"
            )
        )
    return found


def _tone_share(waveform: np.ndarray) -> float:
    """Share of the quieter spectra with a tone that stands still for 0.24 s, and is no hum.

    Pitch glides in speech, so its harmonics hardly ever stand still, and in its pauses there are none.
    """
    if len(waveform) < (_TONE_SPECTRA + 1) * _HOP + _WINDOW:
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(waveform, _WINDOW)[::_HOP]
    taper = np.hanning(_WINDOW).astype(np.float32)
    spectra = np.concatenate(
        [np.abs(np.fft.rfft(part * taper, axis=1)) for part in np.array_split(windows, len(windows) // 500 + 1)]
    )
    low, high = (round(hz * _WINDOW / SAMPLE_RATE) for hz in (_LOWEST_HZ, _HIGHEST_HZ))
    level = 20 * np.log10(spectra[:, low:high] + 1e-7)
    quiet = level.max(axis=1) <= np.percentile(level.max(axis=1), _QUIET_PERCENT)
    around = median_filter(level, (1, 25), mode="nearest")
    peaks = (level >= maximum_filter1d(level, 3, axis=1)) & (level > around + _TONE_DB)
    peaks = maximum_filter1d(peaks.astype(np.uint8), 2, axis=1).astype(bool)  # a tone between two bins is at either
    hums = maximum_filter1d(peaks[quiet].mean(axis=0), 3) > _HUM_SHARE
    standing = binary_opening(peaks & ~hums, np.ones((_TONE_SPECTRA, 1), bool))
    return float(standing.any(axis=1)[quiet].mean())


def other_voices(waveform: np.ndarray, lip_opening: np.ndarray) -> list[Finding]:
    """Where somebody speaks whose lips are not in the picture.

    Args:
        waveform: float32 [S], in time with the picture.
        lip_opening: float [T].
    """
    level = _levels(waveform)[: len(lip_opening)]
    half = FRAME_RATE // 4
    lips = lip_opening[: len(level)]
    span = maximum_filter1d(lips, 2 * half + 1) - minimum_filter1d(lips, 2 * half + 1)
    rest = span < min(_LIPS_RANGE, _LIPS_OF_USUAL * float(np.percentile(span, 75)))
    # loud vowels, closures and pauses between words alternate
    speaking = uniform_filter1d(_speech(level).astype(np.float64), FRAME_RATE) > _VOICE_SHARE
    begins = [start for start, end in runs_of(rest & speaking) if end - start >= _VOICE_S * FRAME_RATE]
    if not begins:
        return []
    return [
        Finding(
            "second voice",
            f"somebody speaks whose lips are not seen, at {clocks(begins)}: only the person in the picture should talk",
        )
    ]
