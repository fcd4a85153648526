"""Listens for moved champions, for as long as the process lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from cluster.state.champions import TOPIC
from cluster.state.probes import TOPIC as PROBE_TOPIC
from cluster.state.store import StateStore
from m2dao.errors import M2daoError

log = logging.getLogger(__name__)
_WAIT_S = 1.0


class ChampionWatch:
    """A thread that tells ``on_change`` of promotions and ``on_probe`` of versions to be probed.

    Messages can be lost, so ``on_change`` is also called with an empty message whenever listening begins (again):
    what was known before then may be old.
    """

    def __init__(
        self,
        state: StateStore,
        *,
        on_change: Callable[[dict[str, Any]], None],
        on_probe: Callable[[dict[str, Any]], None],
    ):
        self._state = state
        self._calls = {TOPIC: on_change, PROBE_TOPIC: on_probe}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion-watch", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except M2daoError as error:
                log.warning("not listening for promotions", extra={"error": str(error)})
                self._stop.wait(_WAIT_S)

    def _listen(self) -> None:
        with self._state.events.subscribe(*self._calls) as messages:
            self._tell(TOPIC, {})
            while not self._stop.is_set():
                message = messages.get(_WAIT_S)
                if message is not None:
                    self._tell(*message)

    def _tell(self, topic: str, message: dict[str, Any]) -> None:
        try:
            self._calls[topic](message)
        except Exception:  # a bad message or a failed prefetch must not end the listening
            log.exception("a promotion could not be followed")
