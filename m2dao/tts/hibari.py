"""English speech with phone times: the one voice of hibari-tts, bent into several.

The synthesiser (hibari-tts, bundled voice "heart") predicts a source and a filter for every 12.5 ms: fundamental
frequency, harmonic and noise envelopes. Scaling the fundamental and stretching the envelopes along the frequency axis
gives a speaker with another pitch and another vocal-tract length. The duration of every phone is an inner value of the
same network; it is read by declaring that value an output of the model.
"""

from __future__ import annotations

import functools
import re
import threading
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from m2dao.errors import ConfigError, needs_extra
from m2dao.tts.speech import Phone, Speech, Voice, at_peak

_LABELS_LATE_S = (
    0.06  # the network's durations put a phone this much after its sound (energy against vowels, both voices)
)
_DURATIONS = "/Clip_output_0"  # the network's phone durations, in steps of two spectral frames
_STEP_S = 0.025
_SYNTH_RATE = 24_000
_FLOOR = -12.0  # log magnitude where a stretched envelope has no source
_PAUSE_S = 0.30  # between sentences
_STRESS = "ˈˌ"
_PAUSES = ' ,.;:!?—…#"“”()'


def _message(field: int, payload: bytes) -> bytes:
    """One length-delimited protocol-buffer field."""
    size, head = len(payload), bytearray([field << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + payload


_LOADING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _load_synthesiser():
    """The text front end and a session that also returns durations."""
    with needs_extra("fit"):
        import onnxruntime
        from hibari import Hibari

    front_end = Hibari()
    # appending a message to a serialised one merges the two, so this adds one output to ModelProto.graph (field 7,
    # GraphProto.output is field 12, a ValueInfoProto of name and tensor type)
    float_tensor = _message(2, _message(1, b"\x08\x01"))
    extra = _message(7, _message(12, _message(1, _DURATIONS.encode()) + float_tensor))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums in the same order on every machine
    options.log_severity_level = 3
    model = Path(front_end.model_path).read_bytes() + extra
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return front_end, session


def _synthesiser():
    with _LOADING:  # the cache alone would let two threads load it twice
        return _load_synthesiser()


def _stretch(envelope: np.ndarray, factor: float, fill: float) -> np.ndarray:
    """Move an envelope [bins, F] along frequency: what was at f comes to ``factor * f``."""
    source = np.arange(len(envelope)) / factor
    low = np.clip(source.astype(np.int64), 0, len(envelope) - 2)
    share = np.clip(source - low, 0.0, 1.0)[:, None].astype(np.float32)
    moved = envelope[low] * (1 - share) + envelope[low + 1] * share
    moved[source > len(envelope) - 1] = fill
    return moved.astype(np.float32)


def _say_phonemes(phonemes: str, voice: Voice, rng: np.random.Generator) -> tuple[np.ndarray, list[Phone]]:
    from hibari import dsp

    front_end, session = _synthesiser()
    ids = front_end.ids(phonemes)
    feeds = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([voice.pace], np.float32)}
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True))
    harmonic, phase, noise, free = (outputs[name][0] for name in ("lh", "theta", "ln", "lr"))
    turn, pitch = outputs["phi"][0], outputs["f0"][0] * np.float32(voice.pitch)
    if voice.tract != 1.0:
        harmonic, noise = _stretch(harmonic, voice.tract, _FLOOR), _stretch(noise, voice.tract, _FLOOR)
        phase = _stretch(phase, voice.tract, 0.0)
    if voice.pitch != 1.0:
        free = np.full_like(free, _FLOOR)  # this branch carries the original pitch in its phases
    sound = dsp.synth(harmonic, phase, noise, free, turn, pitch, rng)
    symbols = {number: symbol for symbol, number in front_end.vocab.items()}
    durations = np.asarray(outputs[_DURATIONS]).ravel() * _STEP_S
    phones: list[Phone] = []
    clock, stressed = 0.0, False
    for number, duration in zip(ids, durations, strict=True):
        symbol = symbols.get(number, "#") if number else "#"
        start, clock = clock, clock + float(duration)
        if symbol in _STRESS:
            stressed = True
            if phones:  # the mark's time belongs to the onset before it
                phones[-1] = Phone(phones[-1].symbol, phones[-1].start_s, clock, phones[-1].stressed)
            continue
        if symbol == " " and phones and duration < 0.1:
            phones[-1] = Phone(phones[-1].symbol, phones[-1].start_s, clock, phones[-1].stressed)
            continue
        phones.append(Phone("" if symbol in _PAUSES else symbol, start, clock, stressed))
        stressed = False
    return sound.astype(np.float32), _earlier(phones)


def _earlier(phones: list[Phone]) -> list[Phone]:
    """Phones at the time of their sound; the last one still ends with the sentence."""
    starts = [max(phone.start_s - _LABELS_LATE_S, 0.0) for phone in phones]
    ends = [*starts[1:], phones[-1].end_s]
    return [
        Phone(phone.symbol, start, end, phone.stressed) for phone, start, end in zip(phones, starts, ends, strict=True)
    ]


def say_english(sentence: str, voice: Voice, *, seed: int) -> Speech:
    """As `m2dao.tts.synthesise`, for a voice of the timbre "heart"."""
    front_end, _ = _synthesiser()
    if not re.search(r"[A-Za-z0-9]", sentence):
        raise ConfigError("sentence", "English words", repr(sentence[:60]))
    rng = np.random.default_rng([seed, 3])
    sounds: list[np.ndarray] = []
    phones: list[Phone] = []
    clock = 0.0
    for phonemes in front_end.phonemize(sentence):
        sound, said = _say_phonemes(phonemes, voice, rng)
        if sounds:
            sounds.append(np.zeros(int(_PAUSE_S * _SYNTH_RATE), np.float32))
            phones.append(Phone("", clock, clock + _PAUSE_S))
            clock += _PAUSE_S
        sounds.append(sound)
        phones += [Phone(p.symbol, p.start_s + clock, p.end_s + clock, p.stressed) for p in said]
        clock += len(sound) / _SYNTH_RATE
    joined = np.concatenate(sounds)
    return Speech(at_peak(resample_poly(joined, 2, 3).astype(np.float32)), tuple(phones))
