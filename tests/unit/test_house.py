"""How long files, functions and promises may be, how full folders, and that no imports go in circles."""

import tomllib
from dataclasses import dataclass

import pytest

from m2dao import formats, regions, timeline
from tests import house

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ARGUMENTS = 8
MAX_FILES_IN_FOLDER = 17
MAX_PROMISE_CHARS = 100

EXCEPTIONS = house.ROOT / "tests" / "house_exceptions.toml"


@dataclass(frozen=True)
class Rule:
    """What breaks one rule, and which of it is excused. A path excuses all that stands in that file."""

    broken: dict[str, object]
    excused: set[str]

    def unexcused(self) -> str:
        found = {p: value for p, value in self.broken.items() if not {p, _file(p)} & self.excused}
        return "\n".join(f"{place}: {value}" for place, value in found.items())

    def needless(self) -> set[str]:
        return self.excused - {name for place in self.broken for name in (place, _file(place))}


def _file(place: str) -> str:
    return place.partition("::")[0]


def long_files():
    return {path: num for path, num in house.lines_of_files(house.ROOT).items() if num > MAX_FILE_LINES}


def long_functions():
    return {f.place: f.num_lines for f in house.functions(house.ROOT) if f.num_lines > MAX_FUNCTION_LINES}


def wide_functions():
    return {f.place: f.num_arguments for f in house.functions(house.ROOT) if f.num_arguments > MAX_ARGUMENTS}


def full_folders():
    return {path: num for path, num in house.files_in_folders(house.ROOT).items() if num > MAX_FILES_IN_FOLDER}


def long_promises():
    found = house.promises(house.ROOT)
    return {place: text for place, text in found.items() if "\n" in text or len(text) > MAX_PROMISE_CHARS}


def names_without_users():
    return dict.fromkeys(house.names_without_users(house.ROOT), "only tests use it")


def shared_constants():
    kept = [value for value in vars(formats).values() if isinstance(value, formats.Format)]
    owners = {
        regions.NUM_LANDMARKS: "m2dao/regions.py",
        regions.REGIONS: "m2dao/regions.py",
        timeline.SAMPLE_RATE: "m2dao/timeline.py",
        **{text: "m2dao/formats.py" for format_ in kept for text in (format_.name, format_.manifest)},
    }
    return dict.fromkeys(house.constants(house.ROOT, owners), "has an owner: import it from there")


def circles():
    return {", ".join(circle): len(circle) for circle in house.circles(house.ROOT)}


RULES = {
    "files": long_files,
    "functions": long_functions,
    "arguments": wide_functions,
    "folders": full_folders,
    "promises": long_promises,
    "names": names_without_users,
    "constants": shared_constants,
    "circles": circles,
}


def excused(rule):
    exceptions = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    assert exceptions.keys() <= RULES.keys()
    return {exception["path"]: exception["reason"] for exception in exceptions.get(rule, [])}


@pytest.mark.parametrize("rule", RULES)
def test_nothing_breaks_the_rule_but_what_is_excused_and_every_excuse_is_needed(rule):
    found = Rule(RULES[rule](), set(excused(rule)))
    assert not found.unexcused(), f"\n{found.unexcused()}"
    assert found.needless() == set()


@pytest.mark.parametrize("rule", RULES)
def test_every_exception_gives_a_reason(rule):
    assert [path for path, reason in excused(rule).items() if len(reason.split()) < 2] == []


def test_the_rules_see_lines_arguments_and_names_of_every_kind(tmp_path):
    folder = tmp_path / "m2dao"
    folder.mkdir()
    (folder / "a.py").write_text(
        "class Thing:\n"
        "    @property\n"
        "    def alone(self, a, /, b, *rest, c, **more):\n"
        "        async def inner(): return (\n"
        "            1)\n"
        "        return inner\n"
        "    def called(self): ...\n"
        "LIMIT = 1\n"
        "_private = 2\n"
        "def entry(): ...\n"
        "Thing().called()\n"
    )
    (tmp_path / "pyproject.toml").write_text('entry = "m2dao.a:entry"\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("from m2dao.a import LIMIT\nprint(LIMIT, Thing().alone)\n")
    found = {f.name: (f.num_lines, f.num_arguments) for f in house.functions(tmp_path)}
    assert found == {"alone": (4, 5), "inner": (2, 0), "called": (1, 0)} | {"entry": (1, 0)}
    assert house.names_without_users(tmp_path) == ["m2dao/a.py::LIMIT", "m2dao/a.py::alone"]
    (folder / "b.py").write_text('def f():\n    """One line.\n    And another.\n\n    More.\n    """\n')
    assert house.promises(tmp_path) == {"m2dao/b.py::1": "One line.\nAnd another."}
    (folder / "b.py").unlink()
    assert house.files_in_folders(tmp_path) == {"m2dao": 1, "tests": 1}
    assert house.lines_of_files(tmp_path) == {"m2dao/a.py": 11, "tests/test_a.py": 2}


def test_the_rules_see_a_circle_through_a_function_and_through_types(tmp_path):
    program = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from m2dao.b import B\n"
    files = {"m2dao/a.py": program, "m2dao/b.py": "def f():\n    from . import c\n", "m2dao/c.py": "import m2dao.a\n"}
    for package in house.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert house.circles(tmp_path) == [["m2dao.a", "m2dao.b", "m2dao.c"]]


def test_a_unit_test_cannot_start_ray():
    import ray

    with pytest.raises(RuntimeError, match="test_house.py.*starts Ray"):
        ray.init()
    assert not ray.is_initialized()
