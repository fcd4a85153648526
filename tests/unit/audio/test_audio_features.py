"""Audio features: equal rows from file and stream, on one clock, deaf to gain and to room noise."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from m2dao.audio.features import FeatureExtractor, get_extractor
from m2dao.audio.phones import posteriors_of
from m2dao.errors import ConfigError, InputError
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME
from tests.support.speech import speech_like

NAMES = ("logmel", "phones", "logmel+phones")


@pytest.fixture(scope="module")
def waveform():
    return speech_like(3.0, seed=3)


def streamed(extractor: FeatureExtractor, waveform: np.ndarray, sizes) -> np.ndarray:
    stream = extractor.stream()
    rows = []
    start = 0
    while start < len(waveform):
        size = int(next(sizes))
        rows.append(stream.push(waveform[start : start + size]))
        start += size
    rows.append(stream.finish())
    return np.concatenate(rows)


def random_sizes(seed: int, largest: int):
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(0, largest)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("largest", [40, 700, 30_000])
def test_stream_gives_exactly_the_rows_of_the_file(name, largest, waveform):
    extractor = get_extractor(name)
    piece = waveform[: 16_000 if largest == 40 else None]
    np.testing.assert_array_equal(streamed(extractor, piece, random_sizes(largest, largest)), extractor.extract(piece))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_frames", [0, 1, 2, 26])
def test_there_are_rate_over_25_rows_for_each_frame(name, num_frames):
    extractor = get_extractor(name)
    rows = extractor.extract(speech_like(2.0)[: num_frames * SAMPLES_PER_FRAME])
    assert rows.shape == (num_frames * extractor.rate_hz // FRAME_RATE, extractor.dim)
    assert rows.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_partial_last_frame_counts_as_a_frame(name, waveform):
    extractor = get_extractor(name)
    assert len(extractor.extract(waveform[: SAMPLES_PER_FRAME + 1])) == 2 * extractor.rate_hz // FRAME_RATE


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_frame_are_final_after_the_declared_lookahead_and_not_before(name, waveform):
    extractor = get_extractor(name)
    rows_per_frame = extractor.rate_hz // FRAME_RATE
    needed = 3 * SAMPLES_PER_FRAME + round(extractor.lookahead_s * 16_000)
    stream = extractor.stream()
    assert len(stream.push(waveform[: needed - 1])) == 2 * rows_per_frame
    assert len(stream.push(waveform[needed - 1 : needed])) == rows_per_frame


@pytest.mark.parametrize("name", NAMES)
def test_later_sound_changes_no_earlier_row(name, waveform):
    extractor = get_extractor(name)
    num_frames = 30
    cut = num_frames * SAMPLES_PER_FRAME + round(extractor.lookahead_s * 16_000)
    other = np.concatenate([waveform[:cut], speech_like(3.0, seed=9, pitch_hz=210.0)])
    num_rows = num_frames * extractor.rate_hz // FRAME_RATE
    np.testing.assert_array_equal(extractor.extract(waveform)[:num_rows], extractor.extract(other)[:num_rows])


@pytest.mark.parametrize("name", ["logmel", "phones"])
def test_a_row_is_centred_on_half_a_hop_after_its_start(name):
    """A click in the middle of a hop moves the row of that hop and the rows on both sides of it alike."""
    extractor = get_extractor(name)
    hop = 16_000 // extractor.rate_hz
    waveform = np.zeros(40 * SAMPLES_PER_FRAME, np.float32)
    row = 81
    waveform[row * hop + hop // 2] = 0.9
    heard = np.abs(extractor.extract(waveform) - extractor.extract(np.zeros_like(waveform))).max(axis=1) > 0
    assert heard.nonzero()[0][0] == row  # the gate opens in the row that owns the click


@pytest.mark.parametrize("name", NAMES)
def test_silence_steady_noise_and_hum_give_one_row(name):
    extractor = get_extractor(name)
    rng = np.random.default_rng(1)
    seconds = 6
    time_s = np.arange(seconds * 16_000) / 16_000
    silent = extractor.extract(np.zeros(16_000, np.float32))[0]
    for noise in (
        1e-5 * rng.normal(size=len(time_s)),
        3e-3 * rng.normal(size=len(time_s)),
        0.05 * np.sin(2 * np.pi * 50 * time_s),
    ):
        rows = extractor.extract(noise.astype(np.float32))
        settled = rows[len(rows) // 2 :]
        np.testing.assert_array_equal(settled, np.broadcast_to(silent, settled.shape))


def test_phone_rows_are_probabilities_and_silence_is_certain_in_silence(waveform):
    extractor = get_extractor("phones")
    rows = extractor.extract(waveform)
    assert extractor.phones[0] == "SIL"
    assert len(extractor.phones) == extractor.dim == 40
    posteriors = posteriors_of(rows)
    assert rows.min() >= 0
    np.testing.assert_allclose(posteriors.sum(axis=1), 1, atol=1e-5)
    assert posteriors_of(extractor.extract(np.zeros(6400, np.float32)))[:, 0].min() == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_gain_of_the_microphone_is_forgotten_within_seconds(name):
    extractor = get_extractor(name)
    speech = speech_like(20.0, seed=5)
    loud, quiet = extractor.extract(speech), extractor.extract(speech * np.float32(0.2))
    half = len(loud) // 2
    difference = np.abs(loud[half:] - quiet[half:]).mean()
    assert difference < 0.06 * np.abs(loud[half:] - loud[half:].mean(axis=0)).mean() + 0.02


def test_memory_does_not_grow_with_the_length_of_the_stream():
    stream = get_extractor("logmel+phones").stream()
    piece = speech_like(0.5)
    stream.push(piece)

    def peak_bytes(num_pieces: int) -> int:
        tracemalloc.start()
        for _ in range(num_pieces):
            stream.push(piece)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(40) < 1.05 * peak_bytes(4) + 20_000


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 100), np.float32), np.zeros(100, np.int16), np.array([0.0, np.nan], np.float32)]
)
def test_a_waveform_that_is_not_finite_mono_float_is_refused(bad):
    with pytest.raises(InputError):
        get_extractor("logmel").extract(bad)


@pytest.mark.parametrize("name", ["", "mfcc", "logmel+", "logmel+logmel"])
def test_an_unknown_or_repeated_feature_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match="logmel, phones, whisper"):
        get_extractor(name)


def test_a_finished_stream_takes_nothing_more():
    stream = get_extractor("logmel").stream()
    stream.finish()
    with pytest.raises(InputError):
        stream.push(np.zeros(10, np.float32))
    with pytest.raises(InputError):
        stream.finish()
