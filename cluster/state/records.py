"""What a job looks like to those who read it: records, claims and backlogs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.ids import FitId, JobId, TenantId, parse_job_id
from cluster.state.problems import Problem
from cluster.telemetry.origin import Origin
from cluster.telemetry.traces import spans

FINISHED = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as it was when it was read."""

    id: JobId
    tenant: TenantId
    kind: str  # "render" or "fit"
    status: str  # "queued", "running", "done", "failed" or "cancelled"
    progress: float  # 0..1
    stage: str
    request: dict[str, Any]
    result: dict[str, Any] | None  # when done
    error: Problem | None  # when failed
    attempt: int  # claims so far
    max_attempts: int
    worker: str  # who has it or had it last
    fence: int  # token of the last claim; a supervisor that knows the worker to be dead can end its claim with it
    created_s: float  # Unix time
    updated_s: float  # Unix time
    retry_at_s: float = 0.0  # Unix time until which it is put off; 0 when it is not
    num_put_off: int = 0  # how often it was put off because something of ours was away
    num_dodged: int = 0  # how often a worker that had failed it before left it to others
    failed_on: tuple[str, ...] = ()  # the workers that failed it
    origin: Origin = Origin()
    needs: tuple[str, ...] = ()  # formats that whoever does it must know
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)  # what its worker shows beside its progress

    @property
    def finished(self) -> bool:
        """Whether it has ended, well or not."""
        return self.status in FINISHED

    @property
    def fit_id(self) -> FitId:
        """The id of a fit job; a type error for any other kind."""
        if not isinstance(self.id, FitId):
            raise TypeError(f"{self.id} is not a fit")
        return self.id

    def worked_on(self) -> contextlib.AbstractContextManager[None]:
        """Let log lines inside tell of this job, and spans belong to its trace."""
        return self.origin.continued(tenant=str(self.tenant), job=str(self.id))


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to work on a job until the lease runs out."""

    job: JobRecord
    fence: int
    worker: str

    @property
    def subject(self) -> str:
        return f"job {self.job.id}"

    def record_wait(self) -> None:
        """Make the span of the time until the first claim; later ones begin where an attempt ends."""
        if self.fence == 1:
            spans.record("queue", self.job.created_s, self.job.updated_s)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Which jobs a claim may take.

    Args:
        max_running: none of tenants that have so many claimed jobs of the kind; without it they do not count.
        serves: only those that need no other formats than these; all jobs when there are none.
    """

    max_running: int | None = None
    serves: Collection[str] = ()

    @property
    def known(self) -> str:
        """``serves`` as scripts look it up: each name whole, and none the beginning of another."""
        return "".join(f"\n{name}\n" for name in self.serves)


@dataclass(frozen=True, kw_only=True)
class Span:
    """When jobs were made.

    Args:
        since_s: not before, as Unix time; None for any time.
        until_s: before this, as Unix time; None for any time.
    """

    since_s: float | None = None
    until_s: float | None = None

    @property
    def oldest(self) -> str:
        """The lowest place in the index."""
        return "-inf" if self.since_s is None else f"{self.since_s * 1e6:.0f}"

    @property
    def newest(self) -> str:
        """The place in the index below which they are."""
        return "+inf" if self.until_s is None else f"({self.until_s * 1e6:.0f}"


ALWAYS = Span()


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The open jobs of one kind."""

    num_queued: int
    num_running: int
    num_delayed: int  # put off
    queued_cost: float  # sum of what ``create`` was told
    running_cost: float  # the same of claimed jobs, however far they are


def fields_of(flat: Sequence[str]) -> dict[str, str]:
    """A hash as scripts answer it: name, value, name, value, ..."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def record_of(fields: Mapping[str, str]) -> JobRecord:
    """The job that a hash of the store describes."""

    def loaded(name: str) -> Any:
        return json.loads(fields[name]) if fields.get(name) else None

    error = loaded("error")
    record = JobRecord(
        id=parse_job_id(fields["id"]),
        tenant=TenantId(fields["tenant"]),
        kind=fields["kind"],
        status=fields["status"],
        progress=float(fields["progress"]),
        stage=fields["stage"],
        request=loaded("request"),
        result=loaded("result"),
        error=None if error is None else Problem.from_dict(error),
        attempt=int(fields["attempt"]),
        max_attempts=int(fields["max_attempts"]),
        worker=fields["worker"],
        fence=int(fields["fence"]),
        created_s=int(fields["created"]) / 1e6,
        updated_s=int(fields["updated"]) / 1e6,
        retry_at_s=int(fields.get("not_before", 0)) / 1e6,
        num_put_off=int(fields.get("put_off", 0)),
        num_dodged=int(fields.get("dodged", 0)),
        failed_on=tuple(fields.get("failed_on", "").split()),
        origin=Origin.from_text(fields.get("origin", "")),
        needs=tuple(fields.get("needs", "").splitlines()),
        figures=loaded("figures") or {},
    )
    return record if record.finished else dataclasses.replace(record, result=None, error=None)
