"""The speech driver knows which features it was fitted on, and what it says has bounds."""

import dataclasses

import numpy as np
import pytest
import torch

from m2dao.audio.features import feature_version, get_extractor
from m2dao.errors import ConfigError
from m2dao.motion.speech import SpeechConfig, SpeechDriver
from m2dao.timeline import SAMPLES_PER_FRAME


def test_a_configuration_notes_the_version_of_its_features():
    config = SpeechConfig(features="phones", num_features=40, rows_per_frame=4)
    assert config.features_version == feature_version("phones")
    assert SpeechConfig(**dataclasses.asdict(config)) == config


def test_fields_fitted_on_other_rows_are_refused():
    with pytest.raises(ConfigError, match="phones:1; fit the identity again"):
        SpeechConfig(features="phones", num_features=40, rows_per_frame=4, features_version="phones:1")


@pytest.mark.parametrize("number", [0, 17, "4"])
def test_a_number_of_encoders_out_of_range_is_refused(number):
    with pytest.raises(ConfigError, match="speech num_encoders.*1 to 16"):
        SpeechConfig(features="phones", num_features=40, rows_per_frame=4, num_encoders=number)


def test_no_sound_drives_a_face_further_than_voices_go():
    driver = SpeechDriver(SpeechConfig(features="phones", num_features=40, rows_per_frame=4))
    driver.embedding_std.fill_(1e-3)
    with torch.no_grad():
        embeddings = driver(torch.randn(20, driver.config.window_shape.num_rows, 40))
    assert embeddings.abs().max() == 8.0


def test_sound_in_pieces_is_embedded_as_sound_at_once():
    torch.manual_seed(0)
    driver = SpeechDriver(SpeechConfig(features="phones", num_features=40, rows_per_frame=4, num_encoders=3))
    driver.embedding_std.fill_(1e-2)
    sound = 0.1 * np.random.default_rng(0).standard_normal(30 * SAMPLES_PER_FRAME).astype(np.float32)
    with torch.no_grad():
        at_once = driver(driver.windows(get_extractor("phones").extract(sound), 30))
        stream = driver.stream()
        parts = [stream.push(piece) for piece in np.array_split(sound, 11)]
        in_pieces = torch.cat([*parts, stream.finish()])
    assert len(driver.encoders) == 3
    assert at_once.diff(dim=0).abs().max() > 0.01
    assert torch.allclose(in_pieces, at_once, atol=1e-4)
