"""What people watch: counts of what happened, and how long jobs wait. Nothing is decided by it.

Scripts count what they change (``scripts/tally.lua``), so a job that ends is counted once, whoever dies meanwhile. The
counts are those of the whole platform, since the state store began, and name no tenant.
"""

from __future__ import annotations

import contextlib

from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from m2dao.errors import M2daoError

ENDED = "ended"  # kind, "done" or "failed" or "cancelled", code of the error
PUT_OFF = "put_off"  # kind, code
RETRIED = "retried"  # kind, code
LEASES_LOST = "leases_lost"  # kind
FIT_MS = "fit_ms"  # stage: milliseconds that finished fits spent in it
MOVES = "moves"  # "promote" or "roll_back" or "challenge" or "clear", outcome
_WORDS = {ENDED: 3, PUT_OFF: 2, RETRIED: 2, LEASES_LOST: 1, FIT_MS: 1, MOVES: 2}


class Tallies:
    """The counts. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def read(self) -> dict[tuple[str, ...], int]:
        """What happened, such as ("ended", "render", "failed", "no-face") -> how often."""
        found = {tuple(name.split("|")): int(count) for name, count in self._link.hash(keys.TALLIES).items()}
        # What another release counts may look otherwise.
        return {words: count for words, count in found.items() if _WORDS.get(words[0]) == len(words) - 1}

    def longest_wait_s(self, kind: str) -> float:
        """The age of the oldest job of a kind that nobody has begun, in seconds; 0 when none waits."""
        return float(self._link.run(scripts.LONGEST_WAIT, [], [kind])) / 1e6

    def add(self, what: str, *words: str, num: int = 1) -> None:
        """Count something that no script does; not counted while the store is away or takes nothing."""
        if _WORDS[what] != len(words):
            raise TypeError(f"{what} is counted by {_WORDS[what]} words, not {len(words)}")
        with contextlib.suppress(M2daoError):
            self._link.call("HINCRBY", keys.TALLIES, "|".join((what, *words)), num)
