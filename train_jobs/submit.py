"""Fits from outside the cluster: upload, create durable jobs, submit one Ray job, follow, resume, cancel."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cluster.ids import FitId, IdentityName, TenantId
from cluster.jobs import Claim, JobRecord
from cluster.settings import Settings
from cluster.state import StateStore
from cluster.storage import ObjectStore, file_sha256
from m2dao.errors import ClusterUnavailable, ConfigError, Conflict, InputError, LeaseLost
from train_jobs.requests import FitRequest
from train_jobs.work import ENGINE_WORK, FitOptions

ATTEMPTS_PER_FIT = 3
MAX_FITS = 500  # per request: the ids travel on a command line
LOOK_EVERY_S = 5.0  # how often a follower asks Ray whether its job still lives
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


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
            raise InputError(str(recording.path), "a video file", "nothing" if not recording.path.exists() else "no file")
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
        return tuple(job.id for job in self.jobs)


class FitService:
    """What an operator can do about fits.

    Args:
        settings: where the services are.
        work: the work function that the cluster is to run, as ``module:attribute``.
        job_flags: more flags for ``train_jobs.job``.
        job_env: more environment variables for it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        work: str = ENGINE_WORK,
        job_flags: Sequence[str] = (),
        job_env: dict[str, str] | None = None,
    ):
        self._settings, self._work = settings, work
        self._job_flags, self._job_env = tuple(job_flags), dict(job_env or {})
        self.state = StateStore(settings)
        self.store = ObjectStore(settings)
        self._ray = RayJobs(settings)

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
            ClusterUnavailable: Ray does not take the job; the fits stay queued, and ``resume`` starts them.
        """
        names = [recording.identity for recording in recordings]
        if not 1 <= len(names) <= MAX_FITS:
            raise InputError("identities", f"1 to {MAX_FITS} in one request", str(len(names)))
        if twice := sorted({str(name) for name in names if names.count(name) > 1}):
            raise InputError("identities", "each name once", f"{', '.join(twice)} more than once")
        self._ray.check()  # before anything is uploaded
        self.store.ensure_bucket()
        batch = str(FitId.new())
        requests = []
        for recording in recordings:
            on_progress(f"{recording.identity}: reading {recording.path.name}")
            request = FitRequest(
                batch=batch, identity=recording.identity, recording_sha256=file_sha256(recording.path),
                recording_name=recording.path.name, options=options, consent=consent, promote=promote, gate=gate or {},
            )  # fmt: skip
            key = request.recording_key(tenant)
            if not self.store.exists(key):
                on_progress(f"{recording.identity}: uploading {recording.path.stat().st_size / 1e6:.1f} MB")
                self.store.put_file(key, recording.path)
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
        for job in [self.state.jobs.get(tenant, fit_id) for fit_id in fit_ids]:
            request = FitRequest.of(job)
            if job.status == "done":
                raise Conflict(f"fit {job.id}", "a fit that is not done", "a finished one", "submit a new fit")
            if not job.finished and (active := self._ray.active(request.batch)):
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
        jobs = self.state.jobs
        error = {"code": "cancelled", "title": "Cancelled by an operator", "detail": f"fit {fit_id}"}
        while True:
            job = jobs.get(tenant, fit_id)
            if job.finished:
                raise Conflict(f"fit {fit_id}", "a fit that goes on", f"one that is {job.status}")
            claim = Claim(job=job, fence=job.fence, worker=job.worker)
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
        with self.state.subscribe("jobs") as changes:
            while True:
                jobs = [self.state.jobs.get(batch.tenant, fit_id) for fit_id in batch.fit_ids]
                for job in jobs:
                    if seen.get(job.id) != job.updated_s:
                        seen[job.id] = job.updated_s
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
        jobs = tuple(self.state.jobs.get(tenant, fit_id) for fit_id in fit_ids)
        names = {FitRequest.of(job).batch for job in jobs}
        if len(names) != 1:
            raise InputError("fits", "fits that were submitted together", f"fits of {len(names)} submissions")
        name = names.pop()
        return Batch(name=name, submission_id=self._ray.last(name) or name, tenant=tenant, jobs=jobs)

    # -- inside -----------------------------------------------------------------------------------------------

    def _create(self, tenant: TenantId, request: FitRequest) -> JobRecord:
        cost = request.options.minutes or 1.0
        job, _ = self.state.jobs.create(tenant, "fit", request.as_dict(), max_attempts=ATTEMPTS_PER_FIT, cost=cost)
        return job

    def _start(self, tenant: TenantId, batch: str, jobs: Sequence[JobRecord]) -> Batch:
        flags = [word for job in jobs for word in ("--fit", str(job.id))]
        words = ["--tenant", str(tenant), "--batch", batch, "--work", self._work, *self._job_flags, *flags]
        submission_id = self._ray.submit(batch, words, self._job_env)
        return Batch(name=batch, submission_id=submission_id, tenant=tenant, jobs=tuple(jobs))

    def _require_alive(self, batch: Batch) -> None:
        """Raise when the Ray job has ended although fits of it have not."""
        status, message, log = self._ray.status(batch.submission_id)
        if status not in _ENDED:
            return
        jobs = [self.state.jobs.get(batch.tenant, fit_id) for fit_id in batch.fit_ids]
        open_fits = [str(job.id) for job in jobs if not job.finished]
        if open_fits:
            raise ClusterUnavailable(
                f"Ray job {batch.submission_id}", "to do all its fits", f"{status.lower()}: {message or log}",
                f"go on with: m2dao-train resume --tenant {batch.tenant} {' '.join(open_fits)}",
            )  # fmt: skip


class RayJobs:
    """Ray's job submission. A batch's jobs are named ``<batch>-1``, ``<batch>-2`` and so on."""

    def __init__(self, settings: Settings):
        settings.require("ray_dashboard_url")
        self._settings = settings
        self._client_made = None

    def check(self) -> None:
        """Return when Ray takes jobs; raise ClusterUnavailable otherwise."""
        with _translated(self._settings.ray_dashboard_url):
            self._client.get_version()

    def submit(self, batch: str, words: Sequence[str], env: dict[str, str]) -> str:
        """Submit the job of a batch; returns its submission id."""
        # Ray answers 500 to an id that is taken, so look first. Run names must be new as well.
        number = 1
        while self._info(f"{batch}-{number}") is not None:
            number += 1
        submission_id = f"{batch}-{number}"
        entrypoint = [self._python(), "-m", "train_jobs.job", "--run-name", submission_id, *words]
        with _translated(f"Ray job {submission_id}"):
            return self._client.submit_job(
                entrypoint=shlex.join(entrypoint),
                submission_id=submission_id,
                runtime_env={"env_vars": {**self._environment(), **env}},
            )

    def last(self, batch: str) -> str | None:
        """The newest submission of a batch."""
        number = 1
        while self._info(f"{batch}-{number}") is not None:
            number += 1
        return f"{batch}-{number - 1}" if number > 1 else None

    def active(self, batch: str) -> str | None:
        """The submission of a batch that has not ended, if there is one."""
        last = self.last(batch)
        return last if last is not None and self.status(last)[0] not in _ENDED else None

    def stop(self, submission_id: str) -> None:
        """End a job and wait until it has ended; its fits stay queued or go back to the queue."""
        with _translated(f"Ray job {submission_id}"):
            self._client.stop_job(submission_id)
        while self.status(submission_id)[0] not in _ENDED:
            time.sleep(0.2)

    def status(self, submission_id: str) -> tuple[str, str, str]:
        """Status, message and, when it has ended, the last lines of the log of a submission."""
        info = self._info(submission_id)
        if info is None:
            return "STOPPED", "Ray does not know it (any more)", ""
        status = str(info.status.value)
        log = ""
        if status in _ENDED and not info.message:  # Ray's message already quotes the log
            with _translated(submission_id):
                log = "\n".join(self._client.get_job_logs(submission_id).splitlines()[-15:])
        return status, info.message or "", log

    @property
    def _client(self):
        if self._client_made is None:
            from ray.job_submission import JobSubmissionClient

            with _translated(self._settings.ray_dashboard_url):
                self._client_made = JobSubmissionClient(self._settings.ray_dashboard_url, headers=self._headers())
        return self._client_made

    def _headers(self) -> dict[str, str] | None:
        """The cluster's token, given by hand: Ray looks for one in the environment only while it is being imported."""
        path = self._settings.ray_token_file
        if path is None:
            return None
        try:
            return {"authorization": f"Bearer {path.read_text().strip()}"}
        except OSError as error:
            raise ConfigError("M2DAO_RAY_TOKEN_FILE", "a readable file", str(error)) from error

    def _info(self, submission_id: str):
        with _translated(f"Ray job {submission_id}"):
            try:
                return self._client.get_job_info(submission_id)
            except RuntimeError as error:
                if "404" in str(error):
                    return None
                raise

    def _is_local(self) -> bool:
        return urlsplit(self._settings.ray_dashboard_url).hostname in ("127.0.0.1", "localhost", "::1")

    def _python(self) -> str:
        """On this machine our own interpreter; elsewhere whatever the cluster's image calls python."""
        return sys.executable if self._is_local() else "python"

    def _environment(self) -> dict[str, str]:
        """Settings for the job. Secrets are left out, because Ray shows a job's environment in its dashboard.

        The embedded stack's are in the file that ``M2DAO_HOME`` leads to; elsewhere they belong into the environment
        of the cluster's machines.
        """
        public = {f.metadata["env"] for f in dataclasses.fields(Settings) if not f.metadata["secret"]}
        env = {name: value for name, value in self._settings.to_env().items() if name in public}
        if self._is_local():
            env["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        return env


@contextlib.contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn errors of Ray's job submission into ours."""
    from ray.exceptions import RayError

    try:
        yield
    except (OSError, RuntimeError, RayError) as error:  # what its HTTP client raises is an OSError
        raise ClusterUnavailable(
            subject, "an answer of Ray", str(error)[:500], "is the stack up? m2dao-cluster status"
        ) from error
