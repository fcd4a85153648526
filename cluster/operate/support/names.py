"""A set of names, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

# Escapes are words of their own: in "%27anna%27" and "\nanna" the name is "anna".
_WORD = re.compile(r"%[0-9A-Fa-f]{2}|\\[nrt]|[^\W_]+")


class Names:
    """Names that are looked up by their first word, so that a text costs the same however many there are."""

    def __init__(self, names: Iterable[str] = ()):
        self._names: set[str] = set()
        self._spans: dict[
            str, list[tuple[int, int]]
        ] = {}  # first word -> (characters before it, length), longest first
        self.add(names)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, names: Iterable[str]) -> None:
        """Know these too; one without a letter or digit is no name."""
        for name in names:
            word = _WORD.search(name)
            if word is None or name in self._names:
                continue
            self._names.add(name)
            spans = self._spans.setdefault(word[0], [])
            if (span := (word.start(), len(name))) not in spans:
                spans.append(span)
                spans.sort(key=lambda each: -each[1])

    def replaced(self, text: str, by: Callable[[str], str]) -> str:
        """The text with something else in the place of each name that stands in it as whole words."""
        pieces, done = [], 0
        for word in _WORD.finditer(text):
            for before, length in self._spans.get(word[0], ()):
                begin = word.start() - before
                end = begin + length
                if begin >= done and text[begin:end] in self._names and not _is_inside_a_word(text, end):
                    pieces += [text[done:begin], by(text[begin:end])]
                    done = end
                    break
        return "".join([*pieces, text[done:]])


def _is_inside_a_word(text: str, at: int) -> bool:
    return at < len(text) and text[at - 1].isalnum() and text[at].isalnum()
