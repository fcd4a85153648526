"""Tracks where there is speech and how loud it is, from the past alone.

Room noise and silence must give one and the same feature row, or the mouth of an identity twitches in every pause.
And a quiet microphone must give the same rows as a loud one. Both need a noise floor and a speech level; both are
followed row by row, because no feature may look at the whole clip.
"""

from __future__ import annotations

import math

ROW_S = 0.01  # the tracker runs at 100 rows per second

FLOOR_START_RANGE_DB = (-75.0, -48.0)  # the first row sets the floor within this range: speech may start at once
FLOOR_RISE_DB_PER_ROW = 4.0 * ROW_S
FLOOR_FALL = 0.2  # part of the way down in one row
LEVEL_START_DB = -26.0
LEVEL_ROWS = 300.0  # time constant of the speech level, in rows of speech
SPEECH_ABOVE_FLOOR_DB = 8.0
SPEECH_BELOW_LEVEL_DB = 45.0
SPEECH_RAMP_DB = 6.0  # the gate opens over this range around the threshold
ABSOLUTE_SILENCE_DB = -66.0
# Short pauses stay open: the closure inside "apa" and a breath belong to the speech around them, and what is heard
# there predicts the lips. Closing at once cost a fifth of the predicted variance on real recordings.
HOLD_ROWS = 30
CLOSE_ROWS = 20


class VoiceTracker:
    """Follows one signal, one row at a time.

    Attributes:
        gate: 0 in silence or noise, 1 in speech, soft between.
        level_db: loudness of the speech so far, dB relative to full scale.
    """

    def __init__(self) -> None:
        self.gate = 0.0
        self.level_db = LEVEL_START_DB
        self._floor_db: float | None = None
        self._rows_since_speech = HOLD_ROWS + CLOSE_ROWS

    def update(self, power: float) -> float:
        """Take the mean power of the next row (full scale = 1) and return the gate after it."""
        energy_db = 10.0 * math.log10(max(power, 1e-12))
        if self._floor_db is None:
            low, high = FLOOR_START_RANGE_DB
            self._floor_db = min(max(energy_db, low), high)
        above_db = energy_db - self._floor_db
        self._floor_db += FLOOR_FALL * above_db if above_db < 0 else min(above_db, FLOOR_RISE_DB_PER_ROW)
        threshold_db = max(
            self._floor_db + SPEECH_ABOVE_FLOOR_DB, self.level_db - SPEECH_BELOW_LEVEL_DB, ABSOLUTE_SILENCE_DB
        )
        # A ramp and not a sigmoid: exactly closed below it, so that silence is one row and not many.
        open_now = min(max(0.5 + (energy_db - threshold_db) / SPEECH_RAMP_DB, 0.0), 1.0)
        if open_now > 0.5:
            self.level_db += (energy_db - self.level_db) / LEVEL_ROWS
            self._rows_since_speech = 0
        else:
            self._rows_since_speech += 1
        closing = 1.0 - (self._rows_since_speech - HOLD_ROWS) / CLOSE_ROWS
        self.gate = max(open_now, min(max(closing, 0.0), 1.0))
        return self.gate
