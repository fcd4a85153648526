"""Identities, their versions and champions as the API shows them, without HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import Field

from cluster.control.champions import Champions
from cluster.control.exports import Exports
from cluster.control.gate import Promotions
from cluster.ids import ALIASES, IdentityName, ModelRef, TenantId
from cluster.platform import Platform
from cluster.state.champions import Champion, PastMove
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails, VersionFacts
from m2dao.errors import InvalidId, UnknownIdentity
from serve_apps.api.bodies.times import utc
from serve_apps.api.schemas import Body
from serve_apps.identities.aliases import unknown_identity


class IdentityBody(Body):
    """A fitted person, with what stands for them."""

    identity: str = Field(examples=["anna"])
    champion: int | None = Field(description="The version that `anna` and `anna@champion` mean; null: none promoted.")
    previous: int | None = Field(description="The champion before, to which a rollback returns.")
    challenger: int | None = Field(description="The version that `anna@challenger` means.")
    versions: list[int] = Field(description="All versions, ascending.")


class ChallengeRequest(Body):
    """Which version is to become the challenger."""

    version: int = Field(ge=1, lt=10**9, description="A complete version, not the champion.", examples=[8])
    share: int = Field(default=10, ge=0, le=100, description="Percent of the renders of `anna` that go to it.")
    force: bool = Field(default=False, description="Even if the gate refuses; kept as forced.")


class OutcomeBody(Body):
    """How renders of a version ended since the champion or the challenger moved last."""

    version: int
    done: int
    failed: int


class ChallengerBody(Body):
    """The challenger, and how its renders compare. The `ETag` is the champion's epoch."""

    version: int | None = Field(description="The challenger; null: none.")
    share: int = Field(description="Percent of the renders that name no version, which go to it.")
    champion: int | None = Field(description="The champion that it challenges.")
    epoch: int = Field(description="Grows with every move.")
    outcomes: list[OutcomeBody] = Field(description="Of versions that have rendered since the last move.")


class GateCheckBody(Body):
    """One thing that the gate looked at."""

    name: str = Field(description="Stable, for programs.", examples=["psnr_db"])
    passed: bool = Field(description="Whether it speaks for the version.")
    detail: str = Field(description="The same in plain words.")
    value: float | None = Field(description="What was measured.")
    limit: float | None = Field(description="What it is held against.")


class GateReport(Body):
    """What the gate said last of a version."""

    verdict: Literal["passed", "refused", "forced"]
    judged_at: datetime
    checks: list[GateCheckBody]


class VersionBody(Body):
    """One version of an identity."""

    identity: str
    version: int
    aliases: list[str] = Field(description="What stands for it: `champion`, `previous`, `challenger`.")
    created_at: datetime | None = Field(description="When it was registered; null where that is not known.")
    num_bytes: int = Field(description="Of all its files.")
    format: str = Field(description="The identity format of its files; empty where that is not known.")
    files_sha256: str = Field(description="Hash of the table of its files' hashes.")
    fit: str | None = Field(description="The fit that made it.")
    lineage: dict[str, str] = Field(description="What it was made of: hashes of capture and recording, recipe, size.")
    metrics: dict[str, float] = Field(description="What was measured of it.")
    gate: GateReport | None = Field(description="What the gate said last; null: it was never asked.")


class VersionList(Body):
    """Versions of an identity, the newest first."""

    versions: list[VersionBody]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class ExportBody(Body):
    """A version as one file: a tar of safetensors, with `version.json` that tells its lineage."""

    url: str = Field(description="Fetch it here, without an API key.")
    expires_at: datetime = Field(description="When the URL stops working. Ask again for a fresh one.")
    name: str = Field(examples=["anna-7.tar"])
    num_bytes: int


class ChampionBody(Body):
    """What stands for an identity. The `ETag` of the answer is its epoch."""

    version: int | None = Field(description="The champion; null: none promoted.")
    previous: int | None = Field(description="The champion before, to which a rollback returns.")
    challenger: int | None = Field(description="The challenger.")
    epoch: int = Field(description="Grows with every move.")


class PromotionRequest(Body):
    """Which version is to become the champion."""

    version: int = Field(ge=1, lt=10**9, description="A complete version.", examples=[7])
    force: bool = Field(default=False, description="Promote it even if the gate refuses; kept as forced.")


