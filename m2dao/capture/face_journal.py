"""What a tracker found, frame by frame, kept in a file: a process that goes on with a killed one's work need not look again.

Shapes: rows of 1,493 numbers, one for each frame a tracker was given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m2dao.capture.face_models import BLENDSHAPE_NAMES
from m2dao.capture.faces import FaceObservation, FaceTracker
from m2dao.media.video import Frame

_NUM_LANDMARKS = 478
_LANDMARKS = slice(7, 7 + 3 * _NUM_LANDMARKS)  # after: found, score, box, number of faces (negative: not counted)
_ROW_SIZE = _LANDMARKS.stop + len(BLENDSHAPE_NAMES)
_ROW_BYTES = 4 * _ROW_SIZE


class RememberingTracker:
    """A tracker that notes every finding before it tells it, and starts with what is noted already.

    It gives what a tracker gives that was never interrupted: all that tracking carries from frame to frame is where the
    last face was and how many frames there were.

    Args:
        tracker: a new one.
        path: of the journal; whole rows that it holds are believed.
    """

    def __init__(self, tracker: FaceTracker, path: Path):
        self._tracker = tracker
        path.touch()
        self._num_known = path.stat().st_size // _ROW_BYTES
        self._file = path.open("r+b")
        self._file.truncate(self._num_known * _ROW_BYTES)  # the row that was being written
        self._num_told = 0

    def __call__(self, frame: Frame) -> FaceObservation | None:
        """The face in the tracker's next frame."""
        if self._num_told < self._num_known:
            found = _observation(np.frombuffer(self._file.read(_ROW_BYTES), np.float32))
            self._num_told += 1
            if self._num_told == self._num_known:
                self._tracker.go_on(self._num_known, found)
            return found
        found = self._tracker.track(frame.rgb)
        self._file.write(_row(found).tobytes())
        self._file.flush()
        return found

    def close(self) -> None:
        """Close the journal."""
        self._file.close()


def _row(found: FaceObservation | None) -> np.ndarray:
    row = np.zeros(_ROW_SIZE, np.float32)
    if found is not None:
        counted = -1 if found.num_faces is None else found.num_faces
        row[:7] = 1, found.score, *found.box, counted
        row[_LANDMARKS] = found.landmarks.ravel()
        row[_LANDMARKS.stop :] = found.blendshapes
    return row


def _observation(row: np.ndarray) -> FaceObservation | None:
    if not row[0]:
        return None
    return FaceObservation(
        landmarks=row[_LANDMARKS].reshape(_NUM_LANDMARKS, 3),
        blendshapes=row[_LANDMARKS.stop :],
        score=float(row[1]),
        box=tuple(float(side) for side in row[2:6]),
        num_faces=None if row[6] < 0 else int(row[6]),
    )
