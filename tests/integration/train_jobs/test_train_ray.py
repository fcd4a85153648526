"""Ray jobs of fits, and who may submit them."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from cluster.compute.jobs import RayJobs
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import reaching

JOIN = """
from cluster.compute.client import connect
from cluster.settings import Settings
from m2dao.errors import ClusterUnavailable
try:
    connect(Settings.from_env())
except ClusterUnavailable as error:
    print(error)
"""


def test_a_job_for_the_cluster_at_the_end_of_a_tunnel_is_told_nothing_of_this_machine(ray_stack, tenant):
    with FaultProxy(urlsplit(ray_stack.ray.dashboard_url).port) as tunnel:
        jobs = RayJobs(reaching(ray_stack, ray_dashboard_url=f"http://127.0.0.1:{tunnel.port}"))
        submission = jobs.submit(f"{tenant}-tunnel", ["--tenant", str(tenant)], {"M2DAO_LOG_LEVEL": "DEBUG"})
        told = jobs._info(submission)
        jobs.stop(submission)
    assert told.entrypoint.startswith("python -m train_jobs.job ")
    assert told.runtime_env["env_vars"] == {"M2DAO_LOG_LEVEL": "DEBUG"}


def test_a_machine_that_is_no_node_of_the_cluster_is_told_so(ray_stack):
    # In a process namespace of its own it sees the head's port, and no Ray that runs beside it.
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no process namespaces")
    env = {**os.environ, **ray_stack.to_env(), "RAY_gcs_server_request_timeout_seconds": "10"}
    words = [*apart, sys.executable, "-c", JOIN]
    joined = subprocess.run(words, env=env, capture_output=True, text=True, timeout=500)
    assert joined.returncode == 0, joined.stderr
    assert "no Ray of that cluster runs on this machine; run this on a machine of the cluster" in joined.stdout
