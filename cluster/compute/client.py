"""Connects to the Ray cluster, embedded or the site's own.

``connect`` is for programs that use Ray in their own process; ``environment`` for those that start another program
(``ray job submit``, ``serve run``), which must have it in place before it imports Ray. ``private_ray`` is for work that
needs all cores of this machine and no cluster.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.settings import Settings
from cluster.stack.services import LOOPBACK, ray_environment
from m2dao.errors import ClusterUnavailable

NAMESPACE = "m2dao"


def environment(settings: Settings) -> dict[str, str]:
    """The variables by which Ray reaches the cluster of ``settings`` and reports to nobody."""
    host = settings.require("ray.address").rpartition(":")[0]
    # A head that runs answers at once; Ray's 20 tries let a wrong address or token wait for minutes.
    return {**ray_environment(host, settings.ray.token_file), "RAY_NUM_REDIS_GET_RETRIES": "3"}


def connect(settings: Settings, **options: Any) -> None:
    """Join the cluster as a driver; nothing happens when this process has joined it already.

    Args:
        options: for ``ray.init``, for example ``runtime_env`` or ``log_to_driver``.

    Raises:
        ClusterUnavailable: the head does not answer, or refuses our token.
    """
    variables = environment(settings)
    os.environ.update(variables)
    if "ray" in sys.modules:
        _reload_environment(loopback=settings.require("ray.address").startswith(f"{LOOPBACK}:"))
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(address=settings.ray.address, namespace=NAMESPACE, **options)
    except (ConnectionError, TimeoutError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        got, remedy = _why(error)
        raise ClusterUnavailable(f"Ray at {settings.ray.address}", "to join the cluster", got, remedy) from error


def _why(error: Exception) -> tuple[str, str]:
    """What kept us from joining a cluster, and what to do."""
    said = "".join(traceback.format_exception(error))  # the reason is often only in Ray's cause
    if "InvalidAuthToken" in said:
        return "our token is not the cluster's", "check M2DAO_RAY_TOKEN_FILE"
    if "No node info found" in said:
        return (
            "its head answers, but no Ray of that cluster runs on this machine",
            "run this on a machine of the cluster: ray attach, or kubectl exec",
        )
    return str(error)[:300], "start it with m2dao-cluster up"


@contextmanager
def private_ray() -> Iterator[None]:
    """A Ray of this process alone, on the loopback and behind a token, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="m2dao-ray-") as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        with _environment_of(ray_environment(LOOPBACK, token)):
            if "ray" in sys.modules:
                _reload_environment(loopback=True)
            import ray

            ray.init(namespace=NAMESPACE, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
            try:
                yield
            finally:
                ray.shutdown()


@contextmanager
def _environment_of(variables: dict[str, str]) -> Iterator[None]:
    """Hold ``variables`` inside only: nobody else is to present the token of a Ray that is gone."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _reload_environment(*, loopback: bool) -> None:
    """Ray reads its variables when it is imported; where that was before us, it must look again."""
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]  # compiled: no types, and no public name

    ray_constants.ENABLE_RAY_CLUSTER = not loopback
    Config.initialize("")
