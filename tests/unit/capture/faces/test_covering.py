"""A hand before the face is seen, a face that moves is not taken for one."""

import cv2
import numpy as np
import pytest

from m2dao.capture.faces.covering import covered_share, face_patch, glare_share, is_frontal
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


def test_foam_as_light_as_the_skin_is_found_by_its_colour(faces):
    pictures, landmarks = [picture.copy() for picture in faces[0]], faces[1]
    for index in HIDDEN:
        x, y = landmarks[index][152, :2]
        hidden = np.zeros(pictures[index].shape[:2], np.uint8)
        cv2.ellipse(hidden, (int(x), int(y)), (SIDE // 8, SIDE // 5), 15, 0, 360, 255, -1)
        lab = cv2.cvtColor(pictures[index], cv2.COLOR_RGB2LAB)
        lab[hidden > 0, 1:] -= 13  # grey foam before dark skin: hardly another colour
        pictures[index] = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    found = shares(pictures, landmarks)
    assert found[list(HIDDEN)].min() > 0.1
    assert np.delete(found, HIDDEN).max() < 0.05


def test_lids_that_stay_closed_cover_nothing_and_a_lamp_in_glasses_is_glare(faces):
    pictures, landmarks = [picture.copy() for picture in faces[0]], faces[1]
    for index in HIDDEN:
        cheek = pictures[index][tuple(landmarks[index][[50], 1::-1].astype(int)[0])].astype(int)
        for eye in ((33, 133), (263, 362)):
            x, y = landmarks[index][list(eye), :2].mean(axis=0)
            axes = (SIDE // 24, SIDE // 34)
            cv2.ellipse(pictures[index], (int(x), int(y)), axes, 0, 0, 360, (0.9 * cheek).tolist(), -1)
    blinking = np.stack([face_patch(*pair) for pair in zip(pictures, landmarks, strict=True)])
    assert covered_share(blinking).max() < 0.05
    assert glare_share(blinking).max() < 0.01
    for index in HIDDEN:
        x, y = landmarks[index][[33, 133], :2].mean(axis=0)
        cv2.ellipse(pictures[index], (int(x), int(y)), (SIDE // 20, SIDE // 26), 0, 0, 360, (252, 252, 255), -1)
    found = glare_share(np.stack([face_patch(*pair) for pair in zip(pictures, landmarks, strict=True)]))
    assert found[list(HIDDEN)].min() > 0.04
    assert np.delete(found, HIDDEN).max() < 0.01


def test_a_face_that_is_turned_away_is_not_compared(faces):
    landmarks = faces[1][0]
    assert is_frontal(landmarks)
    aside = landmarks.copy()
    aside[:, 0] += 2.0 * (landmarks[:, 2] - landmarks[[33, 263], 2].mean())  # as from the side
    assert not is_frontal(aside)
