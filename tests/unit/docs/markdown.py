"""Our Markdown files as tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[3]
_SKIPPED = {".venv", ".git", "build", "out", "scratch", ".m2dao", ".pytest_cache"}


def markdown_files() -> list[Path]:
    """Every Markdown file of the project, relative to its root."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    return sorted(path for path in found if not _SKIPPED & set(path.parts))


def tokens_of(path: Path) -> list[Token]:
    """The file's tokens, those inside paragraphs and cells included."""
    blocks = MarkdownIt("commonmark").enable("table").parse((ROOT / path).read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block, *(block.children or ()))]


def code_blocks(path: Path, language: str) -> Iterator[str]:
    """The text of every fenced block in a language, such as ``bash`` or ``bash run``."""
    for token in tokens_of(path):
        if token.type == "fence" and (token.info == language or token.info.split()[:1] == [language]):
            yield token.content


def inline_codes(path: Path) -> Iterator[str]:
    """What stands between backticks in running text and tables."""
    return (token.content for token in tokens_of(path) if token.type == "code_inline")


def anchors_of(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    tokens = tokens_of(path)
    for opening, heading in zip(tokens, tokens[1:], strict=False):
        if opening.type != "heading_open":
            continue
        slug = re.sub(r"[^\w\- ]", "", heading.content.lower()).replace(" ", "-")
        number = 1
        while (name := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(name)
    return found


def without_comments(line: str) -> str:
    """A shell line without the note at its end."""
    return re.sub(r"(^|\s+)#(?![0-9a-fA-F]{6}\b).*$", "", line)


def shell_lines(path: Path) -> Iterator[str]:
    """Every command line of the ``bash`` blocks, with continued lines joined."""
    for block in code_blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if line := without_comments(line).strip():
                yield line
