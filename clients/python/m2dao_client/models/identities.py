"""Bodies of the API: identities.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from m2dao_client.models.base import Model


class Outcome(Model):
    """How renders of a version ended since the champion or the challenger moved last."""

    version: int
    done: int
    failed: int


class Challenger(Model):
    """The challenger, and how its renders compare. The `ETag` is the champion's epoch."""

    version: int | None
    """The challenger; null: none."""
    share: int
    """Percent of the renders that name no version, which go to it."""
    champion: int | None
    """The champion that it challenges."""
    epoch: int
    """Grows with every move."""
    outcomes: list[Outcome]
    """Of versions that have rendered since the last move."""


class Champion(Model):
    """What stands for an identity. The `ETag` of the answer is its epoch."""

    version: int | None
    """The champion; null: none promoted."""
    previous: int | None
    """The champion before, to which a rollback returns."""
    challenger: int | None
    """The challenger."""
    epoch: int
    """Grows with every move."""


class Export(Model):
    """A version as one file: a tar of safetensors, with `version.json` that tells its lineage."""

    url: str
    """Fetch it here, without an API key."""
    expires_at: datetime
    """When the URL stops working. Ask again for a fresh one."""
    name: str
    num_bytes: int


class GateCheck(Model):
    """One thing that the gate looked at."""

    name: str
    """Stable, for programs."""
    passed: bool
    """Whether it speaks for the version."""
    detail: str
    """The same in plain words."""
    value: float | None
    """What was measured."""
    limit: float | None
    """What it is held against."""


class GateReport(Model):
    """What the gate said last of a version."""

    verdict: Literal["passed", "refused", "forced"]
    judged_at: datetime
    checks: list[GateCheck]


class IdentityEntry(Model):
    """A fitted person."""

    identity: str
    champion: int | None
    """The version that `anna` and `anna@champion` mean; null: none promoted."""
    versions: list[int]
    """All versions, ascending."""


class Identity(Model):
    """A fitted person, with what stands for them."""

    identity: str
    champion: int | None
    """The version that `anna` and `anna@champion` mean; null: none promoted."""
    previous: int | None
    """The champion before, to which a rollback returns."""
    challenger: int | None
    """The version that `anna@challenger` means."""
    versions: list[int]
    """All versions, ascending."""


class IdentityList(Model):
    """Identities of the tenant."""

    identities: list[IdentityEntry]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""


class Move(Model):
    """A move of a champion."""

    what: Literal["promote", "roll_back", "challenge", "clear"]
    before: int | None
    """The champion until then."""
    version: int | None
    """The champion from then on."""
    challenger: int | None
    """The challenger from then on."""
    share: int
    """Its share of renders from then on, in percent."""
    epoch: int
    at: datetime


class MoveList(Model):
    """The last moves of a champion, at most 200, the newest first."""

    moves: list[Move]


class Version(Model):
    """One version of an identity."""

    identity: str
    version: int
    aliases: list[str]
    """What stands for it: `champion`, `previous`, `challenger`."""
    created_at: datetime | None
    """When it was registered; null where that is not known."""
    num_bytes: int
    """Of all its files."""
    format: str
    """The identity format of its files; empty where that is not known."""
    files_sha256: str
    """Hash of the table of its files' hashes."""
    fit: str | None
    """The fit that made it."""
    lineage: dict[str, str]
    """What it was made of: hashes of capture and recording, recipe, size."""
    metrics: dict[str, float]
    """What was measured of it."""
    gate: GateReport | None
    """What the gate said last; null: it was never asked."""


class VersionList(Model):
    """Versions of an identity, the newest first."""

    versions: list[Version]
    next: str | None
    """Where the next page begins: ask again with `after` set to it. null: no more."""
