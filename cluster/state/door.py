"""Who may come in: key and scope, rate, uploads at once and a place in the queue, asked in one step.

An upload takes a *place* before its body is read. A place counts as an open render until the render is queued or the
upload is given up, so a tenant cannot send a hundred bodies into the last free place. Its holder renews the place
while the upload lives. A place whose holder died is free again after ``Terms.place_s``.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from cluster.ids import IdentityName, TenantId
from cluster.state import keys, scripts
from cluster.state.accounts import Accounts
from cluster.state.link import new_nonce
from cluster.state.new_jobs import Place, idempotency_digest
from cluster.state.people.principals import Needed, Principal, scopes_of
from m2dao.errors import M2daoError

logger = logging.getLogger(__name__)

_REHASHES = 3


class Verdict(StrEnum):
    """What the door says."""

    IN = "in"
    UNKNOWN = "unknown"  # the key is no key, was revoked, or has ended
    FORBIDDEN = "forbidden"  # the key lacks the scope, or a client token is for something else
    WRONG_ORIGIN = "wrong-origin"  # the client token belongs to pages of another origin
    TOO_OFTEN = "too-often"
    BUSY = "busy"  # as many uploads at once as a tenant may have
    FULL = "full"  # as many open renders as a tenant may have
    CLOSED = "closed"  # under maintenance, where an upload would add a render


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a tenant may do.

    Args:
        rate: requests a second, each of cost 1.
        burst: requests at once, after a pause.
        uploads: uploads that are received and decoded at the same time.
        open_renders: renders queued and running, with the places of uploads.
        place_s: how long a place lasts that is neither renewed nor given back.
        renew_s: between renewals of a place.
    """

    rate: float
    burst: float
    uploads: int
    open_renders: int
    place_s: float = 30.0
    renew_s: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The verdict about one request.

    Args:
        verdict: whether it may come in, or why not.
        principal: whose request it is; None when the key is unknown.
        wait_s: after how many seconds a tenant that came too often may come again.
        left: requests that the tenant may make at once from now on.
    """

    verdict: Verdict
    principal: Principal | None
    wait_s: float
    left: float = 0.0


def place_of(name: str, idempotency_key: str | None) -> Place:
    """The place of an upload; uploads under one key share one, for they add one render together."""
    return Place(name, name if idempotency_key is None else idempotency_digest("render", idempotency_key))


class _Link(Protocol):
    async def run(self, script: str, keys: list[str], args: list[Any]) -> Any: ...

    async def call(self, *command: Any) -> Any: ...

    async def close(self) -> None: ...


class Door:
    """Lets requests in. Every method raises ``StateUnavailable`` when Redis does not answer."""

    def __init__(self, link: _Link, accounts: Accounts, terms: Terms):
        self._link, self._accounts, self._terms = link, accounts, terms

    async def enter(
        self,
        key: str,
        needed: Needed,
        *,
        cost: float = 1.0,
        place: str | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Ask for one request.

        Args:
            key: the API key or client token.
            needed: what it must be good for.
            cost: what it takes from the tenant's rate.
            place: the name of an upload, which takes a place under it.
            idempotency_key: of the upload. One that has led to a render adds none, so it needs no free place.
        """
        terms = self._terms
        entry = self._accounts.key_of(key)
        if entry is None:
            return Answer(verdict=Verdict.UNKNOWN, principal=None, wait_s=0.0)
        args: list[Any] = [cost, terms.burst, terms.rate, "", needed.scope, needed.purpose or "", needed.origin]
        if place is not None:
            digest = "" if idempotency_key is None else idempotency_digest("render", idempotency_key)
            args += [place, terms.uploads, terms.open_renders, round(terms.place_s * 1000), digest]
        answer = await self._link.run(scripts.PASS_DOOR, [entry, keys.answer(new_nonce())], args)
        for _ in range(_REHASHES):  # while the pepper is being changed, another process may move the entry meanwhile
            other = self._accounts.names_of_entry(key) if answer[0] == Verdict.UNKNOWN else None
            entry = "" if other is None else await self._link.run(scripts.REHASH_API_KEY, *other)
            if not entry:
                break
            answer = await self._link.run(scripts.PASS_DOOR, [entry, keys.answer(new_nonce())], args)
        outcome, tenant, wait_s, key_id, scopes, identity, left = answer
        if outcome == Verdict.UNKNOWN:
            return Answer(verdict=Verdict.UNKNOWN, principal=None, wait_s=0.0)
        principal = Principal(
            tenant=TenantId(tenant),
            key_id=key_id,
            scopes=() if identity else scopes_of(scopes),
            identity=IdentityName(identity) if identity else None,
        )
        return Answer(verdict=Verdict(outcome), principal=principal, wait_s=float(wait_s), left=float(left))

    async def charge(self, tenant: TenantId, cost: float) -> None:
        """Take ``cost`` from a tenant's rate for what a request turned out to need, even if that makes a debt."""
        args = [cost, self._terms.burst, self._terms.rate, str(tenant)]
        await self._link.run(scripts.PASS_DOOR, [keys.api_key(""), keys.answer(new_nonce())], args)

    async def keep(self, tenant: TenantId, place: Place) -> None:
        """Renew a place again and again; ends only by being cancelled."""
        slots = [keys.slots(tenant, "uploads"), keys.slots(tenant, "places")]
        args = [place.name, place.shared, round(self._terms.place_s * 1000)]
        while True:
            await asyncio.sleep(self._terms.renew_s)
            try:
                await self._link.run(scripts.KEEP_PLACE, slots, args)
            except M2daoError as error:  # the upload goes on; its tenant may have one more for a while
                logger.warning("a place could not be renewed", extra={"place": place.name, "error": str(error)})

    async def leave(self, tenant: TenantId, place: Place) -> None:
        """Give a place back; nothing happens when it is back already."""
        await self._link.call("ZREM", keys.slots(tenant, "uploads"), place.name)
        await self._link.call("ZREM", keys.slots(tenant, "places"), place.shared)

    async def close(self) -> None:
        """Close the connections; the door can be used again and opens new ones."""
        await self._link.close()
