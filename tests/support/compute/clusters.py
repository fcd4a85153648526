"""Ray clusters of several nodes on one machine, which do the jobs that they are told.

    python -m tests.support.compute.clusters two-nodes < jobs
    python -m tests.support.compute.clusters scaled-to-zero < jobs

Each line of ``jobs`` is ``{"words": [...], "env": {...}}`` for ``train_jobs.job``; the jobs run at the same time. What
happens is printed as JSON, a line each. Ends hard, with all nodes, when all jobs have ended and a cluster that scales
is empty again. To be run in a process namespace of its own: ``AutoscalingCluster`` ends everything that is Ray's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.cluster_utils import AutoscalingCluster, Cluster

MEMORY = 8_000_000_000  # bytes, of a node
IDLE_MINUTES = 0.1
_STARTED = time.monotonic()


def say(event: str, **more: Any) -> None:
    print(json.dumps({"s": round(time.monotonic() - _STARTED, 1), "event": event, **more}), flush=True)


class PretendedNodes(FakeMultiNodeProvider):
    """Nodes that are processes of this machine, and offer what their type says, but for the memory."""

    def create_node_with_resources_and_labels(self, node_config, tags, count, resources, labels):
        offered = {name: amount for name, amount in resources.items() if name != "memory"}  # refused by Ray's own
        return super().create_node_with_resources_and_labels(node_config, tags, count, offered, labels)


class ScaledToZero(AutoscalingCluster):
    """A head that does no work, and no node: of a type with cores and of one that pretends to have GPUs."""

    def __init__(self, port: int):
        self._port = port
        types = {
            "cpu": {"resources": {"CPU": 4, "memory": MEMORY}, "max_workers": 2},
            "gpu": {"resources": {"CPU": 2, "GPU": 2, "memory": MEMORY}, "max_workers": 4},
        }
        super().__init__({"CPU": 0}, {name: {**kind, "node_config": {}} for name, kind in types.items()})

    def _generate_config(self, head_resources, worker_node_types, autoscaler_v2=False, **more):
        """What Ray's own method makes of a file that Ray's package lacks."""
        head = {"resources": head_resources, "node_config": {}, "max_workers": 0}
        return {
            "cluster_name": "scaled-to-zero",
            "max_workers": 8,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": IDLE_MINUTES,
            "provider": {
                "type": "external",
                "module": f"{__spec__.name}.PretendedNodes",
                "gcs_address": f"{ray.util.get_node_ip_address()}:{self._port}",
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "available_node_types": {**worker_node_types, "ray.head.default": head},
            "head_node_type": "ray.head.default",
            **dict.fromkeys(("auth", "docker", "file_mounts"), {}),
            **dict.fromkeys(
                ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
                + ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files")
                + ("rsync_exclude", "rsync_filter"),
                [],
            ),
            "file_mounts_sync_continuously": False,
        }

    def start(self, _system_config=None, override_env=None):
        """``ray start`` on ports that are free, and without a dashboard."""
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--include-dashboard=false", "--min-worker-port=0", "--max-worker-port=0"]
            flags += [f"--port={self._port}", f"--ray-client-server-port={free_port()}"]
            command = f"{shlex.quote(sys.executable)} -m ray.scripts.scripts"
            script = f'#!/bin/sh\n[ "$1" = start ] && set -- "$@" {shlex.join(flags)}\nexec {command} "$@"\n'
            Path(folder, "ray").write_text(script)
            Path(folder, "ray").chmod(0o755)
            os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
            super().start(_system_config, override_env)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def kinds_of_nodes() -> Counter[str]:
    """How many nodes there are beside the head, by what they have."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    workers = (has for has in alive if "node:__internal_head__" not in has)
    return Counter("with GPUs" if has.get("GPU") else "with cores" for has in workers)


def watch_nodes(over: threading.Event) -> None:
    """Say how many nodes there are whenever that changes, until all is over and there is none."""
    seen = None
    while seen or not over.is_set():
        if (now := dict(kinds_of_nodes())) != seen:
            seen = now
            say("nodes", nodes=now)
        threading.Event().wait(0.2)


def do_jobs() -> list[int]:
    """Run the jobs of the standard input at the same time; returns how they ended."""
    running = []
    for line in sys.stdin:
        job = json.loads(line)
        words = [sys.executable, "-m", "train_jobs.job", *job["words"]]
        running.append(subprocess.Popen(words, env={**os.environ, **job.get("env", {})}, stdout=sys.stderr))
    return [process.wait() for process in running]


def two_nodes() -> list[int]:
    """A head that does no work and two nodes of two cores."""
    from serve_apps.app import build_from_env

    head = {"num_cpus": 0, "memory": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=2, memory=MEMORY)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    ray.init()
    ingress = build_from_env({})._bound_deployment.ray_actor_options
    reserved = {"num_cpus": ingress["num_cpus"], "memory": ingress["memory"]}
    where = ray.remote(lambda: ray.get_runtime_context().get_node_id()).options(**reserved)
    places = set(ray.get([where.remote() for _ in range(8)]))
    (head_id,) = (node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"])
    say("ready", nodes=dict(kinds_of_nodes()), ingress_on_head=head_id in places)
    return do_jobs()


def scaled_to_zero() -> list[int]:
    """Nodes that come when they are wanted, and leave."""
    port = free_port()
    ScaledToZero(port).start()
    os.environ["RAY_ADDRESS"] = f"{ray.util.get_node_ip_address()}:{port}"
    ray.init()
    over = threading.Event()
    watcher = threading.Thread(target=watch_nodes, args=(over,), daemon=True)
    watcher.start()
    codes = do_jobs()
    say("all fits have ended")
    over.set()
    watcher.join()
    return codes


CLUSTERS: dict[str, Callable[[], list[int]]] = {"two-nodes": two_nodes, "scaled-to-zero": scaled_to_zero}

if __name__ == "__main__":
    code = 1
    with contextlib.suppress(BrokenPipeError):
        codes = CLUSTERS[sys.argv[1]]()
        say("over", codes=codes)
        code = max(codes)
    os._exit(code)
