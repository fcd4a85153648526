"""Linear encoders learn lips from seconds, the same whatever the seed, and stream like any others."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from m2dao.audio.features import get_extractor
from m2dao.errors import ConfigError
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.timeline import SAMPLE_RATE
from m2dao.training.recipes import get_recipe
from m2dao.training.speech.calibration import lip_gain
from m2dao.training.speech.fit_driver import SpeechStart, fit_speech_driver, fit_speech_map, speech_config
from m2dao.training.speech.spoken import SpokenRecording

NUM_FRAMES, NUM_FEATURES = 175, 40  # seven seconds
CONFIG = SpeechConfig(
    features="phones",
    num_features=NUM_FEATURES,
    rows_per_frame=4,
    frames_per_window=4,
    window_lookahead_frames=3,
    embedding_size=3,
    num_encoders=4,
    encoder="map",
)


def spoken(seed: int, num_frames: int = NUM_FRAMES) -> SpokenRecording:
    """Lips that follow the sound a frame later, and noise that no sound tells."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.standard_normal((num_frames, NUM_FEATURES)), 4, axis=0)
    lips = np.roll(rows[::4, :3] + 0.5 * rows[::4, 3:6], 1, axis=0) + 0.8 * rng.standard_normal((num_frames, 3))
    return SpokenRecording(rows.astype(np.float32), lips.astype(np.float32))


def unheard_r(driver: SpeechDriver, recording: SpokenRecording) -> float:
    with torch.no_grad():
        said = driver(driver.windows(recording.features, len(recording.articulation))).numpy()
    return float(np.corrcoef(said[:, 0], recording.articulation[:, 0])[0, 1])


def taught_and_asked() -> tuple[SpokenRecording, SpokenRecording]:
    whole = spoken(0, num_frames=4 * NUM_FRAMES)
    taught = SpokenRecording(whole.features[: 4 * NUM_FRAMES], whole.articulation[:NUM_FRAMES])
    return taught, SpokenRecording(whole.features[4 * NUM_FRAMES :], whole.articulation[NUM_FRAMES:])


def test_seven_seconds_teach_a_map_more_than_networks():
    taught, asked = taught_and_asked()
    fitted = fit_speech_map(CONFIG, taught)
    networks = fit_speech_driver(replace(CONFIG, encoder="network"), [taught], seed=0, num_steps=200).driver
    assert unheard_r(fitted.driver, asked) > max(0.45, unheard_r(networks, asked) + 0.05)
    assert 0.3 < fitted.held_out_r < 1.0


def test_the_answer_has_no_seed():
    taught, _ = taught_and_asked()
    torch.manual_seed(1)
    one = fit_speech_map(CONFIG, taught).driver.state_dict()
    torch.manual_seed(2)
    again = fit_speech_map(CONFIG, taught).driver.state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_no_map_learns_from_what_is_held_out_from_it():
    taught, _ = taught_and_asked()
    first = fit_speech_map(CONFIG, taught).driver
    lips = taught.articulation.copy()
    lips[:20] += 5.0  # inside the part held out from the first encoder alone
    other = fit_speech_map(CONFIG, taught._replace(articulation=lips)).driver
    same = [torch.equal(a.map.weight, b.map.weight) for a, b in zip(first.encoders, other.encoders, strict=True)]
    assert same == [True, False, False, False]


def test_calibration_stretches_maps_as_it_does_networks():
    taught, _ = taught_and_asked()
    gain = lip_gain(fit_speech_map(CONFIG, taught).driver, taught, 0.5)
    assert gain.shape == (3,)
    assert bool(((gain >= 1.0) & (gain <= 1.5)).all())


@pytest.mark.parametrize("piece", [640, 777, 5000])
def test_embeddings_of_pieces_are_those_of_the_whole(piece):
    taught, _ = taught_and_asked()
    driver = fit_speech_map(CONFIG, taught).driver
    sound = (0.1 * np.random.default_rng(5).standard_normal(2 * SAMPLE_RATE)).astype(np.float32)
    with torch.no_grad():
        whole = driver(driver.windows(get_extractor("phones").extract(sound), 50))
    stream = driver.stream()
    parts = [stream.push(sound[start : start + piece]) for start in range(0, len(sound), piece)]
    torch.testing.assert_close(torch.cat([*parts, stream.finish()]), whole, atol=1e-5, rtol=1e-5)


def test_a_map_waits_as_long_as_networks_and_is_stored_by_its_config():
    networks = SpeechConfig(features="phones", num_features=40, rows_per_frame=4)
    assert CONFIG.lookahead_s == networks.lookahead_s
    driver = fit_speech_map(CONFIG, taught_and_asked()[0]).driver
    again = SpeechDriver(SpeechConfig(**asdict(CONFIG)))
    again.load_state_dict(driver.state_dict())
    windows = driver.windows(spoken(3).features, NUM_FRAMES)
    assert torch.equal(again(windows), driver(windows))


def test_an_unknown_kind_of_encoder_is_refused():
    with pytest.raises(ConfigError, match="speech encoder"):
        replace(CONFIG, encoder="guess")
    with pytest.raises(ConfigError, match="speech_encoder"):
        replace(get_recipe("m2dao", 64), speech_encoder="guess")
    with pytest.raises(ConfigError, match="learned with the picture"):
        replace(get_recipe("talking_gaussian", 64), speech_encoder="map")


def test_a_recipe_of_maps_does_not_start_from_universal_networks():
    start = SpeechStart(SpeechDriver(replace(CONFIG, encoder="network")), None)
    with pytest.raises(ConfigError, match="universal"):
        speech_config(None, get_recipe("m2dao_seconds", 64), start)
