"""Frames of a recording that was cut, each over the background of its own shot."""

import numpy as np
import pytest
import torch

from m2dao.training.frames.targets import TargetsAhead, decode_frames

SIZE, NUM_FRAMES, CUT = 32, 20, 8
WALLS = (60, 180)  # before and after the cut


class CutRecording:
    """A grey wall that is brighter after the cut, and somebody who stands before it."""

    size = SIZE
    shots = (np.arange(NUM_FRAMES) >= CUT).astype(int)
    landmarks = np.full((NUM_FRAMES, 478, 3), SIZE / 2, np.float32)

    def frame(self, index):
        picture = np.full((SIZE, SIZE, 3), WALLS[self.shots[index]], np.uint8)
        picture[10:, 12:20] = (200, 0, 0)
        return picture

    def masks(self, index):
        masks = np.zeros((SIZE, SIZE, 4), np.uint8)
        masks[10:, 12:20, 3] = 255
        return masks


@pytest.mark.parametrize("index", [0, CUT - 1, CUT, NUM_FRAMES - 1])
def test_each_shot_has_the_background_that_was_behind_it(index):
    frames = decode_frames(CutRecording(), SIZE, range(NUM_FRAMES))
    assert np.abs(frames.plate(index)[:, :4] * 255 - WALLS[index >= CUT]).max() < 2
    assert np.abs(frames.latest_plate[:, :4].astype(int) - WALLS[1]).max() < 2


def test_frames_of_the_last_part_only_know_their_own_shot():
    frames = decode_frames(CutRecording(), SIZE, range(CUT + 2, NUM_FRAMES))
    assert np.abs(frames.plate(CUT + 3)[:, :4] * 255 - WALLS[1]).max() < 2


class StillRecording(CutRecording):
    """Somebody who never moves, and a white stripe on the wall right beside him."""

    size = 128
    stripe = slice(80, 82)

    def frame(self, index):
        picture = np.full((self.size, self.size, 3), 60, np.uint8)
        picture[:, self.stripe] = 255
        picture[40:, 48:80] = (200, 0, 0)
        return picture

    def masks(self, index):
        masks = np.zeros((self.size, self.size, 4), np.uint8)
        masks[40:, 48:80, 3] = 255
        return masks


def test_what_is_only_ever_seen_right_beside_the_person_is_not_guessed():
    recording = StillRecording()
    plate = decode_frames(recording, recording.size, range(NUM_FRAMES)).latest_plate
    assert (plate[:, recording.stripe] == 255).all()
    assert (plate[41:, 49:79, 0] != 200).all()  # and nothing of him is left


def test_a_given_background_is_used_for_all():
    plate = np.full((SIZE, SIZE, 3), 17, np.uint8)
    frames = decode_frames(CutRecording(), SIZE, range(NUM_FRAMES), plate=plate)
    for index in (0, NUM_FRAMES - 1):
        np.testing.assert_allclose(frames.plate(index) * 255, 17, atol=1e-4)
    np.testing.assert_array_equal(frames.latest_plate, plate)


def test_frames_may_have_gaps():
    frames = decode_frames(CutRecording(), SIZE, [1, 2, CUT + 3])
    assert np.array_equal(frames.rgb(CUT + 3), CutRecording().frame(CUT + 3))
    for index, wall in ((2, WALLS[0]), (CUT + 3, WALLS[1])):
        behind = frames.target(index, generate_torso=True).behind.numpy() * 255
        assert np.abs(behind[:, :4] - wall).max() < 2


def test_behind_the_outline_of_a_person_the_background_is_as_light_as_beside_it():
    plate = np.full((SIZE, SIZE, 3), 17, np.uint8)  # of a wall that has since become lighter
    frames = decode_frames(CutRecording(), SIZE, range(NUM_FRAMES), plate=plate)
    behind = frames.target(0, generate_torso=True).behind.numpy() * 255
    person = frames.masks(0)[..., 3] > 0
    np.testing.assert_array_equal(behind[~person].round(), frames.rgb(0)[~person])
    np.testing.assert_allclose(behind[10:, [12, 19]], WALLS[0], atol=1)  # one pixel deep at this size
    np.testing.assert_allclose(behind[12:, 14:18], 17, atol=1)  # nobody sees it there


@pytest.mark.parametrize("ahead", [False, True])
def test_targets_are_those_of_the_frames_asked_for_whatever_was_begun(ahead):
    class Numbered:
        def target(self, index, *, generate_torso):
            return torch.tensor([index, int(generate_torso)])

    targets = TargetsAhead(Numbered(), generate_torso=True, device=torch.device("cpu"), ahead=ahead)
    asked = [(3, 4), (4, 7), (5, 6), (6, 6), (6, 1)]  # what follows may turn out otherwise
    assert [targets.take(*pair).tolist() for pair in asked] == [[index, 1] for index, _ in asked]
