"""Phones to mouth controls, with coarticulation.

Every phone has a target for each mouth control and a dominance that falls off around it; the mouth is at the average of
all targets weighted by dominance (Cohen and Massaro, "Modeling coarticulation in synthetic visual speech", 1993,
section 4). Closing for m, b and p dominates everything else, and is held for at least one video frame.
"""

from __future__ import annotations

import numpy as np

from m2dao.timeline import FRAME_RATE
from m2dao.tts import Phone

MOUTH = ("jaw", "seal", "press", "pucker", "wide", "upper_raise", "lower_drop", "tuck", "tongue")
BILABIALS = frozenset("mbp")

# symbols: dominance, reach in seconds, then targets of MOUTH in order
_TABLE = {
    "": (1.1, 0.060, (0.00, 1.0, 0.00, 0.00, 0.00, 0.0, 0.00, 0.0, 0.0)),
    "mbp": (14.0, 0.020, (0.12, 1.0, 0.75, 0.05, 0.00, 0.0, 0.00, 0.0, 0.1)),
    "fv": (6.0, 0.026, (0.16, 0.5, 0.00, 0.00, 0.12, 0.3, 0.00, 1.0, 0.1)),
    "w": (4.0, 0.045, (0.16, 0.0, 0.00, 0.95, 0.00, 0.0, 0.05, 0.0, 0.1)),
    "ɹ": (1.8, 0.040, (0.20, 0.0, 0.00, 0.50, 0.00, 0.1, 0.20, 0.0, 0.5)),
    "ʃʒʧʤ": (3.2, 0.035, (0.14, 0.0, 0.00, 0.60, 0.00, 0.5, 0.50, 0.0, 0.6)),
    "szj": (1.6, 0.030, (0.12, 0.0, 0.00, 0.00, 0.45, 0.3, 0.40, 0.0, 0.6)),
    "tdnlTɾ": (1.1, 0.026, (0.22, 0.0, 0.00, 0.00, 0.20, 0.2, 0.20, 0.0, 1.0)),
    "θð": (2.0, 0.030, (0.24, 0.0, 0.00, 0.00, 0.15, 0.2, 0.20, 0.0, 0.9)),
    "kɡŋh": (0.5, 0.030, (0.30, 0.0, 0.00, 0.00, 0.15, 0.1, 0.10, 0.0, 0.1)),
    "iɪ": (1.4, 0.045, (0.24, 0.0, 0.00, 0.00, 0.85, 0.3, 0.30, 0.0, 0.5)),
    "AɛY": (1.5, 0.045, (0.46, 0.0, 0.00, 0.00, 0.60, 0.4, 0.30, 0.0, 0.3)),
    "æIW": (1.7, 0.050, (0.72, 0.0, 0.00, 0.00, 0.40, 0.4, 0.30, 0.0, 0.1)),
    "ɑaʌɒ": (1.6, 0.050, (0.74, 0.0, 0.00, 0.05, 0.05, 0.2, 0.30, 0.0, 0.0)),
    "ɔOQ": (1.8, 0.050, (0.52, 0.0, 0.00, 0.62, 0.00, 0.0, 0.10, 0.0, 0.0)),
    "uʊ": (2.0, 0.050, (0.22, 0.0, 0.00, 0.92, 0.00, 0.0, 0.05, 0.0, 0.1)),
    "əᵊɜɚɐᵻ": (0.8, 0.040, (0.32, 0.0, 0.00, 0.12, 0.12, 0.2, 0.20, 0.0, 0.2)),
}
_PHONES = {symbol: row for symbols, row in _TABLE.items() for symbol in (symbols or ("",))}
_OTHER = (
    0.4,
    0.035,
    (0.25, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.0, 0.2),
)  # length marks and rare symbols follow their neighbours
_UNSTRESSED = 0.82
_ANTICIPATION_S = 0.03  # lips are on their way before the sound is heard


def mouth_track(phones: tuple[Phone, ...], num_frames: int) -> np.ndarray:
    """Mouth controls for every video frame.

    Args:
        phones: with their times.
        num_frames: length T.

    Returns:
        f64 [T, len(MOUTH)], 0..1.
    """
    # The middle of each frame, on the clock of the sound that the lips are ahead of.
    times = (np.arange(num_frames) + 0.5) / FRAME_RATE + _ANTICIPATION_S
    total = np.full((num_frames, 1), 1e-3)
    rest = np.array(_PHONES[""][2])
    track = 1e-3 * np.tile(rest, (num_frames, 1))
    jaw = MOUTH.index("jaw")
    for phone in phones:
        dominance, reach, shape = _PHONES.get(phone.symbol, _OTHER)
        targets: np.ndarray = np.array(shape)
        if dominance < 3.0 and not phone.stressed:
            targets = targets * np.where(np.arange(len(targets)) == jaw, _UNSTRESSED, 1.0)
        away = np.maximum(np.maximum(phone.start_s - times, times - phone.end_s), 0.0)
        weight = (dominance * np.exp(-((away / reach) ** 1.5)))[:, None]
        track += weight * targets
        total += weight
    track /= total
    return np.clip(_hold_closures(track, phones), 0.0, 1.0)


def closure_frame(phone: Phone) -> int:
    """The video frame in which the lips are closed for an m, b or p."""
    return int((0.5 * (phone.start_s + phone.end_s) - _ANTICIPATION_S) * FRAME_RATE)


def _hold_closures(track: np.ndarray, phones: tuple[Phone, ...]) -> np.ndarray:
    """Close the lips fully in the middle frame of every m, b and p, however short."""
    closed = np.array(_PHONES["m"][2])
    keep = [MOUTH.index(name) for name in ("pucker", "wide", "tongue")]
    track = track.copy()
    for phone in phones:
        if phone.symbol not in BILABIALS:
            continue
        first = int(np.ceil((phone.start_s - _ANTICIPATION_S) * FRAME_RATE))
        last = int(np.floor((phone.end_s - _ANTICIPATION_S) * FRAME_RATE)) - 1  # the last one that lies wholly inside
        middle = closure_frame(phone)
        for frame in {middle, *range(first, last + 1)} if phone.end_s - phone.start_s > 0.07 else {middle}:
            if 0 <= frame < len(track):
                kept = track[frame, keep]
                track[frame] = closed
                track[frame, keep] = kept * 0.7
    return track
