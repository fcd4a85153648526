"""A work function that does in a second what fits do: steps, checkpoints, an identity, figures.

Its "recording" is a JSON file that says how it goes, so that a test can let a worker die at a chosen step:

    {"steps": 6, "hue": 0.1, "psnr_db": 30, "die_at": 3, "deaths": 1, "diary": "/tmp/.../diary", "fail": "rejected"}

``pause_s`` makes every step slow, ``stay_at`` lets it stay at one until it is ended, or until there is a file ``go``.
It dies by SIGKILL at step ``die_at`` or the next, ``deaths`` times in all, and writes a line per event to the file
``diary``.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from m2dao.errors import CaptureRejected
from tests.support.tiny_identity import make_tiny_identity
from train_jobs.work import FitMonitor, FitOutcome, FitTask

# What the gate asks of a version beside quality: of one that has learned to speak.
SPEAKS = {
    "fit.speech_held_out_r": 0.6,
    "probe.sync_confidence": 0.6,
    "probe.sync_offset_frames": 0.7,
    "probe.closure_mbp": 0.3,
}


def small_fit(task: FitTask, monitor: FitMonitor) -> FitOutcome:
    plan = json.loads(task.recording.read_text())
    diary = Path(plan["diary"])
    _write(diary, task.name, "begin")
    if not (task.capture_dir / "capture.json").exists():
        _write(diary, task.name, "prepare")
        monitor.stage("prepare", 0.0)
        if plan.get("fail") == "rejected":
            raise CaptureRejected(task.name, "a face", "none")
        if plan.get("fail") == "bug":
            raise ZeroDivisionError("a defect")
        task.capture_dir.mkdir()
        (task.capture_dir / "capture.json").write_text(json.dumps({"of": task.name}))
        (task.capture_dir / "contact_sheet.jpg").write_bytes(b"picture of " + task.name.encode())
        monitor.capture_ready()
    state = task.work_dir / "step.json"
    first = json.loads(state.read_text())["step"] if state.exists() else 0
    _write(diary, task.name, f"from {first}")
    for step in range(first + 1, plan["steps"] + 1):
        state.write_text(json.dumps({"step": step}))
        monitor.stage("fit", step / plan["steps"], f"step {step}")
        (task.work_dir / "strip.jpg").write_bytes(f"{task.name} at {step}".encode())
        monitor.step(step, {"fit.loss": 1.0 / step})
        if step >= plan.get("die_at", step + 1) and _deaths(diary, task.name) < plan.get("deaths", 1):
            _write(diary, task.name, "die")
            os.kill(os.getpid(), signal.SIGKILL)
        if pause := plan.get("pause_s"):
            time.sleep(pause)  # a step takes its time
        while step == plan.get("stay_at") and not ("go" in plan and Path(plan["go"]).exists()):
            monitor.stage("fit", step / plan["steps"], f"step {step}")
            time.sleep(0.05)
    monitor.stage("evaluate", 0.0)
    make_tiny_identity(task.identity_dir, hue=plan.get("hue", 0.1))
    _write(diary, task.name, "end")
    return FitOutcome(
        identity_dir=task.identity_dir,
        capture_sha256=plan.get("capture", "c" * 64),
        metrics={"psnr_db": plan.get("psnr_db", 30.0), "sync_confidence": 0.5, "num_frames": 10.0, **SPEAKS},
        artifacts={"contact_sheet.jpg": task.capture_dir / "contact_sheet.jpg"},
    )


def small_fit_with_place(task: FitTask, monitor: FitMonitor) -> FitOutcome:
    """``small_fit`` that also writes down its node of Ray, process, GPU and backend."""
    import ray

    plan, place = json.loads(task.recording.read_text()), ray.get_runtime_context()
    gpus = ",".join(place.get_accelerator_ids()["GPU"])
    words = (place.get_node_id(), os.getpid(), gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), task.backend)
    _write(Path(plan["diary"]), task.name, "at " + json.dumps(words))
    return small_fit(task, monitor)


def read_diary(diary: Path) -> list[tuple[str, str]]:
    """The events so far, as (name, event)."""
    lines = diary.read_text().splitlines() if diary.exists() else []
    return [tuple(line.split(": ", 1)) for line in lines]


def _deaths(diary: Path, name: str) -> int:
    return sum(event == (name, "die") for event in read_diary(diary))


def _write(diary: Path, name: str, event: str) -> None:
    with open(diary, "a") as file:
        file.write(f"{name}: {event}\n")
        file.flush()
        os.fsync(file.fileno())
