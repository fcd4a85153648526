"""Paths of routes: what a caller names can never lead to another route."""

from __future__ import annotations

from urllib.parse import quote


def path_of(*parts: str | int) -> str:
    """The path made of these parts, each escaped.

    Raises:
        ValueError: a part is empty, or would lead upwards.
    """
    names = [str(part) for part in parts]
    for name in names:
        if name in ("", ".", ".."):
            raise ValueError(f"{name!r} names nothing")
    return "".join(f"/{quote(name, safe='')}" for name in names)
