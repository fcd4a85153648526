"""A talker speaks any sound, in pieces or whole."""

import itertools

import numpy as np
import pytest

from m2dao.errors import InputError
from m2dao.identity import Talker
from m2dao.identity.performance import perform
from m2dao.timeline import SAMPLES_PER_FRAME
from tests.support.speech import speech_like
from tests.support.tiny_identity import make_tiny_identity

NO_CUTS = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return Talker.load(make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna"))


@pytest.fixture(scope="module")
def speech():
    return speech_like(2.0)[: 30 * SAMPLES_PER_FRAME + 100]


def test_there_is_one_frame_for_each_640_samples_begun(talker, speech):
    frames = list(talker.frames(speech))
    assert len(frames) == 31
    assert all(frame.shape == (64, 64, 3) and frame.dtype == np.uint8 for frame in frames)


def test_pieces_of_sound_give_the_frames_of_the_whole(talker, speech):
    pieces = np.array_split(speech, [7, 900, 901, 5000, 12_345])
    for whole, piecewise in zip(talker.frames(speech), talker.frames(iter(pieces)), strict=True):
        assert np.array_equal(whole, piecewise)


def test_sound_moves_the_face_and_the_seed_the_head(talker, speech):
    silent = np.stack(list(talker.frames(np.zeros_like(speech)))).astype(int)
    spoken = np.stack(list(talker.frames(speech))).astype(int)
    other_seed, same_seed = (list(talker.frames(np.zeros(300 * 640, np.float32), seed=seed))[-1] for seed in (5, 0))
    assert np.abs(spoken - silent).max() > 2
    assert not np.array_equal(other_seed, same_seed)


@pytest.mark.parametrize("background", ["plate", (10, 200, 30), np.full((20, 30, 3), 77, np.uint8)])
def test_a_corner_shows_the_background_asked_for(talker, background):
    frame = next(talker.frames(np.zeros(640, np.float32), background=background))
    expected = (40, 60, 90) if isinstance(background, str) else np.ravel(background)[:3]
    assert np.array_equal(frame[0, 0], expected)


def test_transparent_frames_put_over_the_plate_are_the_opaque_ones(talker):
    sound = np.zeros(640, np.float32)
    opaque = next(talker.frames(sound)).astype(float)
    clear = next(talker.frames(sound, background="transparent")).astype(float)
    alpha = clear[..., 3:] / 255
    assert np.abs(clear[..., :3] * alpha + (1 - alpha) * talker.plate - opaque).max() <= 1.5


@pytest.mark.parametrize("background", ["beach", (300, 0, 0), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), 7])
def test_a_strange_background_is_refused(talker, background):
    with pytest.raises(InputError, match="background"):
        next(talker.frames(np.zeros(640, np.float32), background=background))


@pytest.mark.parametrize("audio", [np.zeros((2, 5), np.float32), np.zeros(9, np.int16), np.full(9, np.nan, np.float32)])
def test_strange_sound_is_refused(talker, audio):
    with pytest.raises(InputError, match="audio"):
        next(talker.frames(audio))


def test_no_sound_gives_no_frames(talker):
    assert list(talker.frames(np.zeros(0, np.float32))) == []


@pytest.mark.parametrize("num_frames", [60, 200, 1500])
def test_motion_of_any_length_never_jumps(num_frames):
    time_s = np.arange(num_frames) / 25
    poses = np.stack([0.1 * np.sin(time_s * (1 + axis / 3)) for axis in range(6)], axis=1)
    expression = np.zeros((num_frames, 6))
    recorded = np.abs(np.diff(poses, axis=0)).max()
    motion = perform(poses, poses, expression, NO_CUTS, seed=3)
    played = np.stack([next(motion).pose for _ in range(5000)])
    assert np.abs(np.diff(played, axis=0)).max() < 3 * recorded + 0.2 / 16  # a cross-fade spreads a gap over 16 frames


def test_motion_is_the_same_for_the_same_seed_and_has_no_period():
    rng = np.random.default_rng(0)
    poses = np.cumsum(rng.normal(size=(500, 6)), axis=0) * 0.002
    runs = []
    for seed in (1, 1, 2):
        motion = perform(poses, poses, np.zeros((500, 6)), NO_CUTS, seed=seed)
        runs.append(np.stack([next(motion).pose for _ in range(3000)]))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    later = runs[0][600:]
    for period in range(50, 1500, 50):
        assert np.abs(later[period:] - later[:-period]).mean() > 1e-4


def test_a_cut_where_the_head_leaps_is_never_played():
    poses = _swaying(600)
    poses[250:] += 0.3
    motion = perform(poses, poses, np.zeros((600, 6)), np.array([250]), seed=0)
    played = np.stack([next(motion).pose for _ in range(5000)])
    assert np.abs(np.diff(played, axis=0)).max() < 0.05


def test_a_cut_where_the_head_hardly_moves_is_not_played_either():
    poses, numbers = _swaying(600), np.zeros((600, 6))
    numbers[:, 5] = np.arange(600)

    def shown(cuts):
        motion = perform(poses, poses, numbers, cuts, seed=0)
        return set(itertools.pairwise(next(motion).expression[5] for _ in range(5000)))

    assert (249.0, 250.0) in shown(NO_CUTS)
    assert (249.0, 250.0) not in shown(np.array([250]))


def _swaying(num_frames):
    time_s = np.arange(num_frames) / 25
    return np.stack([0.05 * np.sin(time_s * (1 + axis / 3)) for axis in range(6)], axis=1)
