"""``m2dao-cluster trace``: the waterfall of one job, from the files of several processes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cluster.cli import main
from cluster.telemetry.traces.files import read_spans, trace_of
from cluster.telemetry.traces.waterfall import rows_of
from tests import house

JOB, OTHER = "r-" + "1" * 32, "r-" + "2" * 32
# Two processes write: that which accepts, and that which works on what the first has stored.
PROGRAM = f"""
import sys
from cluster.settings import Settings
from cluster.telemetry.origin import Origin
from cluster.telemetry.scope import note, working_for
from cluster.telemetry.traces import spans
from cluster.telemetry.traces.export import flush_traces, start_traces
component, stored = sys.argv[1:]
start_traces(component, Settings.from_env())
if component == "ingress":
    with working_for(request="q-1"), spans.span("POST /v1/renders", kind="SERVER"):
        with spans.span("accept"):
            pass
        print(spans.traceparent())
        note(job="{JOB}")
    with working_for(job="{OTHER}"):
        spans.record("queue", 1.0, 2.0)
else:
    with Origin(traceparent=stored).continued(tenant="acme", job="{JOB}"):
        with spans.span("attempt", attempt=1) as attempt:
            spans.record("render", 100.0, 103.0, busy_s=2.0)
            attempt.fail("worker-died")
flush_traces()
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    env = {"M2DAO_HOME": str(tmp_path), "PYTHONPATH": str(house.ROOT), "M2DAO_TRACES_FILES": "true"}
    stored = ""
    for component in ("ingress", "talker"):
        words = [sys.executable, "-c", PROGRAM, component, stored]
        ran = subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        stored = ran.stdout.strip()
    monkeypatch.setenv("M2DAO_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_spans_of_a_job_are_told_as_a_tree_over_all_processes(home, capsys):
    assert main(["trace", JOB, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = [(row["component"], row["depth"], row["name"]) for row in told["spans"]]
    assert rows[0] == ("ingress", 0, "POST /v1/renders")
    assert sorted(rows[1:]) == [("ingress", 1, "accept"), ("talker", 1, "attempt"), ("talker", 2, "render")]
    assert not (home / f"{JOB}.svg").exists()


@pytest.mark.parametrize(("name", "begin"), [("t.svg", b"<?xml"), ("t.png", b"\x89PNG")])
def test_a_trace_is_drawn(home, name, begin):
    assert main(["trace", JOB, "--out", name]) == 0
    picture = (home / name).read_bytes()
    assert picture.startswith(begin)
    assert len(picture) < 100_000


def test_a_bar_tells_its_turn_its_attempt_and_its_error(home):
    rows = {row.span.name: row for row in rows_of(trace_of(JOB, read_spans((home / "traces").iterdir())))}
    assert (rows["render"].seconds, rows["render"].busy_s) == (3.0, 2.0)
    assert rows["attempt"].label.strip() == "attempt 1 (worker-died)"


@pytest.mark.parametrize("end", ["", '{"resourceSpans": [{"scopeSp', "\x00\xff"])
def test_a_line_that_a_dying_process_left_unfinished_is_passed_over(home, end):
    path = next((home / "traces").glob("talker*"))
    path.write_text(path.read_text() + end)
    assert main(["trace", JOB, "--from", str(path), "--json"]) == 0


@pytest.mark.parametrize(
    "words",
    [[OTHER.replace("2", "3")], ["nonsense"], [JOB, "--out", "t.jpg"], [JOB, "--from", "missing.jsonl"]],
)
def test_what_cannot_be_drawn_is_refused(home, words):
    assert main(["trace", *words]) == 2
    assert not list(home.glob("*.svg"))


@pytest.mark.parametrize(
    "line", ['{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "x"}]}]}]}', "[1, 2]", '{"resourceSpans": 3}']
)
def test_a_line_that_tells_of_something_else_is_named(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "other.jsonl"
    file.write_text(f"{{}}\n{line}\n")
    assert main(["trace", JOB, "--from", str(file), "--json"]) == 2
    assert f"{file}, line 2" in json.loads(capsys.readouterr().out)["detail"]


def test_a_picture_without_a_folder_to_lie_in_is_refused_before_anything_is_read(tmp_path, capsys):
    assert (
        main(["trace", JOB, "--from", str(tmp_path / "none"), "--out", str(tmp_path / "no" / "x.svg"), "--json"]) == 2
    )
    assert "a folder" in json.loads(capsys.readouterr().out)["detail"]
