"""Commands, targets and paths that the documentation names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.unit.docs.markdown import ROOT, inline_codes, markdown_files, shell_lines
from tools.docs.texts import programs

PAGES = [path for path in markdown_files() if path != Path("docs/reference/command-line.md")]
PROGRAM = r"m2dao(?:-train|-cluster|-serve)?"


@pytest.fixture(scope="module")
def parsers():
    return programs()


def commands_in(line):
    """Calls of our programs in a line of shell, those inside ``$( )`` included."""
    return [shlex.split(call) for call in re.findall(rf"(?:^|\$\()({PROGRAM} [^)|>]*)", line)]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_is_one_that_the_programs_take(page, parsers, capsys):
    for line in shell_lines(page):
        for program, *words in commands_in(line):
            try:
                parsers[program].parse_args(words)
            except SystemExit:
                pytest.fail(f"{line}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_in_running_text_name_subcommands_that_exist(page, parsers):
    for code in inline_codes(page):
        if re.fullmatch(rf"{PROGRAM} [a-z].*", code):
            program, *words = shlex.split(code)
            parser = parsers[program]
            for word in words:
                choices = [
                    action.choices for action in parser._actions if action.dest in ("command", "bench", "==SUPPRESS==")
                ]
                names = next((each for each in choices if each), None)
                if names is None:
                    break
                assert word in names, code
                parser = names[word]


def targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^([a-z.$()A-Z/ -]+):", makefile, re.MULTILINE))
    return {word for names in named for word in names.split()} | {".venv/installed"}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_make_target_exists(page):
    lines = [*shell_lines(page), *inline_codes(page)]
    named = {found[1] for line in lines if (found := re.match(r"make (\S+)", line))}
    assert named - targets() == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_path_of_ours_exists(page):
    rooms = r"(?:m2dao|cluster|train_jobs|serve_apps|tests|tools|docs|examples|benchmarks)/[\w./-]*"
    named = {code for code in inline_codes(page) if re.fullmatch(rooms, code)}
    assert {path for path in named if not (ROOT / path).exists()} == set()
