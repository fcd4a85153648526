"""The connection to MLflow. The only module that imports mlflow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from m2dao.errors import AccessRefused, RegistryUnavailable, ServiceError, UnknownIdentity

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# MLflow's client retries for four minutes, far longer than a request can wait; and reports usage to its makers,
# which a site that handles faces and voices must not do. A site's own values win.
_CLIENT_ENV = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MlflowLink:
    """MLflow's client, and what needs more of MLflow than its client.

    Use it inside ``translated``: errors of MLflow then come out as ours. Safe to share between threads.
    """

    def __init__(self, url: str):
        for name, value in _CLIENT_ENV.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient  # seconds to import; only processes that use the registry pay

        self._url = url
        self.client: MlflowClient = MlflowClient(tracking_uri=url, registry_uri=url)

    def pages(self, method: str, query: str, max_results: int = 100) -> Iterator[Any]:
        """Everything that a searching method of the client finds, page by page."""
        token = None
        while True:
            with translated("model registry"):
                page = getattr(self.client, method)(query, max_results=max_results, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def make_once(self, make: Callable[[], Any]) -> None:
        """Make something; nothing happens when it is there already, or another process was faster."""
        from mlflow.exceptions import MlflowException

        try:
            make()
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def log(self, run_id: str, step: int, metrics: Mapping[str, float], params: Mapping[str, str]) -> None:
        """Add metrics of one step, and parameters, to a run."""
        from mlflow.entities import Metric, Param

        now_ms = int(time.time() * 1000)
        entries = [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        self.client.log_batch(run_id, entries, [Param(name, value) for name, value in params.items()])

    def delete_artifacts(self, run_id: str) -> None:
        """Delete the files of a run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        run = self.client.get_run(run_id)
        files = get_artifact_repository(run.info.artifact_uri, tracking_uri=self._url)
        files.delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow gives it no types


@contextlib.contextmanager
def translated(subject: str) -> Iterator[None]:
    """Turn errors of mlflow into ours."""
    from mlflow.exceptions import MlflowException, RestException

    try:
        yield
    except RestException as error:
        code = error.error_code
        alias_unknown = code == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
        if code == "RESOURCE_DOES_NOT_EXIST" or alias_unknown:
            raise UnknownIdentity(subject, "to be registered", "nothing of that name") from error
        if code in {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}:
            raise RegistryUnavailable(subject, "an answer of MLflow", code, "try again later") from error
        if code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
            raise AccessRefused(subject, "to be let in by MLflow", code, "check M2DAO_MLFLOW_URL") from error
        raise ServiceError(subject, "MLflow to accept the request", f"{code}: {error}"[:500]) from error
    except MlflowException as error:  # no answer at all, after the client's own retries
        raise RegistryUnavailable(subject, "an answer of MLflow", str(error)[:300], "try again later") from error
