"""What it takes to create a job: the call of the script, and what its answer means.

Apart from ``Jobs``, because an ingress creates jobs on its event loop and everybody else in threads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.ids import FitId, JobId, RenderId, TenantId
from cluster.state import keys, scripts
from cluster.state.link import AsyncRedisLink
from cluster.state.records import JobRecord, fields_of, record_of
from cluster.state.upkeep.maintenance import under_maintenance
from cluster.telemetry.origin import Origin
from m2dao.errors import (
    AlreadyExists,
    IdempotencyConflict,
    InputError,
    QuotaExceeded,
    ServiceError,
    UnknownTenant,
)

ID_TYPES = {"render": RenderId, "fit": FitId}
IDEMPOTENCY_S = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Once:
    """A client's own name for a request. Within 24 hours the same key makes no second job.

    Args:
        key: 1 to 200 printable characters.
        fingerprint: what must be the same under the same key; the request when not given. Leave out of it what
            differs between two equal requests, such as the key of an uploaded file.
    """

    key: str
    fingerprint: str | None = None


class Place(NamedTuple):
    """The place that an upload holds at the door (``cluster/state/door.py``)."""

    name: str
    shared: str  # by all uploads under one idempotency key


@dataclass(frozen=True, kw_only=True)
class Files:
    """Small files that are kept with a job while it is open, and leave the store with its end.

    Args:
        contents: by name.
        most_open: open jobs of the kind, of all tenants, up to which files are taken: what bounds the store's memory.
    """

    contents: Mapping[str, bytes] = field(default_factory=dict)
    most_open: int = 0


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to be created; asking again with the same id and request is the same as asking once.

    Args:
        tenant: whose job it is.
        kind: "render" or "fit".
        job_id: its id.
        request: what is to be done; anything that JSON can hold.
        once: when a client may ask for the same twice.
        max_attempts: claims before the job fails.
        max_open: how many open jobs of this kind the tenant may have, this one included.
        cost: its share of ``Backlog.queued_cost``, for example seconds of audio.
        files: what is kept with it.
        place: given back in the same step.
        origin: where it comes from; no part of what makes two requests the same.
        needs: formats that whoever does it must know; see ``Jobs.claim``.
    """

    tenant: TenantId
    kind: str
    job_id: JobId
    request: Mapping[str, Any]
    once: Once | None = None
    max_attempts: int = 3
    max_open: int | None = None
    cost: float = 1.0
    files: Files = Files()
    place: Place | None = None
    origin: Origin = field(default_factory=Origin.here)
    needs: tuple[str, ...] = ()

    def call(self) -> tuple[str, list[str], list[Any]]:
        """The script that creates it, its keys and its arguments."""
        check_kind(self.kind)
        if not isinstance(self.job_id, ID_TYPES[self.kind]):
            expected = ID_TYPES[self.kind].__name__
            raise TypeError(f"a {self.kind} job has a {expected}, not {type(self.job_id).__name__}")
        tenant, kind, once = self.tenant, self.kind, self.once
        text = json.dumps(self.request, sort_keys=True, allow_nan=False)
        what = once.fingerprint if once is not None and once.fingerprint is not None else text
        names = [
            keys.job(tenant, self.job_id),
            keys.idempotency(tenant, idempotency_digest(kind, once.key)) if once is not None else "",
            keys.TENANTS,
            *keys.job_lists(tenant, kind),
            keys.delayed(tenant, kind),
            keys.files(tenant, self.job_id),
            keys.slots(tenant, "uploads"),
            keys.slots(tenant, "places"),
        ]
        args = [str(self.job_id), str(tenant), kind, text, _sha256(what), self.max_attempts, IDEMPOTENCY_S]
        args += [-1 if self.max_open is None else self.max_open, self.cost, self.files.most_open]
        args += [*(self.place or ("", "")), self.origin.as_text(), "\n".join(self.needs)]
        for name, content in self.files.contents.items():
            args += [name, content]
        return scripts.CREATE_JOB, names, args

    def created(self, answer: list[Any]) -> tuple[JobRecord, bool]:
        """The job, and whether it is new.

        Raises:
            IdempotencyConflict: the key of ``once`` was used for another request.
            QuotaExceeded: the tenant has ``max_open`` open jobs.
            UnknownTenant: there is no such tenant.
            AlreadyExists: there is a job of this id for another request.
            UnderMaintenance: nothing new is accepted.
            NoRoomForFiles: nothing was created, for so many jobs are open that no more files are kept.
        """
        outcome, *found = answer
        if outcome not in ("created", "same"):
            raise self._refusal(outcome)
        return record_of(fields_of(found[0])), outcome == "created"

    def _refusal(self, outcome: str) -> ServiceError | NoRoomForFiles:
        if outcome == "conflict":
            return idempotency_conflict()
        if outcome == "quota":
            subject, expected = f"{self.kind} jobs of {self.tenant}", f"at most {self.max_open} open"
            return QuotaExceeded(subject, expected, "one more", "try again when one is done")
        if outcome == "exists":
            return AlreadyExists(f"job {self.job_id}", "a new id", "one that is taken")
        if outcome == "maintenance":
            return under_maintenance()
        if outcome == "no-room":
            return NoRoomForFiles(str(self.job_id))
        assert outcome == "no-tenant", outcome
        return UnknownTenant(f"tenant {self.tenant}", "a tenant", "none of that name", "create it first")


class NoRoomForFiles(Exception):
    """A job was not created: it came with files, and the store keeps no more of them."""


async def create_on_loop(link: AsyncRedisLink, new: NewJob) -> tuple[JobRecord, bool]:
    """``Jobs.create`` on an event loop, without a thread.

    Raises:
        what ``NewJob.created`` raises; StateUnavailable when Redis does not answer.
    """
    return new.created(await link.run(*new.call()))


def check_kind(kind: str) -> None:
    """Return when there are jobs of this kind."""
    if kind not in keys.KINDS:
        raise InputError("kind of job", " or ".join(keys.KINDS), repr(kind))


def idempotency_conflict() -> IdempotencyConflict:
    """The error about a client's own name for a request that stands for another request."""
    expected = "the request it was first used for"
    return IdempotencyConflict("idempotency key", expected, "another request", "use a new key")


def idempotency_digest(kind: str, key: str) -> str:
    """The end of the Redis key of a client's own name for a request.

    Hashed, so that whatever a client sends has the same length and no meaning in a key name.
    """
    if not 1 <= len(key) <= 200 or not key.isprintable():
        raise InputError("idempotency key", "1 to 200 printable characters", f"{len(key)} characters")
    return _sha256(f"{kind} {key}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
