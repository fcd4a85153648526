"""The demo itself, small: everything it promises, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from examples.demo.checks import look_at

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--steps", "100", "--presenter-seconds", "8", "--size", "256", "--capture-size", "256")


def start(out: Path, *words: object) -> subprocess.Popen:
    command = [sys.executable, "-u", "-m", "examples.demo.run", "--out", str(out), "--json", *map(str, words)]
    kept = {"M2DAO_ASSETS_DIR", "M2DAO_CACHE"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("M2DAO_") or name in kept}
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def left_behind(out: Path) -> list[str]:
    """Command lines of the processes that were started for the demo in ``out`` and still run."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            mine = str(out / "stack").encode() in (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended while we looked, or is not ours to look into
            continue
        if mine and command:
            found.append(command[:120])
    return found


def until_nothing_is_left(out: Path, timeout_s: float = 60.0) -> list[str]:
    """The guardian ends a moment after what it guards, so give the last process a moment too."""
    tick = threading.Event()
    for _ in range(int(timeout_s / 0.2)):
        if not left_behind(out):
            return []
        tick.wait(0.2)
    return left_behind(out)


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "redis: ready"), (signal.SIGTERM, "[1/")])
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path, number, moment):
    out = tmp_path / "demo"
    demo = start(out, *SMALL)
    said = []
    for line in demo.stderr:
        said.append(line)
        if moment in line:
            demo.send_signal(number)
            break
    rest_out, rest_err = demo.communicate(timeout=240)
    text = "".join(said) + rest_err
    assert demo.returncode == 130, text
    assert "interrupted" in rest_err
    assert "Traceback" not in text
    assert rest_out == ""
    assert until_nothing_is_left(out) == []


def test_a_demo_with_files_that_are_none_ends_before_anything_is_started(tmp_path):
    (tmp_path / "no.mp4").write_text("no video")
    demo = start(tmp_path / "demo", "--video", tmp_path / "no.mp4")
    out, err = demo.communicate(timeout=120)
    assert demo.returncode == 2
    assert out == ""
    assert "no.mp4" in err
    assert "expected a video" in err
    assert "Traceback" not in err
    assert not (tmp_path / "demo" / "stack").exists()


def test_two_people_are_fitted_promoted_and_speak(tmp_path):
    out = tmp_path / "demo"
    demo = start(out, *SMALL)
    stdout, stderr = demo.communicate(timeout=1500)
    assert demo.returncode == 0, stderr[-6000:]
    report = json.loads(stdout)
    assert report == json.loads((out / "report.json").read_text())
    assert len(report["people"]) == 2
    for person in report["people"]:
        facts = look_at(Path(person["video"]))
        assert facts.num_frames == person["checks"]["num_frames"] > 100
        assert (facts.width, facts.height) == (256, 256)
        seen = person["checks"]["seen"]
        assert (seen["num_frames"], seen["num_frames_without_face"]) == (facts.num_frames, 0)
        assert person["psnr_db"] > 15
        assert person["real_time_factor"] > 0
        assert {"prepare", "fit", "evaluate", "register", "render"} <= person["stage_seconds"].keys()
    assert report["people"][0]["ref"] != report["people"][1]["ref"]
    for step in range(1, 8):
        assert f"[{step}/7]" in stderr  # progress was shown all along
    assert until_nothing_is_left(out) == []
    assert not (out / "stack").exists()
