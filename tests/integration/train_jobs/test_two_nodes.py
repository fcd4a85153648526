"""Fits on a Ray cluster of a head that does no work and two nodes of two cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cluster.platform import Platform
from tests.support.fits import Fits

ROOT = Path(__file__).parents[3]
WORK = "tests.support.small_work:small_fit_with_node"
WAIT_S = 240
# In a process namespace of its own: what it leaves, however it ends, ends with it.
APART = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
CLUSTER = """
import os, subprocess, sys
import ray
from ray.cluster_utils import Cluster
from serve_apps.app import build_from_env

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "memory": 0, "include_dashboard": False})
for _ in range(2):
    cluster.add_node(num_cpus=2, memory=8_000_000_000)
cluster.wait_for_nodes()
os.environ["RAY_ADDRESS"] = cluster.address

ray.init()
ingress = build_from_env({})._bound_deployment.ray_actor_options
reserved = {"num_cpus": ingress["num_cpus"], "memory": ingress["memory"]}
where = ray.remote(lambda: ray.get_runtime_context().get_node_id()).options(**reserved)
places = set(ray.get([where.remote() for _ in range(8)]))
(head,) = (node["NodeID"] for node in ray.nodes() if "node:__internal_head__" in node["Resources"])
print("ingress on the head:", head in places)
ray.shutdown()

batches = [line.split() for line in sys.stdin]
codes = [subprocess.call([sys.executable, "-m", "train_jobs.job", *words]) for words in batches]
print("ended", *codes)
sys.stdout.flush()
os._exit(max(codes))
"""


@pytest.fixture
def fits(stack, tenant, tmp_path):
    return Fits(Platform(stack), tenant, tmp_path)


def job_of(fits, name, *fit_ids):
    flags = [word for fit_id in fit_ids for word in ("--fit", str(fit_id))]
    words = ["--tenant", fits.tenant, "--batch", fits.batch, "--run-name", f"{fits.batch}-{name}", "--work", WORK]
    return " ".join(map(str, (*words, *flags)))


def places(fits):
    """Node and process of each fit that has begun."""
    begun = (line.split(": node ") for line in fits.diary.read_text().splitlines() if ": node " in line)
    return {name: place.split(" process ") for name, place in begun}


def test_one_fit_starts_and_four_spread_each_in_a_process_of_its_own(fits, stack, tmp_path):
    go = tmp_path / "go"
    alone = fits.queue("alone")
    names = [f"one-of-four-{number}" for number in range(4)]
    four = [fits.queue(name, stay_at=1, go=str(go)) for name in names]
    settings = {"M2DAO_FIT_CPUS": "1", "M2DAO_FIT_MEMORY_MB": "1000", "PYTHONPATH": str(ROOT)}
    env = {**os.environ, **stack.to_env(), **settings, "RAY_USAGE_STATS_ENABLED": "0"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*APART, sys.executable, "-c", CLUSTER], env=env, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
        try:
            process.stdin.write("\n".join([job_of(fits, 1, alone), job_of(fits, 2, *four)]).encode())
            process.stdin.close()
            deadline = time.monotonic() + WAIT_S
            while {fits.job(fit_id).stage for fit_id in four} != {"fit: step 1"}:  # all four at the same time
                assert process.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < deadline, log.read_text()[-4000:]
                threading.Event().wait(0.1)
            go.touch()
            assert process.wait(WAIT_S) == 0, log.read_text()[-4000:]
        finally:
            process.kill()
            process.wait()
    assert "ingress on the head: False" in log.read_text()
    assert {fits.job(fit_id).status for fit_id in (alone, *four)} == {"done"}
    found = places(fits)
    assert sorted(Counter(found[name][0] for name in names).values()) == [2, 2]
    assert len({found[name][1] for name in names}) == 4
