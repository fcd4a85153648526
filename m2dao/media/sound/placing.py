"""Puts sound on a clock by its time stamps, judged over seconds and not piece by piece.

Recorders stamp sound when they get it, so stamps swing around the truth although no sample is missing. Only what lasts
is believed: a step that all pieces of the next seconds keep is a hole or an overlap; a slow drift is mended in small
steps, at quiet places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

WINDOW_S = 3.0  # stamps are judged over this much sound before and after
MIN_STEP_S = 0.018  # a lost packet of the shortest common kind
MIN_STEP_AT_END_S = 0.2  # where less than half a second follows, only this is believed
MAX_DRIFT_S = 0.04  # one picture
CLEAN_S = 0.01  # stamps that swing by less give the length of a hole exactly


@dataclass
class Piece:
    """A decoded piece of sound.

    Attributes:
        time_s: when it is due on the clock, None unknown.
        samples: float32 [C, S].
    """

    time_s: float | None
    samples: np.ndarray
    sample_rate: int
    error_s: float = 0.0  # its stamp against the running count of samples from the first piece on
    begin_s: float = 0.0  # the running count

    @property
    def length_s(self) -> float:
        return self.samples.shape[1] / self.sample_rate


@dataclass
class Mended:
    """What was put in and taken out, for the report: where (on the clock) and how long, in seconds."""

    holes: list[tuple[float, float]] = field(default_factory=list)
    overlaps: list[tuple[float, float]] = field(default_factory=list)
    drift_s: float = 0.0
    num_damaged: int = 0


def place(pieces: Iterable[Piece], start_s: float | None, mended: Mended) -> Iterator[Piece]:
    """Pieces without holes between them, from `start_s` on, or from the first piece if it is None.

    Sound before the start is cut; sound that begins later is preceded by silence.
    """
    placer = _Placer(start_s, mended)
    for piece in pieces:
        placer.waiting.append(placer.counted(piece))
        while placer.ahead_s > WINDOW_S:
            yield from placer.emit(at_end=False)
    while placer.waiting:
        yield from placer.emit(at_end=True)


class _Placer:
    def __init__(self, start_s: float | None, mended: Mended):
        self.start_s, self.mended = start_s, mended
        self.waiting: deque[Piece] = deque()
        self.before: deque[Piece] = deque()  # pieces put out since the last mend, at most WINDOW_S
        self.count_s = 0.0
        self.shift_s: float | None = None  # silence put in minus sound taken out
        self.bias_s = 0.0  # by how much the first stamp differs from its neighbours'
        self.owed_s = 0.0  # sound still to be cut

    @property
    def ahead_s(self) -> float:
        return self.count_s - self.waiting[0].begin_s if self.waiting else 0.0

    def counted(self, piece: Piece) -> Piece:
        piece.begin_s = self.count_s
        last = self.waiting[-1] if self.waiting else self.before[-1] if self.before else None
        if piece.time_s is not None:
            piece.error_s = piece.time_s - self.count_s
        elif last is not None:
            piece.error_s = last.error_s
        self.count_s += piece.length_s
        return piece

    def emit(self, *, at_end: bool) -> Iterator[Piece]:
        """The first waiting piece, after what it takes to bring it to its place."""
        piece = self.waiting[0]
        if self.shift_s is None:
            yield from self._begin(piece)
        else:
            yield from self._mend(piece, self._step(piece, at_end=at_end))
        self.waiting.popleft()
        self.before.append(piece)
        while piece.begin_s - self.before[0].begin_s > WINDOW_S:
            self.before.popleft()
        yield from self._cut(piece)

    def _begin(self, piece: Piece) -> Iterator[Piece]:
        if self.start_s is None:
            self.start_s = piece.error_s
        lead_s = piece.error_s - self.start_s
        self.shift_s = piece.error_s
        self.bias_s = float(np.median([later.error_s for later in self.waiting])) - piece.error_s
        if lead_s > 0:
            yield from _silence(piece, lead_s)
        self.owed_s = max(0.0, -lead_s)

    def _step(self, piece: Piece, *, at_end: bool) -> float:
        """By how much the stamps leave the count for good with this piece: positive for a hole."""
        assert self.shift_s is not None
        last = self.before[-1]
        due_s = self.shift_s + self.bias_s
        if abs(piece.error_s - last.error_s) > MIN_STEP_S:
            before = [earlier.error_s for earlier in self.before]
            after = [later.error_s for later in self.waiting]
            least_s = MIN_STEP_AT_END_S if at_end and self.ahead_s < 0.5 else MIN_STEP_S
            if min(after) - max(before) > least_s or min(before) - max(after) > least_s:
                if max(before) - min(before) < CLEAN_S:
                    return piece.error_s - float(np.median(before))
                near = [later.error_s for later in self.waiting if later.begin_s < piece.begin_s + 0.5]
                return float(np.median(near)) - due_s
        if int(piece.begin_s) != int(last.begin_s) and self.count_s - self.before[0].begin_s > 1.5 * WINDOW_S:
            drift_s = float(np.median([earlier.error_s for earlier in self.before])) - due_s
            ahead_s = float(np.median([later.error_s for later in self.waiting])) - due_s
            if min(abs(drift_s), abs(ahead_s)) > MAX_DRIFT_S and drift_s * ahead_s > 0:
                return self._at_quiet_place(piece, drift_s)
        return 0.0

    def _at_quiet_place(self, piece: Piece, drift_s: float) -> float:
        """The drift when this piece is quiet or drift is large; else none yet."""
        level = float(np.abs(piece.samples).mean())
        usual = float(np.mean([np.abs(earlier.samples).mean() for earlier in self.before]))
        if level > 0.3 * usual and abs(drift_s) < 2 * MAX_DRIFT_S:
            return 0.0
        self.mended.drift_s += drift_s
        return drift_s

    def _mend(self, piece: Piece, step_s: float) -> Iterator[Piece]:
        if not step_s:
            return
        assert self.shift_s is not None
        assert self.start_s is not None
        at_s = piece.begin_s + self.shift_s - self.start_s
        is_drift = abs(step_s) < 2.5 * MAX_DRIFT_S and abs(piece.error_s - self.before[-1].error_s) <= MIN_STEP_S
        self.shift_s += step_s
        if step_s > 0:
            if not is_drift:
                self.mended.holes.append((at_s, step_s))
            covered_s = min(self.owed_s, step_s)
            self.owed_s -= covered_s
            yield from _silence(piece, step_s - covered_s)
        else:
            if not is_drift:
                self.mended.overlaps.append((at_s, -step_s))
            self.owed_s -= step_s
        self.before.clear()

    def _cut(self, piece: Piece) -> Iterator[Piece]:
        num_cut = min(round(self.owed_s * piece.sample_rate), piece.samples.shape[1])
        self.owed_s = max(0.0, self.owed_s - num_cut / piece.sample_rate) if num_cut else self.owed_s
        if num_cut < piece.samples.shape[1]:
            yield Piece(piece.time_s, piece.samples[:, num_cut:], piece.sample_rate)


def _silence(like: Piece, length_s: float) -> Iterator[Piece]:
    """Silent pieces in the shape of `like`, at most a second each."""
    num_samples = round(length_s * like.sample_rate)
    while num_samples > 0:
        num_now = min(num_samples, like.sample_rate)
        yield Piece(None, np.zeros((like.samples.shape[0], num_now), np.float32), like.sample_rate)
        num_samples -= num_now
