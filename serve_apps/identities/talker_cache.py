"""The identity cache of one replica: talkers by pinned model ref, under a byte budget.

Three tiers: the object store (``fetch``), a folder on the node's disk named by content hash and shared by every
replica of the node (``node_cache.py``), and this cache in memory. Ray Serve's own multiplex cache is not used for
this: it counts models instead of bytes, evicts before it knows that the new model exists, loads one model at a time,
and calls ``__del__`` on models that a request still uses.

What this cache promises:

- A lease pins its talker: an open render keeps the talker it started with, whatever is evicted meanwhile.
- The pinned and the kept talkers together never need more than ``byte_budget`` bytes.
- One load per model ref at a time; everybody else waits for that load. Loads of different refs run side by side.
- An unknown or corrupt identity evicts nobody (it is checked before room is made) and is not asked for again for
  ``negative_ttl_s``.
- Nothing here has a finaliser; memory goes with the last reference.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.ids import IdentityName, ModelRef, TenantId
from m2dao.errors import ConfigError, InputError, M2daoError, NotFound, ObjectCorrupt, ServiceUnavailable, SystemFault


class PreparedIdentity(Protocol):
    """An identity that exists and is intact on this node, but is not in memory yet."""

    @property
    def num_bytes(self) -> int:
        """The room to keep for it; more than it will need."""

    def load(self) -> Any:
        """Bring the talker into memory. What it returns tells its ``num_bytes``."""


@dataclass
class _Entry:
    talker: Any
    num_bytes: int
    num_leases: int = 0


@dataclass
class _Load:
    """A load in flight; waiters sleep on ``done`` and read one of the two results."""

    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


@dataclass(frozen=True, kw_only=True)
class CacheFigures:
    """What the cache has done so far."""

    hits: int
    cold_loads: int
    evictions: int
    resident: int
    resident_bytes: int
    reserved_bytes: int


class TalkerCache:
    """Talkers in memory, leased to renders.

    Args:
        prepare: a context in which an identity is known to exist, to be intact and to stay on this node's disk. It
            may take long: no lock is held. An ``InputError``, ``NotFound`` or ``ObjectCorrupt`` that it raises is
            remembered for ``negative_ttl_s``; other errors are not.
        byte_budget: bytes that talkers may use together.
        negative_ttl_s: how long a refusal is repeated without asking again.
        room_timeout_s: how long a load waits for leases to end when everything in memory is pinned.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        prepare: Callable[[ModelRef], AbstractContextManager[PreparedIdentity]],
        *,
        byte_budget: int,
        negative_ttl_s: float = 5.0,
        room_timeout_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        if byte_budget <= 0:
            raise ConfigError("talker cache", "a positive byte budget", str(byte_budget))
        self._prepare = prepare
        self._byte_budget = byte_budget
        self._negative_ttl_s = negative_ttl_s
        self._room_timeout_s = room_timeout_s
        self._clock = clock
        self._changed = threading.Condition()
        self._entries: OrderedDict[ModelRef, _Entry] = OrderedDict()  # least recently used first
        self._detached_bytes = 0  # discarded while leased: still in memory until the lease ends
        self._loading_bytes = 0  # room promised to loads in flight
        self._loads: dict[ModelRef, _Load] = {}
        self._refused: dict[ModelRef, tuple[float, Exception]] = {}
        self._hits = self._cold_loads = self._evictions = 0

    @contextmanager
    def lease(self, ref: ModelRef) -> Iterator[Any]:
        """The talker of ``ref``, kept in memory until the block ends.

        Raises:
            UnknownIdentity, ObjectCorrupt, CheckpointCorrupt, CheckpointUnsupported: from ``prepare`` or the load.
            ConfigError: the identity alone needs more than the byte budget.
            ServiceUnavailable: everything in memory stayed leased for ``room_timeout_s``.
        """
        entry = self._pin(ref)
        try:
            yield entry.talker
        finally:
            self._unpin(ref, entry)

    def prefetch(self, ref: ModelRef) -> None:
        """Bring ``ref`` into memory without using it, e.g. because it has just become the champion."""
        self._unpin(ref, self._pin(ref))

    def discard(self, ref: ModelRef) -> None:
        """Forget ``ref``. A render that has it leased keeps it; the memory goes when that lease ends."""
        with self._changed:
            entry = self._entries.pop(ref, None)
            if entry is None:
                return
            self._evictions += 1
            if entry.num_leases:
                self._detached_bytes += entry.num_bytes
            self._changed.notify_all()

    def resident(self) -> list[ModelRef]:
        """The refs in memory, least recently used first."""
        with self._changed:
            return list(self._entries)

    def figures(self) -> CacheFigures:
        """Counters since the start, and what is held now."""
        with self._changed:
            resident_bytes = sum(entry.num_bytes for entry in self._entries.values())
            return CacheFigures(
                hits=self._hits,
                cold_loads=self._cold_loads,
                evictions=self._evictions,
                resident=len(self._entries),
                resident_bytes=resident_bytes,
                reserved_bytes=resident_bytes + self._detached_bytes + self._loading_bytes,
            )

    def _pin(self, ref: ModelRef) -> _Entry:
        while True:
            with self._changed:
                entry = self._entries.get(ref)
                if entry is not None:
                    self._hits += 1
                    self._entries.move_to_end(ref)
                    entry.num_leases += 1
                    return entry
                self._raise_if_refused(ref)
                load = self._loads.get(ref)
                if load is None:
                    mine = self._loads[ref] = _Load()
            if load is None:
                return self._load(ref, mine)
            load.done.wait()
            if isinstance(load.error, Exception):
                raise _fresh(load.error)
            # Loaded by somebody else: take it on the next turn (or load it, if it is gone again or they were stopped).

    def _unpin(self, ref: ModelRef, entry: _Entry) -> None:
        with self._changed:
            entry.num_leases -= 1
            if entry.num_leases == 0 and self._entries.get(ref) is not entry:
                self._detached_bytes -= entry.num_bytes
            self._changed.notify_all()

    def _raise_if_refused(self, ref: ModelRef) -> None:
        refused = self._refused.get(ref)
        if refused is None:
            return
        until, error = refused
        if self._clock() < until:
            raise _fresh(error)
        del self._refused[ref]

    def _load(self, ref: ModelRef, load: _Load) -> _Entry:
        """Load ``ref`` on this thread and hand it out pinned once."""
        reserved = 0
        try:
            with self._prepare(ref) as prepared:
                self._make_room(ref, prepared.num_bytes)
                reserved = prepared.num_bytes
                talker = prepared.load()
            entry = _Entry(talker=talker, num_bytes=talker.num_bytes, num_leases=1)
        except BaseException as error:
            load.error = error
            with self._changed:
                self._loading_bytes -= reserved
                if isinstance(error, (InputError, SystemFault, NotFound, ObjectCorrupt)):
                    self._remember_refusal(ref, error)
                self._finish(ref, load)
            raise
        with self._changed:
            self._loading_bytes -= reserved
            self._entries[ref] = entry
            self._cold_loads += 1
            self._finish(ref, load)
        return entry

    def _finish(self, ref: ModelRef, load: _Load) -> None:
        del self._loads[ref]
        load.done.set()
        self._changed.notify_all()

    def _remember_refusal(self, ref: ModelRef, error: Exception) -> None:
        now = self._clock()
        # Kept short by dropping what has expired: ids come from clients, so the table must not grow with them.
        self._refused = {known: entry for known, entry in self._refused.items() if entry[0] > now}
        self._refused[ref] = (now + self._negative_ttl_s, _fresh(error))

    def _make_room(self, ref: ModelRef, num_bytes: int) -> None:
        """Reserve ``num_bytes``, evicting talkers that nobody has leased, least recently used first."""
        if num_bytes > self._byte_budget:
            raise ConfigError(
                f"identity {ref}",
                f"at most {self._byte_budget} bytes, the budget of a replica",
                f"{num_bytes} bytes",
                "raise M2DAO_SERVE_TALKER_BUDGET_MB",
            )
        with self._changed:
            if not self._changed.wait_for(lambda: self._evict_for(num_bytes), timeout=self._room_timeout_s):
                raise ServiceUnavailable(
                    f"room for identity {ref}",
                    f"{num_bytes} bytes free of {self._byte_budget}",
                    f"everything in memory leased for {self._room_timeout_s:g} s",
                    "try again, or raise M2DAO_SERVE_TALKER_BUDGET_MB",
                )
            self._loading_bytes += num_bytes

    def _evict_for(self, num_bytes: int) -> bool:
        """Evict until ``num_bytes`` fit; evicts nobody when that cannot be reached yet."""
        held = sum(entry.num_bytes for entry in self._entries.values()) + self._detached_bytes + self._loading_bytes
        missing = held + num_bytes - self._byte_budget
        victims = []
        for ref, entry in self._entries.items():
            if missing <= 0:
                break
            if not entry.num_leases:
                victims.append(ref)
                missing -= entry.num_bytes
        if missing > 0:
            return False
        for ref in victims:
            del self._entries[ref]
            self._evictions += 1
        return True


def _fresh(error: Exception) -> Exception:
    """The same error without the frames it was raised through: keeping it keeps nothing alive."""
    return copy.copy(error) if isinstance(error, M2daoError) else error


def keep_warm(talkers: TalkerCache, message: dict[str, Any]) -> None:
    """Load a new champion before it is asked for, where another version of the identity is in memory."""
    if not message or message["version"] is None:
        return
    ref = ModelRef(TenantId(message["tenant"]), IdentityName(message["identity"]), message["version"])
    if any(known.registry_name == ref.registry_name for known in talkers.resident()):
        talkers.prefetch(ref)
