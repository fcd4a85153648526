"""The Lua scripts: every file is loaded, every script is used, and both halves spell keys alike."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from cluster import state
from cluster.state import scripts

FOLDER = files(scripts)
FILES = {path.stem: path.read_text() for path in Path(str(FOLDER)).rglob("*.lua")}
SCRIPTS = {name: text for name, text in vars(scripts).items() if name.isupper() and not name.startswith("_")}


def included(names: set[str]) -> set[str]:
    found = {part for name in names for part in re.findall(r"-- include: (?:\w+/)*(\w+)", FILES[name])}
    return names | (included(found) if found else set())


def test_every_file_is_a_script_or_included_by_one():
    assert included({name.lower() for name in SCRIPTS}) == set(FILES)


def test_every_script_is_run_somewhere():
    sources = "".join(path.read_text() for path in Path(str(files(state))).rglob("*.py"))
    assert [name for name in SCRIPTS if f"scripts.{name}" not in sources] == []


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_is_its_file_with_all_that_it_includes(name):
    assert "-- include:" not in SCRIPTS[name]
    assert SCRIPTS[name].endswith(FILES[name.lower()].rpartition("-- include:")[2].partition("\n")[2])
    assert "key_of" in SCRIPTS[name].partition("\n")[0]


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_script_spells_a_key_itself(name):
    assert re.findall(r"'[\w-]*:[\w-]*'", FILES[name]) == []
