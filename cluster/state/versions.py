"""The versions of identities: which count, and the hash that vouches for their files.

A version counts from the moment when ``commit`` has written it here. A fit makes one: ``commit`` asks for the fencing
token of the fit's claim, so a worker that was given up cannot add a second one. Replicas find all that they need to
load a version here and in the object store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.ids import FitId, IdentityName, ModelRef, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from cluster.state.people.audit import AuditTrail
from cluster.state.records import Claim
from m2dao.errors import Conflict, LeaseLost, UnknownIdentity

_FIT_S = 30 * 24 * 3600  # longer than the record of a fit's job is kept


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """What is needed to load a version, and to trust what was loaded.

    Args:
        files_sha256: hash of its file table; see ``cluster.folders.StoredFolder``.
        num_bytes: of all its files.
        format: the identity format that its files are in; empty when it is not known.
        state: "ready", or "deleting".
    """

    files_sha256: str
    num_bytes: int
    format: str = ""
    state: str = "ready"

    def as_json(self) -> str:
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class VersionDetails:
    """How a version was made and what was measured of it; the gate judges by it.

    Args:
        ref: the version.
        metrics: finite numbers.
        tags: text, such as ``capture_sha256`` and ``recipe``.
        created_s: Unix time.
        fit_id: the fit that made it; None for one that was registered by hand.
    """

    ref: ModelRef
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_s: float = 0.0
    fit_id: FitId | None = None

    def as_json(self) -> str:
        values = {"metrics": dict(self.metrics), "tags": dict(self.tags), "created_s": self.created_s}
        return json.dumps({**values, "fit_id": self.fit_id and str(self.fit_id)}, sort_keys=True)


class VersionTable:
    """The versions of all identities. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, audit: AuditTrail):
        self._link, self._audit = link, audit

    def open(self, claim: Claim) -> int | None:
        """The version that a fit has made already; None when its claim may make it.

        Raises:
            LeaseLost: the fit is somebody else's now.
        """
        job = claim.job
        names = [keys.version_of(job.tenant, job.fit_id), keys.job(job.tenant, job.id)]
        outcome, made = self._link.run(scripts.OPEN_VERSION, names, [claim.fence])
        if outcome == "lost":
            raise _lost(claim)
        return int(made) if made else None

    def commit(
        self, ref: ModelRef, facts: VersionFacts, claim: Claim | None = None, *, details: VersionDetails | None = None
    ) -> None:
        """Let a version count whose files are stored. Saying so again changes nothing.

        Args:
            claim: of the fit that made it.
            details: how it was made. The gate refuses to judge a version without them.

        Raises:
            LeaseLost: the fit is somebody else's now, or has made another version.
        """
        fit = ["", ""]
        if claim is not None:
            fit = [keys.version_of(ref.tenant, claim.job.fit_id), keys.job(ref.tenant, claim.job.id)]
        names = [*fit, keys.versions(ref.tenant, ref.identity), keys.identities(ref.tenant), keys.ledger("versions")]
        names += [keys.details(ref.tenant, ref.identity)]
        fence, about = "" if claim is None else claim.fence, "" if details is None else details.as_json()
        words = [str(ref.tenant), str(ref.identity), ref.version, facts.as_json(), fence, _FIT_S, about]
        if self._link.run(scripts.COMMIT_VERSION, names, words) != "ok":
            assert claim is not None, "only a fit can lose its claim"
            raise _lost(claim)

    def facts(self, ref: ModelRef) -> VersionFacts:
        """What is known of a version.

        Raises:
            UnknownIdentity: there is no such complete version.
        """
        text = self._link.call("HGET", keys.versions(ref.tenant, ref.identity), ref.version)
        facts = None if text is None else _facts(text)
        if facts is None or facts.state != "ready":
            raise unknown(ref)
        return facts

    def numbers(self, tenant: TenantId, identity: IdentityName) -> tuple[int, ...]:
        """The complete versions of an identity, ascending."""
        return ready_numbers(self._link.hash(keys.versions(tenant, identity)))

    def all(self, tenant: TenantId, identity: IdentityName) -> dict[int, VersionFacts]:
        """Every version of an identity, those on their way out too."""
        table = self._link.hash(keys.versions(tenant, identity))
        return {int(number): _facts(text) for number, text in table.items()}

    # -- how they were made and judged ------------------------------------------------------------------------

    def describe(self, details: VersionDetails) -> None:
        """Add what is known of a version; nothing happens where that is kept already."""
        ref = details.ref
        names = [keys.versions(ref.tenant, ref.identity), keys.details(ref.tenant, ref.identity)]
        self._link.run(scripts.DESCRIBE_VERSION, names, [ref.version, details.as_json()])

    def undescribed(self, identities: Sequence[tuple[TenantId, IdentityName]]) -> list[ModelRef]:
        """The complete versions of many identities of which nothing is known."""
        lengths = self._link.steps(
            [("HLEN", key_of(*owner)) for owner in identities for key_of in (keys.versions, keys.details)]
        )
        lacking = [
            owner
            for owner, kept, described in zip(identities, lengths[::2], lengths[1::2], strict=True)
            if kept != described
        ]
        refs = [[ModelRef(*owner, number) for number in self.numbers(*owner)] for owner in lacking]
        return [
            ref for of_one in refs for ref, details in zip(of_one, self.details(of_one), strict=True) if details is None
        ]

    def details(self, refs: Sequence[ModelRef]) -> list[VersionDetails | None]:
        """What is known of versions of one identity; None where nothing is."""
        return [None if text is None else _details(ref, text) for ref, text in self._texts(keys.details, refs)]

    def note_verdict(self, ref: ModelRef, verdict: Mapping[str, Any]) -> None:
        """Keep what the gate said of a version, and that the model registry is to show it."""
        names = [
            keys.versions(ref.tenant, ref.identity),
            keys.verdicts(ref.tenant, ref.identity),
            keys.ledger("verdicts"),
        ]
        self._link.run(scripts.NOTE_VERDICT, names, [ref.version, json.dumps(verdict, sort_keys=True), str(ref)])

    def verdicts(self, refs: Sequence[ModelRef]) -> list[dict[str, Any] | None]:
        """What the gate said last of versions of one identity; None where it was never asked."""
        return [None if text is None else json.loads(text) for _, text in self._texts(keys.verdicts, refs)]

    def _texts(
        self, key_of: Callable[[TenantId, IdentityName], str], refs: Sequence[ModelRef]
    ) -> list[tuple[ModelRef, str | None]]:
        if not refs:
            return []
        key = key_of(refs[0].tenant, refs[0].identity)
        return list(zip(refs, self._link.call("HMGET", key, *(ref.version for ref in refs)), strict=True))

    # -- leaving ----------------------------------------------------------------------------------------------

    def retire(self, ref: ModelRef) -> None:
        """Take a version out of service for good: from now on it can be neither promoted nor rendered.

        Raises:
            Conflict: an alias stands for it.
            UnknownIdentity: there is no such version.
        """
        names = [keys.champion(ref.tenant, ref.identity), keys.versions(ref.tenant, ref.identity)]
        words = [ref.version, str(ref.tenant), str(ref.identity), self._audit.signature()]
        outcome = self._link.run(scripts.RETIRE_VERSION, names, words)
        if outcome == "unknown":
            raise unknown(ref)
        if outcome != "ok":
            raise Conflict(str(ref), "a version without aliases", str(outcome), "move them first")

    def forget(self, ref: ModelRef) -> None:
        """Forget a version whose files are gone; with the last one its identity is forgotten."""
        names = [
            keys.versions(ref.tenant, ref.identity),
            keys.identities(ref.tenant),
            keys.champion(ref.tenant, ref.identity),
            keys.ledger("champions"),
            keys.details(ref.tenant, ref.identity),
            keys.verdicts(ref.tenant, ref.identity),
            keys.moves(ref.tenant, ref.identity),
        ]
        self._link.run(scripts.FORGET_VERSION, names, [str(ref.tenant), str(ref.identity), ref.version])

    # -- the ledger -------------------------------------------------------------------------------------------

    def untold(self) -> list[ModelRef]:
        """The versions of which the model registry does not know yet that they count."""
        return sorted(ModelRef.parse(text) for text in self._link.call("SMEMBERS", keys.ledger("versions")))

    def told(self, ref: ModelRef) -> None:
        """Note that the model registry knows it."""
        self._link.call("SREM", keys.ledger("versions"), str(ref))

    def untold_verdicts(self) -> dict[ModelRef, str]:
        """What the gate said that the model registry does not show yet, as it was noted."""
        table = self._link.hash(keys.ledger("verdicts"))
        return {ModelRef.parse(text): verdict for text, verdict in table.items()}

    def verdict_told(self, ref: ModelRef, verdict: str) -> None:
        """Note that the model registry shows a verdict; nothing happens when the gate has spoken again since."""
        self._link.run(scripts.LEDGER_TOLD, [keys.ledger("verdicts")], [str(ref), verdict])


def ready_numbers(table: dict[str, str]) -> tuple[int, ...]:
    """The complete versions in the hash of an identity, ascending."""
    return tuple(sorted(int(number) for number, text in table.items() if _facts(text).state == "ready"))


def unknown(ref: object) -> UnknownIdentity:
    """The error for a version or alias that is not there."""
    return UnknownIdentity(str(ref), "a complete version", "none of that name")


def _facts(text: str) -> VersionFacts:
    values: dict[str, Any] = json.loads(text)
    return VersionFacts(**values)


def _details(ref: ModelRef, text: str) -> VersionDetails:
    values = json.loads(text)
    fit_id = values.pop("fit_id")
    return VersionDetails(ref=ref, fit_id=FitId.parse(fit_id) if fit_id else None, **values)


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        f"fit {claim.job.id}", f"to be claimed with token {claim.fence}", "another claim or state", "stop working on it"
    )
