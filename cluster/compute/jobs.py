"""Ray jobs: submitted once by name, looked at, stopped."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.control.batch_jobs import BatchJobState
from cluster.settings import Settings
from cluster.stack.home import StackHome
from m2dao.errors import ClusterUnavailable, ConfigError
from m2dao.secrets import hide

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

_OF_THIS_MACHINE = ("M2DAO_HOME", "M2DAO_RAY_TOKEN_FILE")  # paths
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class RayJobs:
    """Ray's job submission. A batch's jobs are named ``<batch>-1``, ``<batch>-2`` and so on."""

    def __init__(self, settings: Settings):
        self._url = settings.require("ray.dashboard_url")
        self._settings = settings
        self._client_made: JobSubmissionClient | None = None

    def submit(self, batch: str, words: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit the job of a batch; returns its submission id."""
        # Ray answers 500 to an id that is taken, so look first. Run names must be new as well.
        number = 1
        while self._info(f"{batch}-{number}") is not None:
            number += 1
        submission_id = f"{batch}-{number}"
        python, settings = self._program()
        entrypoint = [python, "-m", "train_jobs.job", "--run-name", submission_id, *words]
        with _translated(f"Ray job {submission_id}"):
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(entrypoint),
                    submission_id=submission_id,
                    runtime_env={"env_vars": {**settings, **env}},
                )
            )

    def last(self, batch: str) -> str | None:
        """The newest submission of a batch."""
        number = 1
        while self._info(f"{batch}-{number}") is not None:
            number += 1
        return f"{batch}-{number - 1}" if number > 1 else None

    def stop(self, submission_id: str) -> None:
        """End a job and wait until it has ended; its fits stay queued or go back to the queue."""
        with _translated(f"Ray job {submission_id}"):
            self._client.stop_job(submission_id)
        while not self.state(submission_id).ended:
            time.sleep(0.2)

    def state(self, submission_id: str) -> BatchJobState:
        """How a submission is; the last lines of its log where it ended without a message."""
        info = self._info(submission_id)
        if info is None:
            return BatchJobState(status="STOPPED", ended=True, message="Ray does not know it (any more)")
        status, message = str(info.status.value), info.message or ""
        if status in _ENDED and not message:  # Ray's message already quotes the log
            with _translated(submission_id):
                message = "\n".join(self._client.get_job_logs(submission_id).splitlines()[-15:])
        return BatchJobState(status=status, ended=status in _ENDED, message=message)

    @property
    def _client(self) -> JobSubmissionClient:
        if self._client_made is None:
            from ray.job_submission import JobSubmissionClient

            with _translated(self._url):
                self._client_made = JobSubmissionClient(self._url, headers=self._headers())
        return self._client_made

    def _headers(self) -> dict[str, str] | None:
        """The cluster's token, given by hand: Ray reads it from the environment only while it is imported."""
        path = self._settings.ray.token_file
        if path is None:
            return None
        try:
            token = path.read_text().strip()
        except OSError as error:
            raise ConfigError("M2DAO_RAY_TOKEN_FILE", "a readable file", str(error)) from error
        hide([token])
        return {"authorization": f"Bearer {token}"}

    def _info(self, submission_id: str) -> JobDetails | None:
        with _translated(f"Ray job {submission_id}"):
            try:
                return self._client.get_job_info(submission_id)
            except RuntimeError as error:
                if "404" in str(error):
                    return None
                raise

    def _program(self) -> tuple[str, dict[str, str]]:
        """The interpreter of a job, and the settings in its environment.

        Secrets are left out, because Ray shows a job's environment in its dashboard. The embedded stack's are in the
        file that ``M2DAO_HOME`` leads to, and its interpreter is ours. Elsewhere the interpreter is whatever the image
        calls python, and all settings belong into the environment of the cluster's machines: an address of ours may be
        the end of a tunnel, which only we can reach.
        """
        settings = self._settings.to_env(secrets=False, serve=False)
        if StackHome(self._settings.home).is_own_dashboard(self._url):
            return sys.executable, {**settings, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        passed = settings if self._settings.ray.pass_settings else {}
        return "python", {name: value for name, value in passed.items() if name not in _OF_THIS_MACHINE}


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