class MoveBody(Body):
    """A move of a champion."""

    what: Literal["promote", "roll_back", "challenge", "clear"]
    before: int | None = Field(description="The champion until then.")
    version: int | None = Field(description="The champion from then on.")
    challenger: int | None = Field(description="The challenger from then on.")
    share: int = Field(description="Its share of renders from then on, in percent.")
    epoch: int
    at: datetime


class MoveList(Body):
    """The last moves of a champion, at most 200, the newest first."""

    moves: list[MoveBody]


class Identities:
    """The identities of tenants.

    A name that is malformed, unknown or another tenant's gets the same answer.

    Args:
        platform: the services; the model registry is needed to delete.
    """

    def __init__(self, platform: Platform):
        self._platform = platform

    @property
    def _state(self) -> StateStore:
        return self._platform.state

    # -- reading ----------------------------------------------------------------------------------------------

    def get(self, tenant: TenantId, identity: str) -> IdentityBody:
        """One identity."""
        name, table = self._known(tenant, identity)
        champion = self._state.champions.get(tenant, name)
        return IdentityBody(
            identity=str(name),
            champion=champion.version,
            previous=champion.previous,
            challenger=champion.challenger,
            versions=_ready(table),
        )

    def versions(self, tenant: TenantId, identity: str, *, after: int | None, limit: int) -> VersionList:
        """A page of the versions of an identity, the newest first.

        Args:
            after: the last version of the page before; None for the first page.
        """
        name, table = self._known(tenant, identity)
        numbers = [number for number in reversed(_ready(table)) if after is None or number < after]
        page = numbers[:limit]
        following = str(page[-1]) if len(numbers) > limit else None
        return VersionList(versions=self._bodies(tenant, name, page, table), next=following)

    def version(self, tenant: TenantId, identity: str, version: str) -> VersionBody:
        """One version."""
        name, table = self._known(tenant, identity)
        with _uniform():
            number = ModelRef.parse(f"{tenant}.{name}@{version}").version
        if number not in _ready(table):
            raise unknown_identity()
        return self._bodies(tenant, name, [number], table)[0]

    def champion(self, tenant: TenantId, identity: str) -> Champion:
        """What stands for an identity."""
        name, _ = self._known(tenant, identity)
        return self._state.champions.get(tenant, name)

    def history(self, tenant: TenantId, identity: str) -> MoveList:
        """How its champion has moved."""
        name, _ = self._known(tenant, identity)
        return MoveList(moves=[_move(move) for move in self._state.champions.history(tenant, name)])

    # -- deciding ---------------------------------------------------------------------------------------------

    def promote(self, tenant: TenantId, identity: str, wish: PromotionRequest, epoch: int | None) -> Champion:
        """Make a version the champion, if it passes the gate.

        Raises:
            ApiProblem, PromotionConflict, PromotionRefused: see ``Promotions.promote``.
        """
        name, _ = self._known(tenant, identity)
        with _uniform():
            ref = ModelRef(tenant, name, wish.version)
            return self._promotions.promote(ref, epoch=epoch, force=wish.force).change.now

    def roll_back(self, tenant: TenantId, identity: str, epoch: int | None, request: str) -> Champion:
        """Make the previous champion the champion again.

        Args:
            request: the client's own name for this wish, which is done once; empty for none.
        """
        name, _ = self._known(tenant, identity)
        return self._promotions.roll_back(tenant, name, epoch=epoch, request=request).change.now

    def export(self, tenant: TenantId, identity: str, version: str) -> ExportBody:
        """A version as one file."""
        with _uniform():
            ref = ModelRef.parse(f"{tenant}.{IdentityName.parse(identity)}@{version}")
            export = Exports(self._state, self._platform.store).make(ref)
        expires_at = datetime.now(UTC) + timedelta(seconds=export.url_s)
        return ExportBody(url=export.url, expires_at=expires_at, name=export.name, num_bytes=export.num_bytes)

    def challenger(self, tenant: TenantId, identity: str) -> ChallengerBody:
        """The challenger of an identity, and how it does."""
        name, _ = self._known(tenant, identity)
        return self._challenger(tenant, name, self._state.champions.get(tenant, name))

    def challenge(self, tenant: TenantId, identity: str, wish: ChallengeRequest, epoch: int | None) -> ChallengerBody:
        """Make a version the challenger, if it passes the gate.

        Raises:
            ApiProblem, Conflict, PromotionConflict, PromotionRefused: see ``Promotions.challenge``.
        """
        name, _ = self._known(tenant, identity)
        with _uniform():
            ref = ModelRef(tenant, name, wish.version)
            change = self._promotions.challenge(ref, share=wish.share, epoch=epoch, force=wish.force).change
        return self._challenger(tenant, name, change.now)

    def withdraw(self, tenant: TenantId, identity: str, epoch: int | None) -> ChallengerBody:
        """Let an identity have no challenger."""
        name, _ = self._known(tenant, identity)
        return self._challenger(tenant, name, Champions(self._state).withdraw(tenant, name, epoch=epoch).now)

    def delete_version(self, tenant: TenantId, identity: str, version: str) -> None:
        """Delete a version with its files.

        Raises:
            Conflict: an alias stands for it.
        """
        with _uniform():
            ref = ModelRef.parse(f"{tenant}.{IdentityName.parse(identity)}@{version}")
        if ref.version not in self._state.versions.all(tenant, ref.identity):
            raise unknown_identity()
        with _uniform():
            self._platform.registry.delete_version(ref)

    def delete(self, tenant: TenantId, identity: str) -> None:
        """Delete an identity: it serves no more at once, then every version goes with its files."""
        with _uniform():
            name = IdentityName.parse(identity)
        if not self._state.versions.all(tenant, name):
            raise unknown_identity()
        with _uniform():
            self._platform.registry.delete_identity(tenant, name)

    # -- inside -----------------------------------------------------------------------------------------------

    @property
    def _promotions(self) -> Promotions:
        return Promotions(self._state.versions, Champions(self._state))

    def _challenger(self, tenant: TenantId, name: IdentityName, champion: Champion) -> ChallengerBody:
        outcomes = self._state.outcomes.get(tenant, name)
        told = sorted(outcomes.of.items()) if outcomes.epoch == champion.epoch else []
        return ChallengerBody(
            version=champion.challenger,
            share=champion.share,
            champion=champion.version,
            epoch=champion.epoch,
            outcomes=[OutcomeBody(version=v, done=one.num_done, failed=one.num_failed) for v, one in told],
        )

    def _known(self, tenant: TenantId, identity: str) -> tuple[IdentityName, dict[int, VersionFacts]]:
        with _uniform():
            name = IdentityName.parse(identity)
        table = self._state.versions.all(tenant, name)
        if not _ready(table):
            raise unknown_identity()
        return name, table

    def _bodies(
        self, tenant: TenantId, name: IdentityName, numbers: list[int], table: dict[int, VersionFacts]
    ) -> list[VersionBody]:
        refs = [ModelRef(tenant, name, number) for number in numbers]
        champion = self._state.champions.get(tenant, name)
        details, verdicts = self._state.versions.details(refs), self._state.versions.verdicts(refs)
        return [
            _version(table[ref.version], known or VersionDetails(ref=ref), verdict, champion)
            for ref, known, verdict in zip(refs, details, verdicts, strict=True)
        ]


