"""Fits on Ray clusters of several nodes. ``make test-clusters`` runs these, ``make test`` does not.

``RECORD=1`` writes what was seen to ``docs/results/raw/clusters.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest

from cluster.platform import Platform
from tests.support.fits import Fits

pytestmark = pytest.mark.clusters

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "docs/results/raw/clusters.json"
WORK = "tests.support.small_work:small_fit_with_place"
WAIT_S = 900  # for what a machine without other work has in half a minute
# In a process namespace of its own: what it leaves, however it ends, ends with it.
APART = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def fits(stack, tenant, tmp_path):
    return Fits(Platform(stack), tenant, tmp_path)


def job_of(fits, fit_ids, **shape):
    """A job for ``tests.support.compute.clusters``: some fits, by workers of a shape."""
    flags = [word for fit_id in fit_ids for word in ("--fit", str(fit_id))]
    run = f"{fits.batch}-{fit_ids[0]}"
    words = ["--tenant", fits.tenant, "--batch", fits.batch, "--run-name", run, "--work", WORK, *flags]
    return json.dumps({"words": [*map(str, words)], "env": {f"M2DAO_FIT_{name}": str(shape[name]) for name in shape}})


class Running:
    """A cluster that does jobs, and what it says."""

    def __init__(self, kind, stack, jobs, folder):
        self._log, self._said = folder / "log", queue.SimpleQueue()
        self._sessions = Path(tempfile.mkdtemp(prefix="m2dao-ray-"))  # a short path, because sockets lie under it
        env = {**os.environ, **stack.to_env(), "M2DAO_FIT_MEMORY_MB": "1000"}
        env |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # Ray's ports are open to the network
        env |= {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(self._sessions)}
        with self._log.open("wb") as log:
            command = [*APART, sys.executable, "-m", "tests.support.compute.clusters", kind]
            self._process = subprocess.Popen(
                command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self._process.stdin.write("\n".join(jobs))
        self._process.stdin.close()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.events = []

    def _read(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                self._said.put(json.loads(line))
        self._said.put(None)

    def wait_for(self, found):
        """Wait until something is true of what was seen, looking again whenever it may have changed."""
        for _ in range(10 * WAIT_S):
            if found(self.events):
                return
            with contextlib.suppress(queue.Empty):
                if (event := self._said.get(timeout=0.1)) is None:
                    break  # it has ended
                self.events.append(event)
        raise AssertionError(f"seen: {self.events}; said: {self._log.read_text()[-4000:]}")

    def close(self):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        shutil.rmtree(self._sessions, ignore_errors=True)


@contextlib.contextmanager
def running(*args):
    cluster = Running(*args)
    try:
        yield cluster
    finally:
        cluster.close()


def all_at_step_1(fits, fit_ids):
    return lambda events: {fits.job(fit_id).stage for fit_id in fit_ids} == {"fit: step 1"}


def is_over(events):
    return bool(events) and events[-1]["event"] == "over"


def record(cluster, events, places):
    """Keep what was seen, when it is wanted for the documentation."""
    if "RECORD" not in os.environ:
        return
    rows = json.loads(RECORD.read_text())["rows"] if RECORD.exists() else []
    rows = [row for row in rows if row["cluster"] != cluster]
    numbers = {node: number for number, node in enumerate(dict.fromkeys(place[0] for place in places.values()), 1)}
    for event in events:
        nodes = ", ".join(f"{count} {kind}" for kind, count in sorted(event.get("nodes", {}).items()))
        what = f"nodes: {nodes or 'none'}" if event["event"] == "nodes" else event["event"]
        rows.append({"cluster": cluster, "seconds": event["s"], "event": what})
    for name, (node, _, gpus, *_) in sorted(places.items()):
        what = f"{name} was done on node {numbers[node]}" + (f", GPU {gpus}" if gpus else "")
        rows.append({"cluster": cluster, "seconds": "", "event": what})
    RECORD.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def places_of(fits):
    """Node, process, GPUs, what CUDA may see and backend of each fit that has begun."""
    lines = (line.split(": at ", 1) for line in fits.diary.read_text().splitlines() if ": at " in line)
    return {name: json.loads(place) for name, place in lines}


def test_one_fit_starts_and_four_spread_each_in_a_process_of_its_own(fits, stack, tmp_path):
    go = tmp_path / "go"
    alone = fits.queue("alone")
    names = [f"one-of-four-{number}" for number in range(4)]
    four = [fits.queue(name, stay_at=1, go=str(go)) for name in names]
    jobs = [job_of(fits, [alone]), job_of(fits, four)]
    with running("two-nodes", stack, jobs, tmp_path) as cluster:
        cluster.wait_for(all_at_step_1(fits, four))  # at the same time
        go.touch()
        cluster.wait_for(is_over)
    ready, over = cluster.events[0], cluster.events[-1]
    assert ready["nodes"] == {"with cores": 2}
    assert not ready["ingress_on_head"]
    assert over["codes"] == [0, 0]
    assert {fits.job(fit_id).status for fit_id in (alone, *four)} == {"done"}
    places = places_of(fits)
    record("two nodes of two cores", cluster.events, places)
    assert sorted(Counter(places[name][0] for name in names).values()) == [2, 2]
    assert len({places[name][1] for name in names}) == 4


def test_a_cluster_at_zero_grows_by_what_fits_need_and_shrinks_to_zero_again(fits, stack, tmp_path):
    go = tmp_path / "go"
    plain = fits.queue("plain", stay_at=1, go=str(go))
    names = [f"with-gpu-{number}" for number in range(4)]
    four = [fits.queue(name, stay_at=1, go=str(go)) for name in names]
    jobs = [job_of(fits, [plain], CPUS=3), job_of(fits, four, GPUS=1, BACKEND="cpu")]  # 3 cores are on no GPU node
    with running("scaled-to-zero", stack, jobs, tmp_path) as cluster:
        cluster.wait_for(all_at_step_1(fits, (plain, *four)))  # at the same time
        go.touch()
        cluster.wait_for(is_over)
    nodes = [event["nodes"] for event in cluster.events if event["event"] == "nodes"]
    assert nodes[0] == {}
    assert any(seen.get("with cores", 0) >= 1 and seen.get("with GPUs", 0) >= 2 for seen in nodes)
    assert nodes[-1] == {}
    assert cluster.events[-1]["codes"] == [0, 0]
    assert {fits.job(fit_id).status for fit_id in (plain, *four)} == {"done"}
    places = places_of(fits)
    record("scaled to zero", cluster.events, places)
    assert len({(places[name][0], places[name][2]) for name in names}) == 4  # a GPU each
    assert all(places[name][2] == places[name][3] for name in names)  # and CUDA shows a worker no other
    assert {places[name][4] for name in names} == {"cpu"}
    assert places["plain"][2:4] == ["", ""]
    assert places["plain"][0] not in {places[name][0] for name in names}
