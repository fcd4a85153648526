"""What goes wrong on purpose goes wrong in the frames that the truth names, and in no others."""

import numpy as np
import pytest

from m2dao.errors import ConfigError
from m2dao.presenter.incidents import INCIDENTS, Take, draw_incidents, get_incident
from m2dao.presenter.performance import perform
from m2dao.tts import Phone
from tests.support.speech import speech_like

NUM_FRAMES, SIZE = 200, 128
LANDMARKS = np.array(  # of a face in the middle of the picture, in the order of the scene's
    [[44, 52], [56, 52], [72, 52], [84, 52], [54, 84], [74, 84], [64, 82], [64, 86], [64, 70], [64, 104]]
    + [[50, 50], [50, 54], [78, 50], [78, 54]],
    np.float32,
)


def take():
    speech = speech_like(NUM_FRAMES / 25, seed=1)
    return Take(
        states=perform((Phone("ɑ", 0.5, 7.5),), NUM_FRAMES, seed=0),
        waveform=speech,
        other_voice=speech_like(NUM_FRAMES / 25, seed=2),
        rng=np.random.default_rng(0),
    )


def acted(name):
    changed = take()
    if get_incident(name).act:
        get_incident(name).act(changed)
    return changed


def inside(spans):
    return np.isin(np.arange(NUM_FRAMES), [frame for begin, end in spans for frame in range(begin, end)])


@pytest.mark.parametrize("name", [name for name, incident in INCIDENTS.items() if incident.draw])
def test_pictures_are_changed_in_the_frames_of_the_truth_only(name):
    spans = acted(name).spans
    changed = []
    for index in range(NUM_FRAMES):
        picture = np.full((SIZE, SIZE, 3), 120, np.uint8)
        draw_incidents([name], spans, index, picture, LANDMARKS)
        changed.append((picture != 120).any())
    truth = inside(spans[name])
    assert not np.any(changed & ~truth)
    assert np.mean(np.array(changed)[truth]) > 0.6  # a hand comes from below the picture


@pytest.mark.parametrize("name", ["profile", "quick turn", "quick turns", "long blink", "second voice"])
def test_the_presenter_does_something_else_in_the_frames_of_the_truth_only(name):
    before, after = take(), acted(name)
    differs = [
        not (np.array_equal(one.head, other.head) and np.array_equal(one.controls, other.controls))
        for one, other in zip(before.states, after.states, strict=True)
    ]
    truth = inside(after.spans[name])
    assert not np.any(differs & ~truth)
    assert np.mean(np.array(differs)[truth]) > 0.7


@pytest.mark.parametrize("num_frames", [160, 200, 250, 273])
def test_quick_turns_begin_and_end_without_a_leap(num_frames):
    still = take()
    still.states = [still.states[0]] * num_frames
    get_incident("quick turns").act(still)
    ahead = np.array([state.head[:3, 2] for state in still.states])
    turned_deg = np.degrees(np.linalg.norm(np.diff(ahead, axis=0), axis=1))
    assert 4.5 < turned_deg.max() < 5.5  # 13 degrees at 1.6 turns a second


def test_a_jump_cut_takes_picture_and_sound_away_together():
    after = acted("jump cut")
    ((begin, _),) = after.spans["jump cut"]
    assert len(after.states) < NUM_FRAMES - 25
    assert len(after.waveform) == 640 * len(after.states)
    steps = np.linalg.norm(np.diff([state.head[:3, 2] for state in after.states], axis=0), axis=1)
    assert steps.argmax() == begin - 1


@pytest.mark.parametrize("name", ["noise", "hiss", "hum", "music", "second voice"])
def test_sound_is_changed_where_the_truth_says_so(name):
    before, after = take(), acted(name)
    away = np.abs(after.waveform - before.waveform).reshape(NUM_FRAMES, -1).mean(axis=1)
    truth = inside(after.spans.get(name, [(0, NUM_FRAMES)]))
    assert away[truth].mean() > 1e-3
    assert not away[~truth].any()
    assert np.abs(after.waveform).max() <= 1.0


@pytest.mark.parametrize(("name", "num_pictures"), [("few pictures", 67), ("repeated pictures", 180)])
def test_pictures_are_shown_more_than_once(name, num_pictures):
    assert len({id(state) for state in acted(name).states}) == num_pictures


def test_an_unknown_incident_is_named():
    with pytest.raises(ConfigError, match="one of hand, microphone"):
        get_incident("earthquake")
