"""The phone scores against those of the decoder that the acoustic model comes from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pocketsphinx
import pytest

from m2dao.audio.acoustic_model import load_acoustic_model
from m2dao.audio.phones import DELTA_ROWS, INT16_SCALE, Phones, _deltas
from m2dao.errors import AssetCorrupt, AssetUnavailable
from m2dao.timeline import SAMPLES_PER_FRAME
from tests.support.speech import speech_like

LOG_BASE = 1.0001
PACKAGED = Path(pocketsphinx.get_model_path("en-us/en-us"))


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """Sound, and the decoder's cepstra and state scores for it, without its clip-wide steps."""
    folder = tmp_path_factory.mktemp("decoder")
    model, cepstra, scores = folder / "model", folder / "cepstra", folder / "scores"
    shutil.copytree(PACKAGED, model)
    settings = (model / "feat.params").read_text()
    plain = settings.replace("-remove_noise yes", "-remove_noise no").replace("-cmn batch", "-cmn none")
    assert plain.count(" no") > settings.count(" no")
    assert "-cmn none" in plain
    (model / "feat.params").write_text(plain)
    cepstra.mkdir()
    scores.mkdir()
    waveform = np.round(speech_like(2.0, seed=4) * INT16_SCALE) / INT16_SCALE
    decoder = pocketsphinx.Decoder(
        pocketsphinx.Config(
            hmm=str(model),
            allphone=pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin"),
            senlogdir=str(scores),
            mfclogdir=str(cepstra),
            compallsen=True,
            topn=128,
            loglevel="FATAL",
        )
    )
    decoder.start_utt()
    decoder.process_raw((waveform * INT16_SCALE).astype(np.int16).tobytes())
    decoder.end_utt()
    return waveform.astype(np.float32), _read_cepstra(next(cepstra.iterdir())), _read_scores(next(scores.iterdir()))


def _read_cepstra(path: Path) -> np.ndarray:  # [r, 13]
    data = path.read_bytes()
    return np.frombuffer(data, ">f4", offset=4).reshape(-1, 13)


def _read_scores(path: Path) -> np.ndarray:  # [r, 126] natural logarithms
    data = path.read_bytes()
    offset = data.index(b"endhdr\n") + len(b"endhdr\n") + 4
    rows = []
    while offset < len(data):
        count = int(np.frombuffer(data, "<i2", count=1, offset=offset)[0])
        rows.append(np.frombuffer(data, "<i2", count=count, offset=offset + 2)[:126])
        offset += 2 + 2 * count
    return -np.array(rows, np.float64) * 1024 * np.log(LOG_BASE)


def our_cepstra(features: Phones, waveform: np.ndarray) -> np.ndarray:
    """Rows whose windows start at the first sample, as the decoder's do, three around each frame."""
    lead = features.left_samples + 80 - 205 - DELTA_ROWS * 160  # the decoder's row 0 becomes the outermost row
    padded = np.concatenate([np.zeros(lead, np.float32), waveform])
    length = features.left_samples + SAMPLES_PER_FRAME + features.right_samples
    blocks = np.lib.stride_tricks.sliding_window_view(padded, length)[::SAMPLES_PER_FRAME]
    return features.cepstra(blocks)


def test_cepstra_are_those_of_the_decoder(decoded):
    waveform, expected, _ = decoded
    cepstra = our_cepstra(Phones(), waveform)  # [B, 10, 13]; block b begins with the decoder's row 4 b
    for block, rows in enumerate(cepstra):
        # Worst seen 3e-4 on values up to 60.
        np.testing.assert_allclose(rows, expected[4 * block : 4 * block + 10], atol=2e-3)
    assert len(cepstra) > 40


def test_state_scores_follow_those_of_the_decoder(decoded):
    waveform, _, expected = decoded
    features = Phones()
    cepstra = our_cepstra(features, waveform)
    own = cepstra[:, DELTA_ROWS:-DELTA_ROWS].astype(np.float32)
    scores = features.state_scores((own, *_deltas(cepstra)))  # [B, P, 4, Q]
    scores = scores.transpose(0, 2, 1, 3).reshape(-1, 126)
    # The decoder's row r has its deltas around cepstrum r; our first own row is the decoder's row 3.
    expected = expected[DELTA_ROWS : DELTA_ROWS + len(scores)]
    scores = scores[: len(expected)]
    scores = scores - scores.max(axis=1, keepdims=True)
    expected = expected - expected.max(axis=1, keepdims=True)
    assert np.corrcoef(scores.ravel(), expected.ravel())[0, 1] > 0.985  # it rounds each stream to 0.1
    assert np.abs(scores - expected).mean() < 0.7
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.75


def test_mixture_weights_are_about_one_in_all():
    model = load_acoustic_model()
    assert len(model.phones) == 42
    assert model.means.shape == model.variances.shape == (3, 42, 128, 13)
    sums = model.weights.sum(axis=2)
    assert sums.min() > 0.85
    assert sums.max() < 1.1
    assert model.variances.min() > 0


def test_a_missing_or_damaged_model_is_named(tmp_path):
    with pytest.raises(AssetUnavailable, match="mdef"):
        load_acoustic_model(tmp_path)
    shutil.copytree(PACKAGED, tmp_path / "model")
    path = tmp_path / "model" / "means"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(AssetCorrupt, match="means"):
        load_acoustic_model(tmp_path / "model")
    shutil.copy(PACKAGED / "means", path)
    path = tmp_path / "model" / "sendump"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AssetCorrupt, match="sendump"):
        load_acoustic_model(tmp_path / "model")
