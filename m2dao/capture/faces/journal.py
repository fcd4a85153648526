"""Keeps what a tracker found in a file, so that a resumed call need not look again.

Shapes: rows of 1,493 numbers, one for each frame a tracker was given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m2dao.capture.faces.models import BLENDSHAPE_NAMES
from m2dao.capture.faces.tracker import FaceObservation, FaceTracker
from m2dao.errors import M2daoError
from m2dao.media.video import Frame
from m2dao.regions import NUM_LANDMARKS

_LANDMARKS = slice(7, 7 + 3 * NUM_LANDMARKS)  # after: mark, score, box, number of faces (negative: not counted)
_ROW_SIZE = _LANDMARKS.stop + len(BLENDSHAPE_NAMES)
ROW_BYTES = 4 * _ROW_SIZE
_FOUND, _NONE = 1, 2  # marks of rows; any other is no row that was ever written


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
        self._num_known = _num_rows(path)
        self._file = path.open("r+b")
        self._file.truncate(self._num_known * ROW_BYTES)  # the row that was being written
        self._num_told = 0

    def __call__(self, frame: Frame) -> FaceObservation | None:
        """The face in the tracker's next frame."""
        if self._num_told < self._num_known:
            found = _observation(np.frombuffer(self._file.read(ROW_BYTES), np.float32))
            self._num_told += 1
            if self._num_told == self._num_known:
                self._tracker.go_on(self._num_known, found)
            return found
        found = self._tracker.track(frame.rgb)
        try:
            self._file.write(_row(found).tobytes())
            self._file.flush()
        except OSError as error:
            raise M2daoError(self._file.name, "room to write it", str(error), "free some disk space") from error
        return found

    def close(self) -> None:
        """Close the journal."""
        self._file.close()


def _num_rows(path: Path) -> int:
    """Whole rows at the start of a journal."""
    num = path.stat().st_size // ROW_BYTES
    if not num:
        return 0
    marks = np.memmap(path, np.float32, mode="r", shape=(num, _ROW_SIZE))[:, 0]
    odd = np.flatnonzero((marks != _FOUND) & (marks != _NONE))
    return int(odd[0]) if len(odd) else num


def _row(found: FaceObservation | None) -> np.ndarray:
    row = np.zeros(_ROW_SIZE, np.float32)
    row[0] = _NONE
    if found is not None:
        counted = -1 if found.num_faces is None else found.num_faces
        row[:7] = _FOUND, found.score, *found.box, counted
        row[_LANDMARKS] = found.landmarks.ravel()
        row[_LANDMARKS.stop :] = found.blendshapes
    return row


def _observation(row: np.ndarray) -> FaceObservation | None:
    if row[0] == _NONE:
        return None
    left, top, right, bottom = (float(side) for side in row[2:6])
    return FaceObservation(
        landmarks=row[_LANDMARKS].reshape(NUM_LANDMARKS, 3),
        blendshapes=row[_LANDMARKS.stop :],
        score=float(row[1]),
        box=(left, top, right, bottom),
        num_faces=None if row[6] < 0 else int(row[6]),
    )
