"""The command shows tables and bars to people, lines to logs."""

from __future__ import annotations

import io

import pytest

from m2dao_client.command.main import main
from m2dao_client.command.showing import Progress, details, table
from m2dao_client.models import Champion, IdentityEntry


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_is_as_wide_as_what_stands_in_it():
    rows = [
        IdentityEntry(identity="anna", champion=7, versions=[6, 7]),
        IdentityEntry(identity="b", champion=None, versions=[]),
    ]
    assert table(rows, ("identity", "champion", "versions")).splitlines() == [
        "identity  champion  versions",
        "anna      7         6, 7",
        "b         -         -",
    ]


def test_details_leave_out_what_is_empty():
    text = details(Champion(version=7, previous=None, challenger=None, epoch=3))
    assert text.splitlines() == ["version  7", "epoch    3"]


def test_a_log_gets_a_line_at_each_change_of_words_and_one_now_and_then():
    stream, now = io.StringIO(), [0.0]
    progress = Progress(stream, clock=lambda: now[0])
    for now[0], words, share in [
        (0, "fit", 0.1),
        (1, "fit", 0.2),
        (9, "fit", 0.3),
        (11, "fit", 0.4),
        (12, "evaluate", 0.9),
    ]:
        progress.show(words, share)
    progress.close()
    assert stream.getvalue().splitlines() == ["fit  10%", "fit  40%", "evaluate  90%"]


def test_a_terminal_gets_a_bar_that_moves_in_its_line():
    stream = Terminal()
    progress = Progress(stream)
    progress.show("upload", 0.5, "3 of 6 MiB")
    progress.show("upload", 1.0)
    progress.close()
    first, second = stream.getvalue().removesuffix("\n").split("\r")[1:]
    assert first == "upload  50% [############............] 3 of 6 MiB"
    assert second.rstrip() == "upload 100% [########################]"
    assert len(second) == len(first)  # nothing of the longer one is left


def test_without_address_and_key_the_command_says_which_variables_it_needs(monkeypatch, capsys):
    for name in ("M2DAO_API_URL", "M2DAO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["list", "fits"]) == 2
    assert "M2DAO_API_URL" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list", "versions"], ["list", "keys", "--identity", "anna"], ["show", "anna@x"]])
def test_a_question_that_cannot_be_asked_is_the_askers_fault(words, monkeypatch, capsys):
    monkeypatch.setenv("M2DAO_API_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("M2DAO_API_KEY", "k")
    assert main([*words, "--json"]) == 2
    assert '"error"' in capsys.readouterr().out


def test_help_of_every_command_has_an_example(capsys):
    for command in ("upload", "fit", "watch", "say", "promote", "rollback", "cancel", "list", "show", "download"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"example: m2dao-client {command} " in capsys.readouterr().out