def champion_body(champion: Champion) -> ChampionBody:
    """What stands for an identity, as the API shows it."""
    return ChampionBody(
        version=champion.version,
        previous=champion.previous,
        challenger=champion.challenger,
        epoch=champion.epoch,
    )


@contextlib.contextmanager
def _uniform() -> Iterator[None]:
    try:
        yield
    except (InvalidId, UnknownIdentity) as error:
        raise unknown_identity() from error


def _ready(table: dict[int, VersionFacts]) -> list[int]:
    return sorted(number for number, facts in table.items() if facts.state == "ready")


def _version(
    facts: VersionFacts, details: VersionDetails, verdict: dict[str, Any] | None, champion: Champion
) -> VersionBody:
    ref = details.ref
    return VersionBody(
        identity=str(ref.identity),
        version=ref.version,
        aliases=[alias for alias in ALIASES if champion.of(alias) == ref.version],
        created_at=utc(details.created_s or None),
        num_bytes=facts.num_bytes,
        format=facts.format,
        files_sha256=facts.files_sha256,
        fit=None if details.fit_id is None else str(details.fit_id),
        lineage=dict(details.tags),
        metrics=dict(details.metrics),
        gate=None if verdict is None else _report(verdict),
    )


def _report(verdict: dict[str, Any]) -> GateReport:
    checks = [GateCheckBody(**check) for check in verdict["checks"]]
    return GateReport(verdict=verdict["verdict"], judged_at=utc(verdict["judged_s"]), checks=checks)


def _move(move: PastMove) -> MoveBody:
    values = {name: value for name, value in vars(move).items() if name != "at_s"}
    return MoveBody(**values, at=utc(move.at_s))
