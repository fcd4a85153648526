"""Pages are what the code says, and keep their shape."""

from __future__ import annotations

import re

import pytest

from tests.unit.docs.markdown import ROOT, markdown_files, tokens_of
from tools.docs.__main__ import filled, pages
from tools.docs.sdk import sdk_files

WRITTEN = sdk_files()
HAND_WRITTEN = [path for path in markdown_files() if path.name != "command-line.md"]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_what_make_docs_makes_of_it(page):
    assert filled(page) == page.read_text(encoding="utf-8"), "run `make docs`"


@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_a_module_of_the_sdk_is_what_make_docs_makes_of_it(path):
    assert (ROOT / path).is_file(), "run `make docs`"
    assert WRITTEN[path] == (ROOT / path).read_text(encoding="utf-8"), "run `make docs`"


@pytest.mark.parametrize(("name", "most"), [("README.md", 70), ("CONTRIBUTING.md", 80)])
def test_a_front_page_stays_short(name, most):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=str)
def test_no_table_is_wider_than_seven_columns(page):
    rows = [0]
    for token in tokens_of(page):
        if token.type == "tr_open":
            rows.append(0)
        rows[-1] += token.type in ("th_open", "td_open")
    assert max(rows) <= 7


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=str)
def test_running_text_is_wrapped(page):
    text = re.sub(
        r"```.*?```|<!-- text .*?<!-- end text -->", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S
    )
    assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "!["))] == []
