"""Lips of sound that was not learned from go as far as recorded ones."""

import numpy as np
import pytest
import torch

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.motion.speech import SpeechConfig
from m2dao.training.speech.calibration import lip_gain
from m2dao.training.speech.fit_driver import fit_speech_driver
from m2dao.training.speech.spoken import SpokenRecording

NUM_FRAMES, NUM_UNSEEN, NUM_FEATURES = 400, 200, 6
CONFIG = SpeechConfig(
    features=DEFAULT_FEATURES, num_features=NUM_FEATURES, rows_per_frame=2, embedding_size=2, num_encoders=4
)


def recorded(noise):
    """Lips that the sound decides but for noise, and the same for sound nobody learns from."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2 * (NUM_FRAMES + NUM_UNSEEN), NUM_FEATURES)).astype(np.float32)
    heard = features[::2, :2] + noise * rng.standard_normal((NUM_FRAMES + NUM_UNSEEN, 2))
    recording = SpokenRecording(features[: 2 * NUM_FRAMES], heard[:NUM_FRAMES].astype(np.float32))
    return recording, features, heard[NUM_FRAMES:]


@pytest.mark.parametrize("recorded_share", [0.0, 0.5])
def test_unseen_lips_come_nearer_to_the_recorded_spread(recorded_share):
    recording, features, unseen = recorded(noise=0.7)
    fitted = fit_speech_driver(CONFIG, [recording], seed=0, num_steps=300)
    gain = lip_gain(fitted.driver, recording, recorded_share)
    with torch.no_grad():
        windows = fitted.driver.windows(features, NUM_FRAMES + NUM_UNSEEN)
        said = fitted.driver.articulation(fitted.driver.normalise(windows))
    target, unseen = torch.from_numpy(recording.articulation), torch.from_numpy(unseen)
    shown = (1 - recorded_share) * said[:NUM_FRAMES] + recorded_share * target
    slope = torch.tensor([float(np.cov(shown[:, k], target[:, k])[0, 1] / shown[:, k].var()) for k in range(2)])
    before, after = (factor * slope * said[NUM_FRAMES:].std(0) / unseen.std(0) for factor in (1, gain))
    assert (gain > 1.02).all()
    assert ((after - 1).abs() < (before - 1).abs()).all(), (before, after)


def test_what_is_hardly_heard_is_left_as_it_is():
    recording, _, _ = recorded(noise=30.0)
    fitted = fit_speech_driver(CONFIG, [recording], seed=0, num_steps=100)
    assert torch.equal(lip_gain(fitted.driver, recording, 0.0), torch.ones(2))


def test_the_gain_stretches_unseen_embeddings_and_not_those_of_the_fit():
    recording, features, _ = recorded(noise=0.7)
    fitted = fit_speech_driver(CONFIG, [recording], seed=0, num_steps=50)
    gain = torch.tensor([1.5, 1.0])
    windows = fitted.driver.windows(features, NUM_FRAMES + NUM_UNSEEN)
    with torch.no_grad():
        plain = fitted.driver(windows)
        stretched = fitted._replace(gain=gain).calibrated()(windows)
        torch.testing.assert_close(stretched, plain * gain)
        torch.testing.assert_close(fitted.driver(windows), plain, msg="the driver of the fit stays as it is")
