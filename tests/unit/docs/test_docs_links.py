"""Links of the documentation lead somewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.unit.docs.markdown import ROOT, anchors_of, markdown_files, tokens_of


def local_links(path):
    for token in tokens_of(path):
        target = token.attrs.get("href") or token.attrs.get("src")
        if token.type in ("link_open", "image") and not str(target).startswith(("http://", "https://", "mailto:")):
            yield unquote(str(target))


@pytest.mark.parametrize("path", markdown_files(), ids=str)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(path):
    broken = []
    for link in local_links(path):
        name, _, anchor = link.partition("#")
        target = Path(path) if not name else (ROOT / path.parent / name).resolve().relative_to(ROOT)
        if not (ROOT / target).exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_reached_from_the_index():
    reached, pending = set(), [Path("docs/index.md")]
    while pending:
        page = pending.pop()
        if page in reached:
            continue
        reached.add(page)
        names = [link.partition("#")[0] for link in local_links(page)]
        pages = [(ROOT / page.parent / name).resolve().relative_to(ROOT) for name in names if name.endswith(".md")]
        pending += [each for each in pages if each.parts[0] == "docs"]
    assert {path for path in markdown_files() if path.parts[0] == "docs"} - reached == set()
