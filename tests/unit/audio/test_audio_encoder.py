"""The audio encoder: one value for a frame however it is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2dao.audio.encoder import AudioEncoder
from m2dao.errors import ConfigError, InputError


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return AudioEncoder(6, 12, dim=32)


@pytest.fixture
def windows():
    return torch.randn(30, 12, 6, generator=torch.Generator().manual_seed(1))


def test_embeddings_have_the_shape_asked_for(encoder, windows):
    assert encoder(windows).shape == (30, 32)


@pytest.mark.parametrize("lookahead_frames", [0, 3, 7])
@pytest.mark.parametrize("num_frames", [1, 5, 30])
def test_streamed_embeddings_are_those_of_the_sequence(windows, num_frames, lookahead_frames):
    torch.manual_seed(0)
    encoder = AudioEncoder(6, 12, lookahead_frames=lookahead_frames)
    stream = encoder.stream()
    rng = np.random.default_rng(2)
    pieces = []
    start = 0
    while start < num_frames:
        size = int(rng.integers(0, 4))
        pieces.append(stream.push(windows[start : min(start + size, num_frames)]))
        start += size
    pieces.append(stream.finish())
    torch.testing.assert_close(torch.cat(pieces), encoder(windows[:num_frames]).detach())


def test_a_stream_waits_for_the_named_lookahead_and_no_longer(encoder, windows):
    stream = encoder.stream()
    assert len(stream.push(windows[: encoder.lookahead_frames])) == 0
    for index in range(encoder.lookahead_frames, 30):
        assert len(stream.push(windows[index : index + 1])) == 1


def test_an_embedding_is_a_convex_combination_of_its_neighbours(encoder, windows):
    constant = windows[:1].expand(10, -1, -1)
    torch.testing.assert_close(encoder(constant), encoder.window_net(constant))
    vectors = encoder.window_net(windows[:8])
    smoothed = encoder.smoothing(vectors[None])[0]
    assert (smoothed <= vectors.max(dim=0).values + 1e-6).all()
    assert (smoothed >= vectors.min(dim=0).values - 1e-6).all()


def test_every_parameter_receives_a_gradient(encoder, windows):
    (encoder(windows) ** 2).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_windows_of_another_feature_are_refused(encoder):
    with pytest.raises(InputError, match=r"\[12, 6\]"):
        encoder(torch.zeros(4, 12, 7))


def test_a_lookahead_beyond_the_neighbourhood_is_refused():
    with pytest.raises(ConfigError):
        AudioEncoder(6, 12, lookahead_frames=8)
