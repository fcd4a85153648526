"""What a contained process can reach, and what its end looks like from outside.

These tests need a Linux that lets this user make namespaces, or root. They fail where it does not, because nothing
could then be said about the containment: run them in a container with CAP_SYS_ADMIN, or allow user namespaces.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from cluster.faults import times_to_put_off
from m2dao.contain.box import Box
from m2dao.contain.client import ContainedCalls
from m2dao.errors import ContainedProcessDied, ContainedProcessKilled, ContainmentUnavailable, MediaError, ServiceError
from tests.support.processes import process_at_work

PROBES = "tests.unit.contain.probes"
SECRET = "hunter2-of-the-neighbour"


@pytest.fixture(scope="module")
def calls():
    calls = ContainedCalls([PROBES])
    calls.start()  # an error names what this site lacks
    yield calls
    calls.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """The work folder of a call, beside that of another tenant."""
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "upload").write_text(f"of {name}")
        (tmp_path / name / "upload").chmod(0o444)
    (tmp_path / "mine" / "result").touch()
    return tmp_path / "mine"


@pytest.fixture(scope="module")
def neighbour():
    """A process with a secret in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); import signal; signal.pause()"],
        env={**os.environ, "M2DAO_S3_SECRET_KEY": SECRET},
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def box(folder: Path, **changes) -> Box:
    options = {"cpu_s": 20, "wall_s": 60.0, "memory_bytes": 4 << 30, "file_bytes": 1 << 20}
    paths = {"readable": (str(folder / "upload"),), "writable": (str(folder / "result"),)}
    return Box(**{**paths, **options, **changes})


def attempt(calls, folder, action: str, word: object = "") -> str:
    return calls.run(f"{PROBES}:attempt", {"action": action, "word": str(word)}, box(folder))


def test_the_process_reads_its_file_and_writes_its_result(calls, folder):
    assert attempt(calls, folder, "read", folder / "upload") == "done"
    assert attempt(calls, folder, "write", folder / "result") == "done"
    assert (folder / "result").read_bytes() == b"x"


def test_the_process_is_nobody_and_alone(calls, folder, monkeypatch):
    monkeypatch.setenv("M2DAO_KEY_PEPPER", SECRET)
    told = calls.run(f"{PROBES}:tell", {"path": str(folder / "upload")}, box(folder))
    assert told["text"] == "of mine"
    assert (told["process"], told["user"] != str(os.getuid())) == ("1", True)
    assert not [name for name in told["environment"].split() if name.startswith(("M2DAO", "AWS"))]


def test_the_process_leaves_the_cores_to_its_caller(calls, folder):
    told = calls.run(f"{PROBES}:tell", {"path": str(folder / "upload")}, box(folder))
    assert int(told["niceness"]) > os.nice(0) or os.nice(0) == 19


def test_another_tenants_file_cannot_be_seen(calls, folder):
    other = folder.parent / "other"
    for action in ("read", "look", "list", "write"):
        assert attempt(calls, folder, action, other) != "done"
        assert attempt(calls, folder, action, other / "upload") != "done"
    assert attempt(calls, folder, "list", folder) != "done"
    assert attempt(calls, folder, "write", folder / "more") != "done"
    assert (other / "upload").read_text() == "of other"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/root", "/proc/1/environ", "/sys/class/net", "/dev/shm", "/var", "/run"]
)
def test_the_machine_cannot_be_seen(calls, folder, path):
    assert attempt(calls, folder, "read", path) != "done"
    assert attempt(calls, folder, "list", path) != "done"


def test_a_neighbours_environment_and_memory_are_out_of_reach(calls, folder, neighbour):
    assert SECRET.encode() in Path(f"/proc/{neighbour.pid}/environ").read_bytes()
    assert attempt(calls, folder, "read", f"/proc/{neighbour.pid}/environ") != "done"
    assert attempt(calls, folder, "attach", neighbour.pid) != "done"
    assert attempt(calls, folder, "kill", neighbour.pid) != "done"
    assert neighbour.poll() is None


def test_no_socket_opens(calls, folder):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        assert attempt(calls, folder, "connect", f"127.0.0.1:{server.getsockname()[1]}") == "PermissionError"
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(folder / "s"))
        server.listen()
        assert attempt(calls, folder, "unix", folder / "s") == "PermissionError"


