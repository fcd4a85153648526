"""Submits fits from outside the cluster, follows, resumes and cancels them."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.control.batch_jobs import BatchJobs
from cluster.control.fit_requests import ATTEMPTS_PER_FIT, ENGINE_WORK, FitOptions, FitRequest
from cluster.ids import FitId, IdentityName, TenantId
from cluster.state.problems import Problem
from cluster.state.records import Claim, JobRecord
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import ClusterUnavailable, Conflict, InputError, LeaseLost
from m2dao.files import file_sha256

MAX_FITS = 500  # per request: the ids travel on a command line
LOOK_EVERY_S = 5.0  # how often a follower asks Ray whether its job still lives


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A person's name and the video they are in."""

    identity: IdentityName
    path: Path

    @classmethod
    def parse(cls, text: str) -> Recording:
        """``anna=video.mp4``.

        Raises:
            InputError: it is not of that form, or there is no such file.
        """
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise InputError(f"--identity {text}", "NAME=VIDEO, for example anna=anna.mp4", repr(text))
        recording = cls(identity=IdentityName.parse(name), path=Path(path).expanduser())
        if not recording.path.is_file():
            raise InputError(
                str(recording.path), "a video file", "nothing" if not recording.path.exists() else "no file"
            )
        if recording.path.stat().st_size == 0:
            raise InputError(str(recording.path), "a video file", "an empty file")
        return recording


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Fits that were submitted together."""

    name: str
    submission_id: str
    tenant: TenantId
    jobs: tuple[JobRecord, ...]

    @property
    def fit_ids(self) -> tuple[FitId, ...]:
        return tuple(job.fit_id for job in self.jobs)


class FitService:
    """What an operator can do about fits.

    Args:
        state: where the durable jobs are.
        store: where recordings go.
        cluster: runs one job for each batch.
        work: the work function that the cluster is to run, as ``module:attribute``.
        job_flags: more flags for ``train_jobs.job``.
        job_env: more environment variables for it.
    """

    def __init__(
        self,
        *,
        state: StateStore,
        store: ObjectStore,
        cluster: BatchJobs,
        work: str = ENGINE_WORK,
        job_flags: Sequence[str] = (),
        job_env: Mapping[str, str] | None = None,
    ):
        self._state, self._store, self._cluster = state, store, cluster
        self._work, self._job_flags, self._job_env = work, tuple(job_flags), dict(job_env or {})

    def submit(
        self,
        tenant: TenantId,
        recordings: Sequence[Recording],
        options: FitOptions,
        *,
        consent: str | None = None,
        promote: bool = False,
        gate: dict[str, float] | None = None,
        on_progress: Callable[[str], None] = lambda text: None,
    ) -> Batch:
        """Upload recordings and start fitting them.

        Raises:
            InputError: no recording, or two of one identity.
            UnknownTenant: there is no such tenant.
            ClusterUnavailable: the cluster does not take the job; the fits stay queued, and ``resume`` starts them.
        """
        names = [recording.identity for recording in recordings]
        if not 1 <= len(names) <= MAX_FITS:
            raise InputError("identities", f"1 to {MAX_FITS} in one request", str(len(names)))
        if twice := sorted({str(name) for name in names if names.count(name) > 1}):
            raise InputError("identities", "each name once", f"{', '.join(twice)} more than once")
        self._cluster.check()  # before anything is uploaded
        self._store.ensure_bucket()
        batch = str(FitId.new())
        requests = []
        for recording in recordings:
            on_progress(f"{recording.identity}: reading {recording.path.name}")
            request = FitRequest(
                batch=batch,
                identity=recording.identity,
                recording_sha256=file_sha256(recording.path),
                recording_name=recording.path.name,
                options=options,
                consent=consent,
                promote=promote,
                gate=gate or {},
            )
            key = request.recording_key(tenant)
            if not self._store.exists(key):
                on_progress(f"{recording.identity}: uploading {recording.path.stat().st_size / 1e6:.1f} MB")
                self._store.put_file(key, recording.path)
            requests.append(request)
        return self._start(tenant, batch, [self._create(tenant, request) for request in requests])

    def resume(self, tenant: TenantId, fit_ids: Sequence[FitId]) -> list[Batch]:
        """Go on with fits whose Ray job is gone, from their step checkpoints.

        A fit that was interrupted keeps its id. One that failed gets a new id, and goes on where the failed one was.

        Raises:
            Conflict: a fit is done, or its Ray job is still at it.
            UnknownJob: there is no such fit.
        """
        by_batch: dict[str, list[JobRecord]] = {}
        renewed = str(FitId.new())
        for job in [self._state.jobs.get(tenant, fit_id) for fit_id in fit_ids]:
            request = FitRequest.of(job)
            if job.status == "done":
                raise Conflict(f"fit {job.id}", "a fit that is not done", "a finished one", "submit a new fit")
            if not job.finished and (active := self._cluster.active(request.batch)):
                raise Conflict(f"fit {job.id}", "no Ray job at it", f"job {active}", "watch it: m2dao-train watch")
            if job.status == "failed":
                again = dataclasses.replace(request, batch=renewed, steps_of=request.steps_of or str(job.id))
                by_batch.setdefault(renewed, []).append(self._create(tenant, again))
            else:
                by_batch.setdefault(request.batch, []).append(job)
        return [self._start(tenant, batch, jobs) for batch, jobs in by_batch.items()]

    def cancel(self, tenant: TenantId, fit_id: FitId) -> JobRecord:
        """End a fit; a worker that is at it notices within a step, and takes the next.

        Raises:
            Conflict: the fit has ended already.
            UnknownJob: there is no such fit.
        """
        jobs = self._state.jobs
        error = Problem(code="cancelled", title="Cancelled by an operator", detail=f"fit {fit_id}")
        while True:
            job = jobs.get(tenant, fit_id)
            if job.finished:
                raise Conflict(f"fit {fit_id}", "a fit that goes on", f"one that is {job.status}")
            claim: Claim | None = Claim(job=job, fence=job.fence, worker=job.worker)
            if job.status == "queued":
                claim = jobs.claim("fit", worker="operator", lease_s=30, tenant=tenant, job_id=fit_id)
            if claim is not None:
                with contextlib.suppress(LeaseLost):  # it changed hands just now: look again
                    return jobs.fail(claim, error)

    def follow(self, batch: Batch) -> Iterator[JobRecord]:
        """Every change of the batch's fits, until all have ended.

        Raises:
            ClusterUnavailable: the Ray job ended and left fits behind.
        """
        seen: dict[FitId, float] = {}
        looked = time.monotonic()
        with self._state.events.subscribe("jobs") as changes:
            while True:
                jobs = [self._state.jobs.get(batch.tenant, fit_id) for fit_id in batch.fit_ids]
                for job in jobs:
                    if seen.get(job.fit_id) != job.updated_s:
                        seen[job.fit_id] = job.updated_s
                        yield job
                if all(job.finished for job in jobs):
                    return
                changes.get(timeout_s=1.0)
                if time.monotonic() - looked > LOOK_EVERY_S:
                    looked = time.monotonic()
                    self._require_alive(batch)

    def batch_of(self, tenant: TenantId, fit_ids: Sequence[FitId]) -> Batch:
        """Fits that run already, to follow them.

        Raises:
            UnknownJob: there is no such fit.
            InputError: they were not submitted together.
        """
        jobs = tuple(self._state.jobs.get(tenant, fit_id) for fit_id in fit_ids)
        names = {FitRequest.of(job).batch for job in jobs}
        if len(names) != 1:
            raise InputError("fits", "fits that were submitted together", f"fits of {len(names)} batches")
        name = names.pop()
        return Batch(name=name, submission_id=self._cluster.last(name) or name, tenant=tenant, jobs=jobs)

    # -- inside -----------------------------------------------------------------------------------------------

    def _create(self, tenant: TenantId, request: FitRequest) -> JobRecord:
        cost = request.options.minutes or 1.0
        job, _ = self._state.jobs.create(tenant, "fit", request.as_dict(), max_attempts=ATTEMPTS_PER_FIT, cost=cost)
        return job

    def _start(self, tenant: TenantId, batch: str, jobs: Sequence[JobRecord]) -> Batch:
        flags = [word for job in jobs for word in ("--fit", str(job.id))]
        words = ["--tenant", str(tenant), "--batch", batch, "--work", self._work, *self._job_flags, *flags]
        submission_id = self._cluster.submit(batch, words, self._job_env)
        return Batch(name=batch, submission_id=submission_id, tenant=tenant, jobs=tuple(jobs))

    def _require_alive(self, batch: Batch) -> None:
        """Raise when the Ray job has ended although fits of it have not."""
        state = self._cluster.state(batch.submission_id)
        if not state.ended:
            return
        jobs = [self._state.jobs.get(batch.tenant, fit_id) for fit_id in batch.fit_ids]
        open_fits = [str(job.id) for job in jobs if not job.finished]
        if open_fits:
            raise ClusterUnavailable(
                f"Ray job {batch.submission_id}",
                "to do all its fits",
                f"{state.status.lower()}: {state.message}",
                f"go on with: m2dao-train resume --tenant {batch.tenant} {' '.join(open_fits)}",
            )
