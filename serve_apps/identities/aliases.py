"""From what a client asks for (``anna``, ``anna@champion``, ``anna@7``) to one pinned model ref.

Aliases move when a version is promoted, so they are resolved once, when a render is created, and the pinned ref is
kept with the render. The resolved alias is kept for a short time: a message ("champion" topic) drops it at once, and
``ttl_s`` bounds how long a lost message can matter.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.ids import AliasRef, IdentityName, ModelRef, TenantId
from m2dao.errors import InvalidId, NotFound, UnknownIdentity
from serve_apps.problems import ApiProblem

_MAX_ENTRIES = 4096


class ResolvesRefs(Protocol):
    """The part of ``cluster.registry.Registry`` that is used here."""

    def resolve(self, ref: AliasRef | ModelRef) -> ModelRef:
        """The pinned ref; ``UnknownIdentity`` when there is none."""


def parse_identity(text: str, tenant: TenantId) -> ModelRef | AliasRef:
    """What a client of ``tenant`` means by ``text``.

    ``anna`` and ``acme.anna`` mean the champion. A ref that names another tenant gets the answer that a missing
    identity gets, whether that tenant exists or not.

    Raises:
        ApiProblem: ``unknown-identity`` for another tenant's, ``invalid-request`` for malformed text.
    """
    name, at, version = text.partition("@")
    owner, dot, identity = name.rpartition(".")
    try:
        if dot and TenantId.parse(owner) != tenant:
            raise unknown_identity()
        who = IdentityName.parse(identity)
        if not at:
            return AliasRef(tenant, who)
        whole = f"{tenant}.{who}@{version}"
        return ModelRef.parse(whole) if version[:1].isdigit() else AliasRef.parse(whole)
    except InvalidId as error:
        fault = {"field": "identity", "detail": str(error)}
        raise ApiProblem("invalid-request", "identity is not well formed", errors=[fault]) from error


def unknown_identity() -> ApiProblem:
    """The answer for an identity that is not there, or not the caller's; always the same."""
    return ApiProblem("unknown-identity", "no identity, version or alias of that name")


@dataclass(frozen=True)
class _Known:
    until: float
    ref: ModelRef | None  # None: there is no such identity


class RefResolver:
    """Resolves refs through a cache.

    Args:
        registry: who knows.
        ttl_s: how long an answer is used; also how late a promotion is seen when its message is lost.
        unknown_ttl_s: how long "there is no such identity" is used.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        registry: ResolvesRefs,
        *,
        ttl_s: float = 10.0,
        unknown_ttl_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._registry = registry
        self._ttl_s = ttl_s
        self._unknown_ttl_s = unknown_ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[ModelRef | AliasRef, _Known] = OrderedDict()
        self._generation = 0

    def resolve(self, ref: ModelRef | AliasRef) -> ModelRef:
        """The pinned ref of ``ref``; a pinned ref is checked to exist.

        Raises:
            UnknownIdentity: there is none.
        """
        with self._lock:
            known = self._known.get(ref)
            generation = self._generation
        if known is None or known.until <= self._clock():
            known = self._ask(ref, generation)
        if known.ref is None:
            raise UnknownIdentity(f"identity {ref}", "a registered version", "none")
        return known.ref

    def forget(self, registry_name: str | None = None) -> None:
        """Drop what is known about one identity (``acme.anna``), or everything."""
        with self._lock:
            self._generation += 1
            for ref in [r for r in self._known if registry_name is None or r.registry_name == registry_name]:
                del self._known[ref]

    def _ask(self, ref: ModelRef | AliasRef, generation: int) -> _Known:
        try:
            pinned: ModelRef | None = self._registry.resolve(ref)
        except NotFound:
            pinned = None
        known = _Known(self._clock() + (self._ttl_s if pinned else self._unknown_ttl_s), pinned)
        with self._lock:
            # An answer that was on its way while the alias moved may be the old one: used once, not kept.
            if generation == self._generation:
                self._known[ref] = known
                self._known.move_to_end(ref)
                while len(self._known) > _MAX_ENTRIES:
                    self._known.popitem(last=False)
        return known


def forget_moved(resolver: RefResolver, message: dict[str, Any]) -> None:
    """Drop the alias that a promotion moved; everything, when messages may have been missed."""
    known = bool(message.get("tenant") and message.get("identity"))
    resolver.forget(f"{message['tenant']}.{message['identity']}" if known else None)
