"""The smoke run of a GPU runs on a CPU as well, so that it is right before a GPU is at hand."""

import json
import subprocess
import sys
from types import SimpleNamespace

from benchmarks import gpu_smoke
from tests.house import ROOT


def test_every_step_is_a_line_and_a_failure_stops_what_would_mean_nothing(monkeypatch, capsys):
    asked = []

    def run_step(name, args):
        asked.append(name)
        return {"step": name, "ok": name != "parity"}

    monkeypatch.setattr(gpu_smoke, "run_step", run_step)
    monkeypatch.setattr(sys, "argv", ["gpu_smoke", "--backend", "cpu"])
    assert gpu_smoke.main() == 1
    assert asked == ["machine", "build", "parity"]
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == asked
    assert sum(most_s for _, most_s in gpu_smoke.STEPS.values()) < 600, "a lease of ten minutes is enough"


def test_steps_on_a_cpu_say_what_they_found():
    command = [sys.executable, "-m", "benchmarks.gpu_smoke", "--backend", "cpu", "--repeats", "1"]
    command += ["--step", "parity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (parity,) = (json.loads(line) for line in done.stdout.splitlines())
    assert parity["ok"], parity
    assert parity["flipped_share"] <= 1e-3
    assert gpu_smoke.fit(SimpleNamespace(capture=None)) == {"left_out": "no --capture"}


def test_a_step_that_takes_too_long_or_breaks_says_so():
    args = SimpleNamespace(backend="gsplat", repeats=1, steps=1, capture=None)
    line = gpu_smoke.run_step("build", args)  # there is no GPU here, or the kernels compile
    assert line["step"] == "build"
    assert line["ok"] or "gsplat" in line["error"]
