"""``python -m tools.docs``: write pages and the SDK's bodies anew, and name the files that changed."""

from __future__ import annotations

from pathlib import Path

from tools.docs.sdk import sdk_files
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
    for name, text in sdk_files().items():
        path = ROOT / name
        if not path.is_file() or text != path.read_text(encoding="utf-8"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")


if __name__ == "__main__":
    main()
