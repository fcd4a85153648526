"""Durable jobs: created once, done at least once, finished exactly once.

    create -> queued -> claim -> running -> finish -> done
                 ^                 |  \\---- fail ---> failed
                 |---- the lease ran out, or the worker gave the job back
                 `---- its time has come <- delayed <- the worker put the job off

An open job can also be cancelled; a worker that has it is refused from then on.

A worker *claims* a job for some seconds (the lease) and renews the claim with heartbeats. When it dies, the lease
runs out and the next claim takes the job over. After ``max_attempts`` claims the job fails instead, so a job that kills
its worker cannot do so for ever. Each claim carries a fencing token, a number that grows with every claim. A worker
that was only slow, and whose job somebody else has taken since, is refused by its old token. All times are Redis's own,
so the workers' clocks do not matter.

Each change is one Lua script, thus one step. It can be run twice, as when its answer was lost: the second run changes
nothing and answers the same. Tenants take turns by cost: next is the tenant that has been served least, and a tenant
with a thousand queued jobs delays another tenant's first job by one job, not by a thousand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from cluster.faults import Backoff
from cluster.ids import FitId, JobId, RenderId, TenantId, parse_job_id
from cluster.state import keys, scripts
from cluster.state.link import RedisLink, new_nonce
from cluster.state.new_jobs import ID_TYPES, NewJob, Once, check_kind
from cluster.state.problems import Problem
from cluster.state.records import ALWAYS, Backlog, Claim, JobRecord, Span, Terms, fields_of, record_of
from m2dao.errors import Conflict, InputError, LeaseLost, UnknownJob, UnknownObject

RETENTION_S = 7 * 24 * 3600
_BACKOFF = Backoff()
_ANY = Terms()
_SEEN_AT_ONCE, _MOST_SEEN = 100, 300  # jobs that are read for one page

_RESTS = "rests/"  # before the name of a tenant


class Jobs:
    """The jobs of all tenants. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink, *, retention_s: int = RETENTION_S, backoff: Backoff = _BACKOFF):
        self._link = link
        self._retention_s = retention_s
        self._backoff = backoff

    # -- for those who ask ------------------------------------------------------------------------------------

    def create(
        self,
        tenant: TenantId,
        kind: str,
        request: dict[str, Any],
        *,
        job_id: JobId | None = None,
        once: Once | None = None,
        max_attempts: int = 3,
        max_open: int | None = None,
        cost: float = 1.0,
    ) -> tuple[JobRecord, bool]:
        """Queue a job. Asking again with the same id and request is the same as asking once.

        Args:
            tenant: whose job it is.
            kind: "render" or "fit".
            request: what is to be done; anything that JSON can hold.
            job_id: its id, when it had to be known before; a new one otherwise.
            once: when a client may ask for the same twice.
            max_attempts: claims before the job fails.
            max_open: how many open jobs of this kind the tenant may have, this one included.
            cost: its share of ``Backlog.queued_cost``, for example seconds of audio.

        Returns:
            the job, and whether it is new.

        Raises:
            what ``NewJob.created`` raises.
        """
        check_kind(kind)
        return self.add(
            NewJob(
                tenant=tenant,
                kind=kind,
                job_id=job_id or (FitId.new() if kind == "fit" else RenderId.new()),
                request=request,
                once=once,
                max_attempts=max_attempts,
                max_open=max_open,
                cost=cost,
            )
        )

    def add(self, new: NewJob) -> tuple[JobRecord, bool]:
        """``create`` for a job that is described already."""
        return new.created(self._link.run(*new.call()))

    def get(self, tenant: TenantId, job_id: JobId) -> JobRecord:
        """One of the tenant's jobs.

        Raises:
            UnknownJob: there is none, or it is another tenant's.
        """
        fields = self._link.hash(keys.job(tenant, job_id))
        if "id" not in fields:
            raise _unknown(job_id)
        return record_of(fields)

    def list(self, tenant: TenantId, kind: str, *, limit: int = 100, offset: int = 0) -> list[JobRecord]:
        """The tenant's jobs of a kind, newest first. Finished jobs leave after a week."""
        check_kind(kind)
        index = keys.job_lists(tenant, kind)[2]
        ids = self._link.call("ZREVRANGE", index, offset, offset + limit - 1)
        tables = self._link.hashes([keys.job(tenant, parse_job_id(i)) for i in ids])
        gone = [i for i, fields in zip(ids, tables, strict=True) if "id" not in fields]
        if gone:
            self._link.call("ZREM", index, *gone)
        return [record_of(fields) for fields in tables if "id" in fields]

    def page(
        self,
        tenant: TenantId,
        kind: str,
        *,
        keep: Callable[[JobRecord], bool] = lambda job: True,
        span: Span = ALWAYS,
        after: str = "",
        limit: int = 20,
    ) -> tuple[Sequence[JobRecord], str | None]:
        """A page of the tenant's jobs of a kind, the newest first, and where the next page begins.

        Args:
            tenant: whose.
            kind: "render" or "fit".
            keep: which of them. A page may be short, even empty, where few of many are kept.
            span: when they were made.
            after: what the page before gave; empty for the first.
            limit: how many at most.
        """
        check_kind(kind)
        index, found, num_seen = keys.job_lists(tenant, kind)[2], [], 0
        while num_seen < _MOST_SEEN:
            before, newest = after, f"({after}" if after else span.newest
            ids = self._link.call("ZREVRANGEBYSCORE", index, newest, span.oldest, "LIMIT", 0, _SEEN_AT_ONCE)
            for fields in self._link.hashes([keys.job(tenant, parse_job_id(job_id)) for job_id in ids]):
                num_seen += 1
                if "id" not in fields:
                    continue
                job = record_of(fields)
                after = f"{job.created_s * 1e6:.0f}"
                if keep(job):
                    found.append(job)
                    if len(found) == limit:
                        return found, after
            if len(ids) < _SEEN_AT_ONCE or after == before:
                return found, None
        return found, after

    def open(self, kind: str) -> Sequence[JobRecord]:
        """The jobs of a kind that have not ended, of all tenants, oldest first."""
        check_kind(kind)
        names = self._link.run(scripts.OPEN_JOBS, [], [kind])
        found = [record_of(fields) for fields in self._link.hashes(names) if "id" in fields]
        return sorted((job for job in found if not job.finished), key=lambda job: job.created_s)

    def cancel(self, tenant: TenantId, job_id: JobId) -> JobRecord:
        """End an open job without a result. A worker that has it learns so at its next heartbeat.

        A job that is cancelled already stays as it is.

        Raises:
            UnknownJob: there is none, or it is another tenant's.
            Conflict: it is done or failed.
        """
        kind = _kind_of(job_id)
        names = [keys.job(tenant, job_id), *keys.job_lists(tenant, kind)[:2], keys.delayed(tenant, kind)]
        args = [str(job_id), str(tenant), self._retention_s]
        outcome, *found = self._link.run(scripts.CANCEL_JOB, names, args)
        if outcome == "unknown":
            raise _unknown(job_id)
        if outcome != "cancelled":
            raise Conflict(f"job {job_id}", "a job that is queued or running", f"one that is {outcome}")
        return record_of(fields_of(found[0]))

    def backlog(self, kind: str, *, tenant: TenantId | None = None, serves: Collection[str] = ()) -> Backlog:
        """The open jobs of a kind, of one tenant or of all; with ``serves`` those that need no other formats."""
        check_kind(kind)
        args = [kind, str(tenant) if tenant else "", Terms(serves=serves).known]
        queued, running, delayed, *costs = self._link.run(scripts.BACKLOG_OF_JOBS, [], args)
        return Backlog(
            num_queued=queued,
            num_running=running,
            num_delayed=delayed,
            queued_cost=costs[0] / 1000,
            running_cost=costs[1] / 1000,
        )

    def want_place(self, kind: str, tenant: TenantId, *, rests: bool) -> None:
        """Say that a tenant's jobs wait for a worker's place.

        Args:
            rests: they have just given way to somebody, and do not ask for the next one.
        """
        check_kind(kind)
        self._link.call("ZADD", keys.wanting(kind), self._link.call("TIME")[0], f"{_RESTS if rests else ''}{tenant}")

    def wanting(self, kind: str, *, within_s: int, rests: bool) -> AbstractSet[TenantId]:
        """The tenants of which ``want_place`` was said in the last seconds; with those that rest or without."""
        check_kind(kind)
        before = int(self._link.call("TIME")[0]) - within_s
        self._link.call("ZREMRANGEBYSCORE", keys.wanting(kind), "-inf", f"({before}")
        words = self._link.call("ZRANGE", keys.wanting(kind), 0, -1)
        return {TenantId(word.removeprefix(_RESTS)) for word in words if rests or not word.startswith(_RESTS)}

    # -- for workers ------------------------------------------------------------------------------------------

    def claim(
        self,
        kind: str,
        *,
        worker: str,
        lease_s: float,
        tenant: TenantId | None = None,
        job_id: JobId | None = None,
        nonce: str | None = None,
        begun: bool = True,
        terms: Terms = _ANY,
    ) -> Claim | None:
        """Take the next job, first making jobs whose lease ran out available again.

        Args:
            kind: "render" or "fit".
            worker: who takes it, for people who look.
            lease_s: how long the claim lasts without a heartbeat; allow for several missed ones.
            tenant: take only this tenant's jobs.
            job_id: take only this job (name its tenant as well).
            nonce: names this claim. After a ``StateUnavailable`` it is not known whether a job was taken; with the
                same nonce, within a minute, that job is the answer, and no second one is taken.
            begun: False when the job goes to a worker that calls ``begin``. A claim that runs out before is not
                counted as an attempt.
            terms: which jobs it may be; the others keep their places.

        Returns:
            the claim, or None when nothing is waiting.
        """
        check_kind(kind)
        if job_id is not None and tenant is None:
            raise TypeError("claim of one job needs its tenant too")
        args = [kind, worker, _milliseconds(lease_s), str(tenant or ""), str(job_id or ""), self._retention_s]
        args += [int(not begun), -1 if terms.max_running is None else terms.max_running, terms.known]
        names, num_passed = [keys.answer(nonce or new_nonce())], 0
        while (answer := self._link.run(scripts.CLAIM_JOB, names, [*args, num_passed])) and answer[0] == "more":
            num_passed = int(answer[1])
        if not answer:
            return None
        job = record_of(fields_of(answer))
        return Claim(job=job, fence=job.fence, worker=worker)

    def begin(self, tenant: TenantId, job_id: JobId, fence: int, *, worker: str, lease_s: float) -> Claim:
        """Take over a claim that somebody else made; the first heartbeat of ``worker``.

        Raises:
            LeaseLost: the job is somebody else's now, or gone.
        """
        kind = _kind_of(job_id)
        names = [keys.job(tenant, job_id), *keys.job_lists(tenant, kind)]
        args = [str(job_id), str(tenant), fence, worker, _milliseconds(lease_s), "starting"]
        answer, *found = self._link.run(scripts.BEGIN_JOB, names, args)
        if answer != "ok":
            raise _lost(job_id, worker, fence)
        return Claim(job=record_of(fields_of(found[0])), fence=fence, worker=worker)

    def heartbeat(
        self, claim: Claim, *, lease_s: float, progress: float | None = None, stage: str | None = None
    ) -> None:
        """Renew a claim and, on the way, say how far the work is.

        Raises:
            LeaseLost: the job is somebody else's now, or gone. Stop working on it.
        """
        if progress is not None and not 0 <= progress <= 1:
            raise InputError("progress", "0 to 1", str(progress))
        share = "" if progress is None else progress
        words = [_milliseconds(lease_s), share, "" if stage is None else stage, int(stage is not None)]
        if self._fenced(scripts.HEARTBEAT_JOB, claim, words) != "ok":
            raise _lost(claim.job.id, claim.worker, claim.fence)

    def files(self, claim: Claim) -> Mapping[str, bytes]:
        """The files that are kept with a claimed job.

        Raises:
            UnknownObject: there are none; the job has ended.
        """
        found = self._link.blobs(keys.files(claim.job.tenant, claim.job.id))
        if not found:
            raise UnknownObject(f"files of job {claim.job.id}", "files kept with the job", "none")
        return found

    def kept_files(self, tenant: TenantId, job_id: JobId) -> Mapping[str, bytes]:
        """The files of a job that is open, or that failed not long ago; empty when there are none."""
        return self._link.blobs(keys.files(tenant, job_id))

    def finish(self, claim: Claim, result: dict[str, Any]) -> JobRecord:
        """Record the result. Saying so again under the same claim changes nothing.

        Raises:
            LeaseLost: the job is somebody else's now, or gone; this result does not count.
        """
        return self._end(claim, "done", json.dumps(result, allow_nan=False))

    def fail(self, claim: Claim, error: Problem, *, retry: bool = False, failed_on: str = "") -> JobRecord:
        """Record that the job failed, or queue it again when ``retry`` is set and attempts are left.

        Args:
            claim: what ends.
            error: why.
            retry: whether another attempt may end otherwise.
            failed_on: the worker to be avoided, if any.

        Raises:
            LeaseLost: the job is somebody else's now, or gone.
        """
        outcome = "retry" if retry else "failed"
        return self._end(claim, outcome, json.dumps(error.as_dict()), failed_on=failed_on)

    def put_off(self, claim: Claim, error: Problem, *, most: int, failed_on: str = "") -> JobRecord:
        """Give a job back because of a failure of ours: uncounted, for a wait that grows.

        Args:
            claim: what ends.
            error: what is the matter.
            most: how often the job may be put off in all; once more, and it fails with this error.
            failed_on: the worker to be avoided, if any.

        Raises:
            LeaseLost: the job is somebody else's now, or gone.
        """
        wait_s = self._backoff.wait_s(claim.job.num_put_off)
        text = json.dumps(error.as_dict())
        return self._end(claim, "put off", text, wait_s=wait_s, most=most, failed_on=failed_on)

    def dodge(self, claim: Claim) -> JobRecord:
        """Leave a job to other workers, uncounted, after the shortest wait: this one has failed it before.

        Raises:
            LeaseLost: the job is somebody else's now, or gone.
        """
        return self._end(claim, "dodged", "", wait_s=self._backoff.wait_s(0))

    def release(self, claim: Claim) -> JobRecord:
        """Give a job back unharmed, so that it does not count as an attempt: this worker has to stop.

        Raises:
            LeaseLost: the job is somebody else's now, or gone.
        """
        return self._end(claim, "released", "")

    def _end(
        self, claim: Claim, outcome: str, text: str, *, wait_s: float = 0.0, most: int = 0, failed_on: str = ""
    ) -> JobRecord:
        words = [outcome, text, self._retention_s, round(wait_s * 1e6), most, failed_on]
        answer, *found = self._fenced(scripts.END_JOB, claim, words)
        if answer != "ok":
            raise _lost(claim.job.id, claim.worker, claim.fence)
        return record_of(fields_of(found[0]))

    def _fenced(self, script: str, claim: Claim, words: Sequence[Any]) -> Any:
        job = claim.job
        names = [keys.job(job.tenant, job.id), *keys.job_lists(job.tenant, job.kind)]
        return self._link.run(script, names, [str(job.id), str(job.tenant), claim.fence, *words])

    def requeue_expired(self, kind: str) -> None:
        """Make jobs whose lease ran out available again, as ``claim`` does, and count the backlog anew."""
        check_kind(kind)
        self._link.run(scripts.REQUEUE_JOBS, [], [kind, self._retention_s])


def _kind_of(job_id: JobId) -> str:
    return next(kind for kind, id_type in ID_TYPES.items() if isinstance(job_id, id_type))


def _unknown(job_id: JobId) -> UnknownJob:
    return UnknownJob(f"job {job_id}", "a job", "none of that id")


def _lost(job_id: JobId, worker: str, fence: int) -> LeaseLost:
    expected = f"to be claimed by {worker} (token {fence})"
    return LeaseLost(f"job {job_id}", expected, "another claim or state", "stop working on it")


def _milliseconds(seconds: float) -> int:
    if not 0 < seconds <= 24 * 3600:
        raise InputError("lease_s", "more than 0 seconds, at most a day", str(seconds))
    return max(1, round(seconds * 1000))
