"""Every command ends with the promised exit code, and under ``--json`` with one object on standard output."""

import json

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
