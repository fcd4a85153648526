"""Connecting to the Ray cluster, embedded or the site's own.

``connect`` is for programs that use Ray in their own process; ``environment`` for those that start another program
(``ray job submit``, ``serve run``), which must have it in place before it imports Ray.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from cluster.services import LOOPBACK, ray_environment
from cluster.settings import Settings
from m2dao.errors import ClusterUnavailable

NAMESPACE = "m2dao"


def environment(settings: Settings) -> dict[str, str]:
    """The variables that Ray needs to reach the cluster of ``settings``, and to report nothing to its makers."""
    settings.require("ray_address")
    host = settings.ray_address.rpartition(":")[0]
    # A head that runs answers at once; Ray's 20 tries let a wrong address or token wait for minutes.
    return {**ray_environment(host, settings.ray_token_file), "RAY_NUM_REDIS_GET_RETRIES": "3"}


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
        _reload_environment(loopback=settings.ray_address.startswith(f"{LOOPBACK}:"))
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(address=settings.ray_address, namespace=NAMESPACE, **options)
    except (ConnectionError, TimeoutError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        refused = "InvalidAuthToken" in "".join(traceback.format_exception(error))  # Ray says so only in the cause
        raise ClusterUnavailable(
            f"Ray at {settings.ray_address}",
            "to join the cluster",
            "our token is not the cluster's" if refused else str(error)[:300],
            "check M2DAO_RAY_TOKEN_FILE" if refused else "start it with m2dao-cluster up",
        ) from error


def _reload_environment(*, loopback: bool) -> None:
    """Ray reads its variables when it is imported; where that was before us, it must look again."""
    from ray._private import ray_constants
    from ray._raylet import Config

    ray_constants.ENABLE_RAY_CLUSTER = not loopback
    Config.initialize("")
