"""A voice's lips go as far as it has proved to be right, and no further."""

import numpy as np
import pytest
import torch

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.motion.speech import SpeechConfig
from m2dao.training.speech_fit import SpokenRecording, fit_speech_driver

NUM_FRAMES, NUM_FEATURES = 300, 6
CONFIG = SpeechConfig(
    features=DEFAULT_FEATURES, num_features=NUM_FEATURES, rows_per_frame=2, embedding_size=8, articulation_size=3
)


def voice_of(articulation: np.ndarray, features: np.ndarray):
    recording = SpokenRecording(features.astype(np.float32), articulation.astype(np.float32))
    return fit_speech_driver(CONFIG, [recording], seed=0, num_steps=200)


def random_features(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2 * NUM_FRAMES, NUM_FEATURES))


@pytest.fixture(scope="module")
def telling():
    """Features that say what the lips do, and a voice learned from them."""
    features = random_features(np.random.default_rng(0))
    return features, voice_of(features[::2, :3], features)


def test_lips_that_the_sound_decides_go_all_the_way(telling):
    _, voice = telling
    assert voice.held_out_r > 0.9 and voice.gain > 0.9


def test_lips_that_the_sound_does_not_decide_are_held_back():
    rng = np.random.default_rng(0)
    assert voice_of(rng.standard_normal((NUM_FRAMES, 3)), random_features(rng)).gain == 0.5


def test_a_scaled_driver_moves_that_much_about_the_same_mean(telling):
    features, voice = telling
    windows = voice.driver.windows(features, NUM_FRAMES)
    with torch.no_grad():
        assert torch.allclose(voice.driver.scaled(0.6)(windows), 0.6 * voice.driver(windows), atol=1e-6)