@pytest.mark.parametrize(
    ("action", "word"), [("mount", "/usr"), ("run", sys.executable), ("become root", ""), ("leave", "")]
)
def test_no_right_can_be_gained(calls, folder, action, word):
    assert attempt(calls, folder, action, word) == "PermissionError"


def test_nothing_of_one_call_survives_into_the_next(calls, folder):
    for _ in range(3):
        assert calls.run(f"{PROBES}:leave_something", {"path": "a face"}, box(folder)) == []


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def spares_of(calls, number: int) -> list[int]:
    """The wardens that wait for calls, once there are so many."""
    while len(found := children_of(calls._server.process.pid)) < number:
        os.sched_yield()
    return [int(process) for process in found]


@pytest.fixture
def warm_calls():
    calls = ContainedCalls([PROBES], warm_up=f"{PROBES}:warm_up", num_spare=2)
    calls.start()
    yield calls
    calls.close()


def test_a_call_gets_a_process_that_has_warmed_up_before_it_came_and_serves_nobody_else(warm_calls, folder):
    server = warm_calls._server.process.pid
    marks = []
    while marks[-1:] != ["warmed up by 1"]:  # the first process of its own namespace; spares are made in quiet moments
        marks = warm_calls.run(f"{PROBES}:leave_something", {"path": "a face"}, box(folder))
        assert marks in ([f"warmed up by {server}"], [f"warmed up by {server}", "warmed up by 1"])


def test_a_spare_process_is_as_shut_in_as_any_other(warm_calls, folder):
    spares_of(warm_calls, 2)
    assert attempt(warm_calls, folder, "read", folder / "upload") == "done"
    assert attempt(warm_calls, folder, "write", folder / "result") == "done"
    for path in (folder.parent / "other" / "upload", "/etc/passwd", "/proc/1/environ"):
        assert attempt(warm_calls, folder, "read", path) != "done"


def test_a_call_is_answered_although_the_spare_processes_were_killed(warm_calls, folder):
    for spare in spares_of(warm_calls, 2):
        os.kill(spare, signal.SIGKILL)
    assert attempt(warm_calls, folder, "read", folder / "upload") == "done"


def test_spare_processes_end_with_their_server(folder):
    calls = ContainedCalls([PROBES], warm_up=f"{PROBES}:warm_up", num_spare=2)
    calls.start()
    wardens = spares_of(calls, 2)
    ends = [os.pidfd_open(int(process)) for warden in wardens for process in (warden, *children_of(warden))]
    try:
        calls.close()
        for end in ends:
            assert select.select([end], [], [], 60)[0]
    finally:
        for end in ends:
            os.close(end)


def test_a_refusal_comes_back_as_it_was(calls, folder):
    with pytest.raises(MediaError) as caught:
        calls.run(f"{PROBES}:refuse", {"kind": "MediaError"}, box(folder))
    assert caught.value.args == ("the file", "a song", "noise", "sing")


def test_a_process_that_was_taken_over_names_no_error_of_ours(calls, folder):
    for kind in ("StateUnavailable", "SystemExit", "annotations"):
        with pytest.raises(ServiceError, match="an answer"):
            calls.run(f"{PROBES}:refuse", {"kind": kind}, box(folder))


def test_a_full_disk_is_told_as_one_and_blames_no_file(calls, folder):
    with pytest.raises(OSError, match="No space left") as caught:
        calls.run(f"{PROBES}:find_no_room", {}, box(folder))
    assert times_to_put_off(caught.value)


def test_a_crash_is_told_by_its_signal(calls, folder):
    with pytest.raises(ContainedProcessDied, match="signal 11"):
        calls.run(f"{PROBES}:crash", {}, box(folder))


def test_a_process_that_computes_for_ever_is_killed(calls, folder):
    with pytest.raises(ContainedProcessDied, match="within 1 s of processor time"):
        calls.run(f"{PROBES}:wait", {}, box(folder, cpu_s=1, wall_s=600.0))


def test_a_process_that_something_else_kills_is_told_apart(calls, folder):
    def kill(word, process):
        process_at_work(calls._server.process.pid).kill()

    with pytest.raises(ContainedProcessKilled, match="signal 9, sent from outside"):
        calls.run(f"{PROBES}:wait", {}, box(folder), on_progress=kill)


