"""Whose Ray a dashboard is decides what a job is told and which Python runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster.settings import Settings
from cluster.stack.home import StackHome
from cluster.stack.processes import spawn, stop

WAITING = [sys.executable, "-c", "import time; time.sleep(3600)"]


@pytest.fixture
def home(tmp_path):
    """A home whose record of Ray is that of a living process."""
    home = StackHome(tmp_path)
    home.make_folders()
    home.choose_ports(["ray"])
    record, mark = home.record_path("ray"), home.mark("ray")
    spawn(WAITING, mark=mark, record=record, log=home.log_path("ray"), env={}, cwd=tmp_path)
    yield home
    stop(mark, record, grace_s=0.0)


def dashboard(home, host="127.0.0.1"):
    return f"http://{host}:{home.ports()['ray']['dashboard']}"


def told(home, url, **changes):
    """The Python and the environment of a job that is submitted at this address."""
    from cluster.compute.jobs import RayJobs

    settings = Settings.from_env(
        {
            "M2DAO_HOME": str(home.path),
            "M2DAO_S3_ENDPOINT": "http://127.0.0.1:9000",  # may be the end of a tunnel
            "M2DAO_S3_SECRET_KEY": "hunter2",
            "M2DAO_RAY_DASHBOARD_URL": url,
            **changes,
        }
    )
    jobs = RayJobs(settings)
    return jobs._program()


def test_the_ray_of_this_home_runs_our_own_code_with_our_settings(home):
    python, env = told(home, dashboard(home))
    assert python == sys.executable
    assert env["M2DAO_S3_ENDPOINT"] == "http://127.0.0.1:9000"
    assert Path(env["PYTHONPATH"], "cluster", "compute", "jobs.py").is_file()
    assert "hunter2" not in env.values()


def test_the_end_of_a_tunnel_is_not_the_ray_of_this_home_though_it_is_at_127_0_0_1(home):
    port = home.ports()["ray"]["dashboard"]
    assert told(home, f"http://127.0.0.1:{port + 1}") == ("python", {})
    assert told(home, f"http://10.0.0.5:{port}") == ("python", {})


def test_a_home_whose_ray_has_ended_has_none(home):
    stop(home.mark("ray"), home.record_path("ray"), grace_s=0.0)
    assert told(home, dashboard(home)) == ("python", {})


def test_settings_are_sent_to_another_cluster_only_when_that_is_asked_for_and_never_paths_or_secrets(home):
    python, env = told(home, "http://ray.example.org:8265", M2DAO_RAY_PASS_SETTINGS="true")
    assert python == "python"
    assert env["M2DAO_S3_ENDPOINT"] == "http://127.0.0.1:9000"
    assert "M2DAO_HOME" not in env
    assert "hunter2" not in env.values()
