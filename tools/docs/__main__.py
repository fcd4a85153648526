"""``python -m tools.docs``: fill every page again, and name the pages that changed."""

from __future__ import annotations

from pathlib import Path

from tools.docs.tables import fill_tables
from tools.docs.texts import fill_texts

ROOT = Path(__file__).resolve().parents[2]


def pages() -> list[Path]:
    """All Markdown files of the documentation."""
    return sorted((ROOT / "docs").rglob("*.md"))


def filled(page: Path) -> str:
    """The page as the code says it should be."""
    return fill_texts(fill_tables(page.read_text(encoding="utf-8"), ROOT / "docs"))


def main() -> None:
    for page in pages():
        text = filled(page)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
