"""Every command ends with the promised exit code, and with one object under ``--json``."""

import ctypes
import errno
import importlib
import json
import os
import subprocess
import sys

import pytest

from m2dao.command_line import run_command
from m2dao.errors import ConfigError, StackError


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "answer"),
    [
        (lambda: {"frames": 3}, 0, {"frames": 3}),
        (lambda: {"failed": 0}, 0, {"failed": 0}),
        (lambda: {"failed": 2}, 1, {"failed": 2}),
        (failing(ConfigError("--size", "an even number", "7")), 2, {"error": "invalid-config"}),
        (failing(StackError("redis", "to start", "nothing")), 1, {"error": "stack-error"}),
        (failing(KeyError("lost")), 1, {"error": "internal-error"}),
    ],
)
def test_exit_code_and_json(capsys, work, code, answer):
    assert run_command("m2dao fit", work, as_json=True) == code
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found | answer == found
    assert ("m2dao fit: " in printed.err) == ("error" in answer)


def test_without_json_nothing_is_on_standard_output_and_an_interruption_says_so(capsys):
    assert run_command("m2dao fit", lambda: {"frames": 3}, as_json=False) == 0
    assert run_command("m2dao fit", failing(KeyboardInterrupt()), as_json=False) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "m2dao fit: interrupted\n"


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "free some disk space"), (errno.EACCES, "permissions")])
def test_a_file_that_the_machine_does_not_let_us_use_is_told_without_a_trace(number, remedy, capsys):
    error = OSError(number, os.strerror(number), "/backups/monday")
    assert run_command("m2dao-cluster", failing(error), as_json=True) == 1
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["error"] == "system-fault"
    assert "/backups/monday" in answer["detail"]
    assert remedy in answer["detail"]
    assert printed.err == f"m2dao-cluster: {answer['detail']}\n"


def test_an_error_of_the_machine_that_nobody_expects_keeps_its_trace(capsys):
    assert (
        run_command("m2dao-cluster", failing(FileNotFoundError(errno.ENOENT, "no", "a file of ours")), as_json=False)
        == 1
    )
    assert "Traceback" in capsys.readouterr().err


def write_noise():
    """Write to standard output in every way that a library may."""
    print("from Python")
    sys.__stdout__.write("from a stream that was kept\n")
    os.write(1, b"from the file descriptor\n")
    ctypes.CDLL(None).puts(b"from C")  # waits in C's own buffer when standard output is no terminal
    subprocess.run(["echo", "from a child"], check=True)


NOISE = ["from Python", "from a stream that was kept", "from the file descriptor", "from C", "from a child"]


@pytest.mark.parametrize(
    ("work", "answer"),
    [
        ("dict(frames=3)", {"frames": 3}),
        ("fail()", {"error": "internal-error", "detail": "an internal error"}),
    ],
)
def test_json_is_the_only_thing_on_standard_output_whoever_writes_there(work, answer):
    program = f"""
from m2dao.command_line import run_command
from tests.unit.commands.test_command_line import write_noise

def work():
    write_noise()
    return {work}

run_command("m2dao fit", work, as_json=True)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(ran.stdout) == answer
    assert ran.stdout.count("\n") == 1
    assert set(NOISE) <= set(ran.stderr.splitlines())


def test_without_json_standard_output_is_left_alone(capfd):
    assert run_command("m2dao fit", lambda: write_noise() or {}, as_json=False) == 0
    sys.__stdout__.flush()
    ctypes.CDLL(None).fflush(None)
    printed = capfd.readouterr()
    assert sorted(printed.out.splitlines()) == sorted(NOISE)
    assert printed.err == ""


def test_standard_output_is_as_before_afterwards(capfd):
    run_command("m2dao fit", dict, as_json=True)
    os.write(1, b"later\n")
    assert capfd.readouterr().out == "{}\nlater\n"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("m2dao.cli", ["assets", "list", "--json"]),
        ("m2dao.cli", ["inspect", "nothing.mp4", "--json"]),
        ("cluster.cli", ["status", "--json"]),
        ("train_jobs.cli", ["show", "not a ref", "--json"]),
        ("serve_apps.cli", ["openapi", "--json"]),
    ],
)
def test_all_commands_print_one_object(module, arguments, monkeypatch, capfd, tmp_path):
    monkeypatch.setenv("M2DAO_HOME", str(tmp_path))
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # the test run keeps its own
    cli = importlib.import_module(module)

    def noisily(name, work, *, as_json):
        return run_command(name, lambda: write_noise() or work(), as_json=as_json)

    monkeypatch.setattr(cli, "run_command", noisily)
    exit_code = cli.main(arguments)
    printed = capfd.readouterr()
    assert ("error" in json.loads(printed.out)) == bool(exit_code)
    assert set(NOISE) <= set(printed.err.splitlines())
