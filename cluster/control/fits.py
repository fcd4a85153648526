"""Queues fits, follows, resumes and cancels them; ``fit_controller.py`` starts what is queued."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.control.fit_requests import ATTEMPTS_PER_FIT, FitOptions, FitRequest
from cluster.ids import FitId, IdentityName, ModelRef, TenantId
from cluster.state.new_jobs import Once
from cluster.state.records import JobRecord
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from cluster.telemetry.traces import spans
from m2dao.errors import Conflict, InputError, UnknownIdentity, UnknownJob
from m2dao.files import file_sha256

_ORDER = "fit-order"  # what clients' own names for wishes are kept under
MAX_FITS = 500  # per request: the ids travel on a command line


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
    """Fits that are followed together."""

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
    """

    def __init__(self, *, state: StateStore, store: ObjectStore):
        self._state, self._store = state, store

    def submit(
        self,
        tenant: TenantId,
        recordings: Sequence[Recording],
        options: FitOptions,
        *,
        consent: str | None = None,
        promote: bool = False,
        gate: dict[str, float] | None = None,
        priority: int = 0,
        on_progress: Callable[[str], None] = lambda text: None,
    ) -> Batch:
        """Upload recordings and queue a fit of each. The same wish is one fit, as long as that fit is open.

        Raises:
            InputError: no recording, or two of one identity.
            UnknownTenant: there is no such tenant.
            UnderMaintenance: nothing new is accepted.
        """
        self._state.maintenance.check()  # before anything is uploaded; the job store looks again
        names = [recording.identity for recording in recordings]
        if not 1 <= len(names) <= MAX_FITS:
            raise InputError("identities", f"1 to {MAX_FITS} in one request", str(len(names)))
        if twice := sorted({str(name) for name in names if names.count(name) > 1}):
            raise InputError("identities", "each name once", f"{', '.join(twice)} more than once")
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
                priority=priority,
            )
            key = request.recording_key(tenant)
            if not self._store.exists(key):
                on_progress(f"{recording.identity}: uploading {recording.path.stat().st_size / 1e6:.1f} MB")
                self._store.put_file(key, recording.path)
            requests.append(request)
        return Batch(tenant=tenant, jobs=tuple(self._create(tenant, request) for request in requests))

    def order(
        self, tenant: TenantId, request: FitRequest, *, key: str | None = None, max_open: int | None = None
    ) -> JobRecord:
        """Queue a fit of a stored recording. The same wish is one fit, unless that one failed.

        Args:
            key: the client's own name for this wish. Within 24 hours it leads to the same fit, also when it has ended.
                A new name after the end of a fit is the wish for another one.
            max_open: how many open fits the tenant may have, this one included.

        Raises:
            IdempotencyConflict: the key was used for another wish.
            QuotaExceeded: the tenant has ``max_open`` open fits.
            UnderMaintenance: nothing new is accepted.
        """
        if key is None:
            return self._create(tenant, request, max_open=max_open, serves=self._has_version)
        once = Once(key=key, fingerprint=_wish(request))
        before = self._state.orders.bind(tenant, _ORDER, once)
        if before is not None:
            with contextlib.suppress(UnknownJob):  # its record has left
                return self._state.jobs.get(tenant, before)
        job = self._create(tenant, request, max_open=max_open)
        self._state.orders.note(tenant, _ORDER, once, job.id)
        return job

    def resume(self, tenant: TenantId, fit_ids: Sequence[FitId]) -> Batch:
        """Go on with fits that failed or were cancelled, from their step checkpoints, under new ids.

        A fit that is open needs nothing: it goes on by itself, under its id.

        Raises:
            Conflict: a fit is done.
            UnknownJob: there is no such fit.
        """
        renewed, jobs = str(FitId.new()), []
        for job in [self._state.jobs.get(tenant, fit_id) for fit_id in fit_ids]:
            if job.status == "done":
                raise Conflict(f"fit {job.id}", "a fit that is not done", "a finished one", "submit a new fit")
            if job.finished:
                request = FitRequest.of(job)
                again = dataclasses.replace(request, batch=renewed, steps_of=request.steps_of or str(job.id))
                job = self._create(tenant, again)
            jobs.append(job)
        return Batch(tenant=tenant, jobs=tuple(jobs))

    def cancel(self, tenant: TenantId, fit_id: FitId) -> JobRecord:
        """End a fit; a worker that is at it notices within a step, and takes the next.

        Raises:
            Conflict: the fit has ended already.
            UnknownJob: there is no such fit.
        """
        return self._state.jobs.cancel(tenant, fit_id)

    def follow(self, batch: Batch) -> Iterator[JobRecord]:
        """Every change of the batch's fits, until all have ended."""
        seen: dict[FitId, float] = {}
        with self._state.events.subscribe(jobs=(batch.tenant, "fit")) as changes:
            while True:
                jobs = [self._state.jobs.get(batch.tenant, fit_id) for fit_id in batch.fit_ids]
                for job in jobs:
                    if seen.get(job.fit_id) != job.updated_s:
                        seen[job.fit_id] = job.updated_s
                        yield job
                if all(job.finished for job in jobs):
                    return
                changes.get(timeout_s=1.0)

    def batch_of(self, tenant: TenantId, fit_ids: Sequence[FitId]) -> Batch:
        """Fits that are there already, to follow them.

        Raises:
            UnknownJob: there is no such fit.
        """
        return Batch(tenant=tenant, jobs=tuple(self._state.jobs.get(tenant, fit_id) for fit_id in fit_ids))

    # -- inside -----------------------------------------------------------------------------------------------

    def _create(
        self,
        tenant: TenantId,
        request: FitRequest,
        *,
        max_open: int | None = None,
        serves: Callable[[JobRecord], bool] = lambda job: False,
    ) -> JobRecord:
        """Queue a fit, unless the very same one is open: a command that is repeated makes nothing twice.

        Args:
            serves: whether one that has ended is what is wished for.
        """
        with spans.span("accept") as accepting:
            job = self._queue(tenant, request, max_open=max_open, serves=serves)
            accepting.set(tenant=str(tenant), job=str(job.id))
        return job

    def _queue(
        self, tenant: TenantId, request: FitRequest, *, max_open: int | None, serves: Callable[[JobRecord], bool]
    ) -> JobRecord:
        fingerprint = _wish(request)
        cost, after = request.options.minutes or 1.0, ""
        while True:
            once = Once(key=f"{fingerprint} {after}", fingerprint=fingerprint)
            job, _ = self._state.jobs.create(
                tenant,
                "fit",
                request.as_dict(),
                once=once,
                max_attempts=ATTEMPTS_PER_FIT,
                max_open=max_open,
                cost=cost,
            )
            if not job.finished or serves(job):
                return job
            after = str(job.id)  # that one has ended: this is the wish for another one

    def _has_version(self, job: JobRecord) -> bool:
        """Whether a fit has made a version that is still there."""
        if job.result is None:
            return False
        try:
            self._state.versions.facts(ModelRef.parse(job.result["ref"]))
        except UnknownIdentity:
            return False
        return True


def _wish(request: FitRequest) -> str:
    """What makes two requests the same fit: everything but the batch that it runs in and its priority."""
    wish = {name: value for name, value in request.as_dict().items() if name not in ("batch", "priority")}
    return hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()
