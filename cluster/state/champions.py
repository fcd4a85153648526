"""Decides which version of each identity serves, whatever the model registry shows.

Each move is one script: it compares the *epoch* (a number that grows with every move), writes champion, previous and
challenger, notes that the model registry is to be told, and announces the move on the topic ``champion``. A request
keeps its name, so that asking again answers the same and moves nothing again.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.ids import ALIASES, AliasRef, FitId, IdentityName, ModelRef, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from cluster.state.people.audit import AuditTrail
from cluster.state.versions import VersionFacts, VersionTable, ready_numbers, unknown
from cluster.versions import IdentityInfo
from m2dao.errors import Conflict, IdempotencyConflict, PromotionConflict

TOPIC = "champion"
_ANSWER_S = 30 * 24 * 3600  # how long the wish of a fit is remembered: longer than any fit is tried
_ROLLBACK_ANSWER_S = 24 * 3600  # how long that of a client is, as all that it gives a name of its own


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What stands for an identity. Versions; None where there is none."""

    version: int | None = None
    previous: int | None = None
    challenger: int | None = None
    epoch: int = 0
    share: int = 0  # percent of the renders that name no version, which go to the challenger

    def for_request(self, key: str) -> int | None:
        """The version that serves a request which names none; the same for the same key."""
        if self.challenger is not None and zlib.crc32(key.encode()) % 100 < self.share:
            return self.challenger
        return self.version

    def of(self, alias: str) -> int | None:
        """The version that an alias stands for."""
        return {"champion": self.version, "previous": self.previous, "challenger": self.challenger}[alias]

    def aliases_of(self, version: int) -> tuple[str, ...]:
        """The aliases that stand for a version."""
        return tuple(sorted(alias for alias in ALIASES if self.of(alias) == version))


@dataclass(frozen=True, kw_only=True)
class ChampionChange:
    """What a move did.

    Args:
        champion: the champion now; None after ``clear``.
        previous: the champion until now.
        now: all that stands for the identity now.
    """

    champion: ModelRef | None
    previous: ModelRef | None
    now: Champion

    @property
    def epoch(self) -> int:
        return self.now.epoch


@dataclass(frozen=True, kw_only=True)
class PastMove:
    """A move of a champion, as its owner reads it.

    Args:
        what: "promote", "roll_back", "challenge" or "clear".
        before: the champion until then.
        version: the champion from then on.
        challenger: the challenger from then on.
        share: its share of renders from then on, in percent.
        epoch: of the champion from then on.
        at_s: Unix time.
    """

    what: str
    before: int | None
    version: int | None
    challenger: int | None
    share: int
    epoch: int
    at_s: float


