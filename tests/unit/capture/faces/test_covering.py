"""A hand before the face is seen, a face that moves is not taken for one."""

import cv2
import numpy as np
import pytest

from m2dao.capture.faces.covering import covered_share, face_patch
from m2dao.capture.faces.tracker import FaceTracker
from tests.support.recordings import SIDE, moved, portrait

HIDDEN = range(20, 25)


@pytest.fixture(scope="module")
def faces():
    """Pictures [30] of a swaying head and the landmarks in each."""
    tracker = FaceTracker()
    pictures = [moved(portrait(), index / 5) for index in range(30)]
    return pictures, [tracker.track(picture).landmarks for picture in pictures]


def shares(pictures, landmarks):
    return covered_share(np.stack([face_patch(*pair) for pair in zip(pictures, landmarks, strict=True)]))


def test_a_face_that_moves_is_never_covered(faces):
    assert shares(*faces).max() < 0.05


@pytest.mark.parametrize("color", [(150, 100, 80), (20, 20, 25)])
def test_a_hand_or_a_microphone_is_found_in_the_frames_it_is_in(faces, color):
    pictures, landmarks = [picture.copy() for picture in faces[0]], faces[1]
    for index in HIDDEN:
        x, y = landmarks[index][152, :2]
        cv2.ellipse(pictures[index], (int(x), int(y)), (SIDE // 8, SIDE // 5), 15, 0, 360, color, -1)
    found = shares(pictures, landmarks)
    assert found[list(HIDDEN)].min() > 0.1
    assert np.delete(found, HIDDEN).max() < 0.05
