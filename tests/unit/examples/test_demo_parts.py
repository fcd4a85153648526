"""The parts of the demo: how it divides time, names people, judges videos, and ends its programs."""

from __future__ import annotations

import os
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from examples.demo import checks as demo_checks
from examples.demo.plan import MAX_FIT_MINUTES, MIN_FIT_MINUTES, fit_minutes, identity_names, slowness
from examples.demo.programs import Programs, Screen
from m2dao.errors import InputError, M2daoError
from m2dao.media.mux import VideoWriter
from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

SIZE, NUM_FRAMES = 64, 20


def minutes(left_s: float = 480.0, **changes: float) -> float:
    values = {"num_fits": 2, "recording_s": 20.0, "speech_s": 15.0, "num_cores": 2, **changes}
    return fit_minutes(left_s, **values)


def test_fits_get_more_time_when_there_is_more_and_less_when_there_is_more_to_do():
    assert minutes(600) > minutes(480)
    for harder in ({"recording_s": 60.0}, {"speech_s": 60.0}, {"num_fits": 3}, {"slowness": 1.5}):
        assert minutes(**harder) < minutes()
    assert minutes(num_fits=4, num_cores=4) == minutes()


def test_fit_time_stays_usable_however_little_is_left():
    assert minutes(0) == MIN_FIT_MINUTES
    assert minutes(1e6) == MAX_FIT_MINUTES


def test_a_machine_is_slow_when_its_start_was():
    assert slowness(10, made_presenters=True) == 1.0
    assert slowness(130, made_presenters=True) == 2.0
    assert slowness(40, made_presenters=False) == 2.0
    assert slowness(1e4, made_presenters=False) == 4.0


def test_identity_names_are_allowed_and_distinct():
    paths = [Path(p) for p in ("Anna Ä.mp4", "x/anna.MOV", "anna.mp4", "___.mp4", "9" * 80 + ".mp4")]
    names = identity_names(paths)
    assert names == ["anna", "anna-2", "anna-3", "person", "9" * 32]


@pytest.fixture
def video(tmp_path):
    """Writes a video; ``still`` shows one picture all the time."""

    def write(*, still: bool = False, loud: bool = True, num_frames: int = NUM_FRAMES, size: int = SIZE) -> Path:
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
        sound = 0.3 * rng.standard_normal(num_frames * SAMPLES_PER_FRAME).astype(np.float32) * loud
        path = tmp_path / "video.mp4"
        with VideoWriter(path, width=size, height=size, waveform=sound) as writer:
            for index in range(num_frames):
                writer.write(picture if still else np.roll(picture, 3 * index, axis=1))
        return path

    return write


def judged(path: Path) -> list[str]:
    return demo_checks.problems_of(demo_checks.look_at(path), speech_seconds=NUM_FRAMES / 25, size=SIZE)


def test_a_moving_speaking_video_of_the_right_length_has_no_problems(video):
    assert judged(video()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"still": True}, "frozen"),
        ({"loud": False}, "silent"),
        ({"num_frames": 15}, "15 frames instead of 20"),
        ({"size": 96}, "96x96 pixels"),
    ],
)
def test_what_is_wrong_with_a_video_is_found(video, changes, problem):
    found = judged(video(**changes))
    assert len(found) == 1
    assert problem in found[0]


def test_a_truncated_video_does_not_pass(video):
    path = video()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        problems = judged(path)
    except M2daoError:
        return
    assert problems  # a decoder that reads what is left finds too few frames


def test_the_length_of_speech_is_measured_by_decoding(tmp_path):
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(b"\0\0" * (SAMPLE_RATE * 3 // 2))
    assert demo_checks.audio_seconds(path) == 1.5
    (tmp_path / "no.wav").write_bytes(b"nothing of the kind")
    with pytest.raises(M2daoError):
        demo_checks.audio_seconds(tmp_path / "no.wav")


PROGRAM = """
import json, os, signal, subprocess, sys, time
mode = sys.argv[1]
if mode == "good":
    print("10%\\r20%\\rready", file=sys.stderr)
    print(json.dumps({"words": sys.argv[1:]}))
elif mode == "bad":
    print("the reason", file=sys.stderr)
    sys.exit(int(sys.argv[2]))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as stubborn as can be
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    open(sys.argv[2], "w").write(f"{os.getpid()} {child.pid}")
    print("waiting", file=sys.stderr, flush=True)
    signal.pause()
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    (tmp_path / "a_program.py").write_text(PROGRAM)
    monkeypatch.setattr("examples.demo.programs._ROOT", tmp_path)
    monkeypatch.setattr("examples.demo.programs.END_GRACE_S", 0.5)
    programs = Programs(Screen(1), os.environ, tmp_path)
    yield programs
    programs.close()


def test_a_program_gives_its_object_and_leaves_a_log(programs, tmp_path):
    assert programs.run("name", "a_program", "good", 7) == {"words": ["good", "7", "--json"]}
    assert "ready" in (tmp_path / "name.log").read_text()


@pytest.mark.parametrize(("code", "kind"), [(2, InputError), (1, M2daoError)])
def test_a_program_that_fails_says_why(programs, code, kind):
    with pytest.raises(kind, match="the reason") as caught:
        programs.run("name", "a_program", "bad", code)
    assert caught.value.exit_code == code


def test_ending_ends_programs_that_do_not_want_to_and_their_children(programs, tmp_path):
    pids = tmp_path / "pids"
    errors = []

    def run():
        try:
            programs.run("stubborn", "a_program", "wait", pids)
        except M2daoError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    programs.close()
    thread.join(timeout=30)
    assert errors
    wait_until(lambda: not any(_runs(int(pid)) for pid in pids.read_text().split()))
    with pytest.raises(M2daoError, match="ending"):
        programs.run("late", "a_program", "good")


def test_when_one_of_several_programs_fails_the_others_are_ended(programs, tmp_path):
    pids = tmp_path / "pids"

    def fail_once_the_other_runs():
        wait_until(pids.exists)
        return programs.run("bad", "a_program", "bad", 2)

    with pytest.raises(InputError, match="the reason"):
        programs.run_together([lambda: programs.run("stubborn", "a_program", "wait", pids), fail_once_the_other_runs])
    wait_until(lambda: not any(_runs(int(pid)) for pid in pids.read_text().split()))


def wait_until(condition, timeout_s: float = 30.0) -> None:
    """Wait for what another process does, of which nobody tells us."""
    tick = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        if condition():
            return
        tick.wait(0.02)
    raise AssertionError("it did not happen")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
