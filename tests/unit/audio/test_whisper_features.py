"""Whisper features: streamed rows are the file's, though the encoder wants thirty seconds."""

from __future__ import annotations

import numpy as np
import pytest

from m2dao.assets import asset_path
from m2dao.audio.features import get_extractor
from m2dao.audio.whisper import WhisperEncoder
from m2dao.errors import AssetCorrupt, AssetUnavailable
from m2dao.timeline import SAMPLES_PER_FRAME
from tests.support.speech import speech_like


@pytest.fixture(scope="module")
def extractor():
    try:
        asset_path("whisper_base_encoder")
    except AssetUnavailable as error:
        pytest.skip(f"the optional model file cannot be had here: {error}")
    return get_extractor("whisper")


@pytest.fixture(scope="module")
def rows(extractor):
    return extractor.extract(speech_like(2.0))


def test_there_are_two_rows_of_512_for_each_frame(rows):
    assert rows.shape == (100, 512)
    assert 0.3 < rows.std() < 1.5


def test_stream_gives_exactly_the_rows_of_the_file(extractor, rows):
    waveform = speech_like(2.0)
    stream = extractor.stream()
    pieces = [stream.push(waveform[start : start + 3700]) for start in range(0, len(waveform), 3700)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.finish()]), rows)


def test_rows_are_final_after_the_declared_lookahead_and_not_before(extractor):
    waveform = speech_like(2.0)
    needed = SAMPLES_PER_FRAME + round(extractor.lookahead_s * 16_000)
    stream = extractor.stream()
    assert len(stream.push(waveform[: needed - 1])) == 0
    assert len(stream.push(waveform[needed - 1 : needed])) >= 2


def test_silence_and_steady_noise_give_one_row(extractor):
    noise = 1e-3 * np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    silent = extractor.extract(np.zeros(6400, np.float32))
    settled = extractor.extract(noise)[60:]
    np.testing.assert_array_equal(settled, np.broadcast_to(silent[0], settled.shape))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(AssetCorrupt):
        WhisperEncoder(tmp_path)
