"""A voice is judged by what it has not learned from, and several are less wrong than one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m2dao.audio.features import DEFAULT_FEATURES
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.training.speech.fit_driver import fit_speech_driver
from m2dao.training.speech.spoken import SpokenPart, SpokenRecording

NUM_FRAMES, NUM_FEATURES = 300, 6
CONFIG = SpeechConfig(
    features=DEFAULT_FEATURES, num_features=NUM_FEATURES, rows_per_frame=2, embedding_size=3, num_encoders=2
)


def voice_of(articulation: np.ndarray, features: np.ndarray):
    recording = SpokenRecording(features.astype(np.float32), articulation.astype(np.float32))
    return fit_speech_driver(CONFIG, [recording], seed=0, num_steps=400)


def random_features(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2 * NUM_FRAMES, NUM_FEATURES))


def test_held_out_lips_tell_whether_the_sound_decides_them():
    rng = np.random.default_rng(0)
    features = random_features(rng)
    assert voice_of(features[::2, :3], features).held_out_r > 0.9
    assert abs(voice_of(rng.standard_normal((NUM_FRAMES, 3)), features).held_out_r) < 0.3


@pytest.mark.parametrize("num_encoders", [1, 2, 4])
def test_no_encoder_learns_from_what_is_held_out_from_it(num_encoders):
    config = replace(CONFIG, num_encoders=num_encoders)
    numbers = np.repeat(np.arange(NUM_FRAMES, dtype=np.float32)[:, None], 3, axis=1)
    recording = SpokenRecording(random_features(np.random.default_rng(0)).astype(np.float32), numbers)
    part, generator = SpokenPart(SpeechDriver(config), recording), torch.Generator().manual_seed(0)
    seen = [set() for _ in range(num_encoders)]
    for _ in range(100):
        for numbers_seen, target in zip(seen, part.batch(generator)[1], strict=True):
            numbers_seen.update(target[:, 0].tolist())
    held_out = [set(target[:, 0].tolist()) for target in part.held_out(part.target)]
    assert all(len(held) == 36 and not held & numbers_seen for held, numbers_seen in zip(held_out, seen, strict=True))
    assert all(len(numbers_seen) > 0.9 * (NUM_FRAMES - 36) for numbers_seen in seen)
    assert len({frozenset(held) for held in held_out}) == num_encoders


def test_several_encoders_are_less_wrong_on_average_than_one():
    rng = np.random.default_rng(1)
    features = random_features(rng)
    decided = np.tanh(features[::2, :3])
    told, asked = decided + 0.8 * rng.standard_normal(decided.shape), SpeechDriver(CONFIG).windows(features, NUM_FRAMES)

    def error(num_encoders: int) -> float:
        recording = SpokenRecording(features.astype(np.float32), told.astype(np.float32))
        voice = fit_speech_driver(replace(CONFIG, num_encoders=num_encoders), [recording], seed=0, num_steps=300)
        driver = voice.driver
        with torch.no_grad():
            said = driver.articulation(driver.normalise(asked)).numpy()
        return float(np.square(said - decided).mean())

    assert error(4) < 0.9 * error(1)