def test_a_process_whose_time_is_up_is_killed(calls, folder):
    with pytest.raises(ContainedProcessDied, match="within 0.5 s"):
        calls.run(f"{PROBES}:wait", {}, box(folder, wall_s=0.5))


def test_an_error_of_the_listener_ends_the_process(calls, folder):
    class Enough(Exception):
        pass

    def stop(word, process):
        assert word == "begun"
        raise Enough(process)

    with pytest.raises(Enough):
        calls.run(f"{PROBES}:wait", {}, box(folder), on_progress=stop)
    with pytest.raises(ContainedProcessDied, match="processor time"):  # nothing of it holds the next one up
        calls.run(f"{PROBES}:wait", {}, box(folder, cpu_s=1, wall_s=600.0))


def test_a_cancelled_call_ends_its_process(calls, folder):
    async def cancelled() -> None:
        task = asyncio.ensure_future(calls.run_async(f"{PROBES}:fill", {"path": str(folder / "result")}, box(folder)))
        while not (folder / "result").stat().st_size:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    sizes = [0, 1]
    while sizes[-1] > sizes[-2]:  # without end, if the process went on
        calls.run(f"{PROBES}:tell", {"path": str(folder / "upload")}, box(folder))
        sizes.append((folder / "result").stat().st_size)
        assert len(sizes) < 100


def test_a_server_that_was_killed_is_started_again(folder):
    calls = ContainedCalls([PROBES])
    calls.start()
    try:
        os.kill(calls._server.process.pid, signal.SIGKILL)
        assert attempt(calls, folder, "read", folder / "upload") == "done"
    finally:
        calls.close()


def test_a_call_that_a_dying_server_took_and_dropped_is_made_by_another(folder):
    """A process that is killed counts as alive until its last descriptor is closed."""
    calls = ContainedCalls([PROBES])
    calls.start()
    dying, taken = calls._server, []

    def take() -> None:
        while (message := socket.recv_fds(theirs, 1 << 16, 1))[0]:
            taken.append(message[0])
            os.close(message[1][0])

    kept = dying.control  # closed, it would end the process, which may be seen before anything is asked of it
    dying.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kept, theirs, closing(calls):
        taker = threading.Thread(target=take)
        taker.start()
        try:
            assert attempt(calls, folder, "read", folder / "upload") == "done"
        finally:
            dying.control.close()
            taker.join()
    assert len(taken) == 1


def without_namespaces(program: str) -> subprocess.CompletedProcess:
    """Run a program where no namespace can be made, as in a container without rights."""
    shut = (
        "import resource, sys; from pathlib import Path; from m2dao.contain import linux, seccomp;"
        "linux.drop_capabilities(); linux.gain_no_privileges();"
        "seccomp._REFUSED = {'unshare': (272, 97)}; seccomp.refuse_dangerous_calls();"
    )
    return subprocess.run(
        [sys.executable, "-c", shut + program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
    )


def test_where_the_site_cannot_contain_nothing_is_called():
    ran = without_namespaces(f"from m2dao.contain.client import *; ContainedCalls(['{PROBES}']).start()")
    assert f"{ContainmentUnavailable.__name__}: contained processes: expected namespaces" in ran.stderr
    assert "namespaces (Operation not permitted)" in ran.stderr


def test_a_site_may_allow_what_it_cannot_contain(folder):
    reads = [
        f"print(calls.run('{PROBES}:attempt', {{'action': 'read', 'word': {path!r}}}, {box(folder)!r}));"
        for path in (str(folder / "upload"), "/etc/passwd")
    ]
    ran = without_namespaces(
        "from m2dao.contain.client import *; from m2dao.contain.box import Box;"
        f"calls = ContainedCalls(['{PROBES}'], allow_uncontained=True); print(calls.start());"
        f"{''.join(reads)} calls.close()"
    )
    assert ran.returncode == 0, ran.stderr
    lacks, mine, foreign = ran.stdout.splitlines()
    assert "namespaces (Operation not permitted)" in lacks
    assert "Landlock" not in lacks  # what the site has is used
    assert (mine, foreign) == ("done", "PermissionError")
