"""Putting the application on a running Ray cluster and taking it off."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from cluster.compute.client import connect
from cluster.settings import ServeConfig, Settings
from cluster.stack.home import StackHome
from cluster.stack.services import LOOPBACK
from cluster.storage import ObjectStore
from m2dao.errors import ServiceError

_POLL_S = 0.5


@contextlib.contextmanager
def on_ray(settings: Settings) -> Iterator[None]:
    """Connected to the Ray cluster of ``settings``; a connection that this process has already is kept.

    Raises:
        ClusterUnavailable: it does not answer.
    """
    import ray

    was_connected = ray.is_initialized()
    connect(settings, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        if not was_connected:
            ray.shutdown()


def deploy(
    settings: Settings,
    config: ServeConfig,
    *,
    timeout_s: float = 180.0,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Start or update the application and wait until all of it is healthy and the API answers.

    Returns:
        the API's address.

    Raises:
        ClusterUnavailable: Ray does not answer.
        ServiceError: it did not become healthy in time; says what Serve said.
    """
    for name in ("redis.url", "s3.endpoint", "mlflow.url"):
        settings.require(name)
    deadline = time.monotonic() + timeout_s
    with_keeper = not StackHome(settings.home).is_running("keeper")
    _allow_origins(settings, config, progress)
    with on_ray(settings):
        from ray import serve

        from serve_apps.app import APP_NAME, build_app

        serve.start(
            # On every node that holds replicas, so that the API outlives the head; but an address that only the head
            # can be reached at has no use on others.
            proxy_location="HeadOnly" if settings.api.host == LOOPBACK else "EveryNode",
            http_options={"host": settings.api.host, "port": settings.api.port},
            logging_config={"encoding": "JSON", "log_level": settings.log_level},
        )
        target = serve.RunTarget(build_app(settings, config, with_keeper=with_keeper), name=APP_NAME, route_prefix="/")
        serve.run_many([target], wait_for_applications_running=False)
        _wait_healthy(APP_NAME, deadline, progress)
    url = api_url(settings)
    while not _answers(url):
        if time.monotonic() > deadline:
            raise ServiceError(f"API at {url}", "an answer", "none", "is the port taken? set M2DAO_API_PORT")
        time.sleep(_POLL_S)
    return url


def _allow_origins(settings: Settings, config: ServeConfig, progress: Callable[[str], None]) -> None:
    """Let pages fetch results, where there are such; the bucket of another site may forbid us to say so."""
    if not config.origins:
        return
    try:
        ObjectStore(settings).allow_origins(config.origins)
    except ServiceError as error:
        progress(f"pages cannot fetch results until the bucket allows {config.allowed_origins}: {error}")


def undeploy(settings: Settings, *, timeout_s: float = 600.0) -> bool:
    """Stop our application: queued renders stay queued, running ones may finish for ``drain_s``.

    Applications of others on the same cluster go on.

    Args:
        timeout_s: how long to wait for that before Serve is stopped regardless.

    Returns:
        whether it was running.
    """
    deadline = time.monotonic() + timeout_s
    with on_ray(settings):
        from ray import serve

        from serve_apps.app import APP_NAME

        was_running = APP_NAME in serve.status().applications
        if was_running:
            serve.delete(APP_NAME, _blocking=False)  # its own wait gives up after a minute, and says nothing
            while APP_NAME in serve.status().applications and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        if not serve.status().applications:  # others may serve on the same cluster
            serve.shutdown()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return was_running


def status(settings: Settings) -> dict[str, Any]:
    """How the application is: Serve's word for it, and the replicas of each deployment."""
    with on_ray(settings):
        from ray import serve

        from serve_apps.app import APP_NAME

        application = serve.status().applications.get(APP_NAME)
    deployments = [] if application is None else sorted(application.deployments.items())
    return {
        "status": "NOT_RUNNING" if application is None else str(application.status.value),
        "url": api_url(settings),
        "deployments": [
            {
                "name": name,
                "status": str(entry.status.value),
                "replicas": sum(num for state, num in entry.replica_states.items() if state == "RUNNING"),
                "message": entry.message,
            }
            for name, entry in deployments
        ],
    }


def api_url(settings: Settings) -> str:
    """Where this machine reaches the API."""
    host = "127.0.0.1" if settings.api.host in ("0.0.0.0", "::") else settings.api.host
    return f"http://{host}:{settings.api.port}"


def _wait_healthy(app_name: str, deadline: float, progress: Callable[[str], None]) -> None:
    from ray import serve

    said = ""
    while True:
        application = serve.status().applications[app_name]
        word = application.status.value
        parts = ", ".join(f"{name} {entry.status.value}" for name, entry in sorted(application.deployments.items()))
        if f"{word}: {parts}" != said:
            said = f"{word}: {parts}"
            progress(said)
        if word == "RUNNING":
            return
        messages = "; ".join(entry.message for entry in application.deployments.values() if entry.message)
        if word in ("DEPLOY_FAILED", "UNHEALTHY"):
            said = f"{application.message} {messages}"
            raise ServiceError("deployment of the API", "to become healthy", said[-2000:])
        if time.monotonic() > deadline:
            said = f"{said}; {messages}"
            raise ServiceError("deployment of the API", "to become healthy in time", said[-2000:])
        time.sleep(_POLL_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return bool(json.load(answer) == {"status": "ok"})
    except (urllib.error.URLError, OSError, ValueError):
        return False