class ChampionTable:
    """The champions of all identities. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, versions: VersionTable, audit: AuditTrail):
        self._link, self._versions, self._audit = link, versions, audit

    # -- reading ----------------------------------------------------------------------------------------------

    def get(self, tenant: TenantId, identity: IdentityName) -> Champion:
        """What stands for an identity; nothing at all when it is not known."""
        return _champion(self._link.hash(keys.champion(tenant, identity)))

    def get_all(self, identities: Sequence[tuple[TenantId, IdentityName]]) -> list[Champion]:
        """What stands for many identities, in one round trip."""
        return [_champion(table) for table in self._link.hashes([keys.champion(*each) for each in identities])]

    def resolve(self, ref: AliasRef | ModelRef) -> ModelRef:
        """The pinned version that ``ref`` stands for now.

        Raises:
            UnknownIdentity: there is no such identity, version or alias, or the version is not complete.
        """
        if isinstance(ref, AliasRef):
            number = self.get(ref.tenant, ref.identity).of(ref.alias)
            if number is None:
                raise unknown(ref)
            ref = ModelRef(ref.tenant, ref.identity, number)
        self._versions.facts(ref)
        return ref

    def page(self, tenant: TenantId, *, after: str = "", limit: int = 100) -> tuple[list[IdentityInfo], str | None]:
        """A page of the identities that have a complete version, by name, and where the next page begins.

        Args:
            after: where it begins: what the page before gave; empty for the first.
            limit: how many to look at.
        """
        names = self.names(tenant, after=after, limit=limit)
        tables = self._link.hashes([keys.versions(tenant, name) for name in names])
        champions = self.get_all([(tenant, name) for name in names])
        infos = [
            IdentityInfo(tenant=tenant, identity=name, champion=champion.version, versions=ready_numbers(table))
            for name, table, champion in zip(names, tables, champions, strict=True)
        ]
        return [info for info in infos if info.versions], str(names[-1]) if len(names) == limit else None

    def history(self, tenant: TenantId, identity: IdentityName) -> list[PastMove]:
        """The last moves of a champion, at most 200, the newest first."""
        rows = [json.loads(text) for text in self._link.call("LRANGE", keys.moves(tenant, identity), 0, -1)]
        return [
            PastMove(
                what=row["what"],
                before=_number(row, "before"),
                version=_number(row, "version"),
                challenger=_number(row, "challenger"),
                share=_number(row, "share") or 0,
                epoch=int(row["epoch"]),
                at_s=float(row["at"]),
            )
            for row in rows
        ]

    def identities(self, tenant: TenantId) -> list[IdentityInfo]:
        """All identities that have a complete version, by name."""
        return self.page(tenant, limit=-1)[0]

    def names(self, tenant: TenantId, *, after: str = "", limit: int = -1) -> list[IdentityName]:
        """The names of identities, in order; all of them when there is no limit."""
        low = f"({after}" if after else "-"
        found = self._link.call("ZRANGEBYLEX", keys.identities(tenant), low, "+", "LIMIT", 0, limit)
        return [IdentityName(name) for name in found]

    # -- moving -----------------------------------------------------------------------------------------------

    def promote(self, ref: ModelRef, *, epoch: int | None = None, request: str = "") -> ChampionChange:
        """Make ``ref`` the champion of its identity, and the champion until now the previous one.

        Args:
            ref: a complete version.
            epoch: which the champion must have now; None for any.
            request: a name for this wish. Asked for again under the same name, the first answer is given.

        Raises:
            PromotionConflict: the champion has moved.
            UnknownIdentity: there is no such complete version.
            IdempotencyConflict: another wish has that name.
        """
        return self._move("promote", ref.tenant, ref.identity, ref.version, epoch, request)

    def roll_back(
        self, tenant: TenantId, identity: IdentityName, *, epoch: int | None = None, request: str = ""
    ) -> ChampionChange:
        """Make the previous champion the champion, and the other way round; see ``promote``."""
        return self._move("roll_back", tenant, identity, None, epoch, request)

    def challenge(
        self, tenant: TenantId, identity: IdentityName, version: int | None, *, share: int = 0, epoch: int | None = None
    ) -> ChampionChange:
        """Let a version, or none, be the challenger of an identity; see ``promote``.

        Args:
            share: percent of the renders that name no version, which go to it.

        Raises:
            Conflict: it is the champion.
        """
        return self._move("challenge", tenant, identity, version, epoch, "", share=share)

    def clear(self, tenant: TenantId, identity: IdentityName) -> None:
        """Let nothing stand for an identity: it is not rendered any more, but by version."""
        self._move("clear", tenant, identity, None, None, "")

    def answer(self, tenant: TenantId, request: str) -> dict[str, Any] | None:
        """What came of a request; None when nothing has yet."""
        text = self._link.call("GET", keys.move(tenant, request))
        return None if text is None else json.loads(text)

    def refuse(self, tenant: TenantId, request: str, reason: str) -> None:
        """Keep the answer to a request that shall not be tried again."""
        text = json.dumps({"outcome": "refused", "reason": reason})
        self._link.call("SET", keys.move(tenant, request), text, "NX", "EX", _ANSWER_S)

    def _move(
        self,
        what: str,
        tenant: TenantId,
        identity: IdentityName,
        version: int | None,
        epoch: int | None,
        request: str,
        *,
        share: int = 0,
    ) -> ChampionChange:
        names = [
            keys.champion(tenant, identity),
            keys.versions(tenant, identity),
            keys.move(tenant, request or uuid.uuid4().hex),
            keys.ledger("champions"),
            keys.moves(tenant, identity),
        ]
        expected = "" if epoch is None else epoch
        answer_s = 3600 if not request else _ROLLBACK_ANSWER_S if what == "roll_back" else _ANSWER_S
        words = [str(tenant), str(identity), what, version or "", expected, answer_s, self._audit.signature(), share]
        answer = json.loads(self._link.run(scripts.MOVE_CHAMPION, names, words))
        name = f"{tenant}.{identity}"
        outcome, now = answer["outcome"], _champion(answer)
        if outcome == "conflict":
            raise PromotionConflict(
                f"champion of {name}", f"epoch {epoch}", f"epoch {now.epoch}", "look again and decide anew"
            )
        if outcome == "other":
            raise IdempotencyConflict(f"request to move {name}", "the one its name was first used for", "another one")
        if outcome == "no-previous":
            raise no_previous(tenant, identity)
        if outcome == "champion":
            raise Conflict(
                f"challenger of {name}", "another version than the champion", f"version {version}, which is it"
            )
        if outcome not in ("moved", "unchanged"):
            raise unknown(name if version is None else ModelRef(tenant, identity, version))
        before = int(answer["before"]) if answer["before"] else None
        return ChampionChange(
            champion=None if now.version is None else ModelRef(tenant, identity, now.version),
            previous=None if before is None else ModelRef(tenant, identity, before),
            now=now,
        )

    # -- the ledger -------------------------------------------------------------------------------------------

    def untold(self) -> dict[tuple[TenantId, IdentityName], int]:
        """The identities whose champion the model registry does not show yet, with the epoch of the move."""
        table = self._link.hash(keys.ledger("champions"))
        return {_split(name): int(epoch) for name, epoch in table.items()}

    def told(self, tenant: TenantId, identity: IdentityName, epoch: int) -> None:
        """Note that the model registry shows the champion of an epoch."""
        self._link.run(scripts.LEDGER_TOLD, [keys.ledger("champions")], [f"{tenant}.{identity}", epoch])

    def tell_again(self, tenant: TenantId, identity: IdentityName) -> None:
        """Note that the model registry shows another champion than it should."""
        champion = self.get(tenant, identity)
        self._link.call("HSETNX", keys.ledger("champions"), f"{tenant}.{identity}", champion.epoch)

    def is_imported(self) -> bool:
        """Whether what the model registry knew as the authority has been taken over."""
        return bool(self._link.call("EXISTS", keys.ledger("imported")))

    def is_described(self) -> bool:
        """Whether what the model registry alone knew of versions has been taken over too."""
        return bool(self._link.call("EXISTS", keys.ledger("described")))

    def set_described(self) -> None:
        """Note that it has been."""
        self._link.call("SET", keys.ledger("described"), "1")

    def set_imported(self) -> None:
        """Note that all of it has been taken over."""
        self._link.call("SET", keys.ledger("imported"), "1")

    def take_over(
        self,
        tenant: TenantId,
        identity: IdentityName,
        champion: Champion,
        versions: dict[int, tuple[VersionFacts, FitId | None]],
    ) -> None:
        """Take over an identity from the model registry; what is known here already stays as it is."""
        names = [keys.champion(tenant, identity), keys.versions(tenant, identity), keys.identities(tenant)]
        aliased = [champion.of(alias) for alias in ("champion", "previous", "challenger")]
        words = [str(tenant), str(identity), *(number or "" for number in aliased), _ANSWER_S]
        for number, (facts, fit_id) in versions.items():
            words += [number, facts.as_json(), "" if fit_id is None else str(fit_id)]
        self._link.run(scripts.IMPORT_IDENTITY, names, words)


def no_previous(tenant: TenantId, identity: IdentityName) -> Conflict:
    """The error for a rollback that has nowhere to go."""
    name = f"previous champion of {tenant}.{identity}"
    return Conflict(name, "a version to return to", "none", "promote a version by name")


def _champion(table: dict[str, Any]) -> Champion:
    return Champion(
        version=_number(table, "version"),
        previous=_number(table, "previous"),
        challenger=_number(table, "challenger"),
        epoch=_number(table, "epoch") or 0,
        share=_number(table, "share") or 0,
    )


def _number(table: dict[str, Any], name: str) -> int | None:
    return int(table[name]) if table.get(name) else None


def _split(name: str) -> tuple[TenantId, IdentityName]:
    tenant, _, identity = name.partition(".")
    return TenantId(tenant), IdentityName(identity)
