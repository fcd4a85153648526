"""Takes secrets out of texts.

What an error says is stored with jobs, printed, logged and sent to clients. Some secrets are known by their shape.
Those of a site are known once its settings have been read (``hide``). The list is one for the process, because an
error does not know who will read it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

HIDDEN = "[secret]"
_MIN_LENGTH = 8  # a shorter one would be found inside of ordinary words
_SHAPES = re.compile(
    r"m2dao_[A-Za-z0-9_-]{43}"  # our API keys
    r"|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)"  # user and password of a URL
    r"|(?<=X-Amz-Signature=)[^&\s\"']+|(?<=X-Amz-Credential=)[^&\s\"']+|(?<=X-Amz-Security-Token=)[^&\s\"']+"
    r"|(?<=Signature=)[0-9a-f]{64}"  # the same in a header
    r"|(?<=Bearer )[A-Za-z0-9._~+/-]{16,}=*"
)
_known: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Take these values out of every text from now on."""
    _known.update(value for value in values if len(value) >= _MIN_LENGTH)


def scrub(text: str) -> str:
    """The text without the secrets that it holds."""
    text = _SHAPES.sub(HIDDEN, text)
    return _any_of(frozenset(_known)).sub(HIDDEN, text) if _known else text


@functools.lru_cache(maxsize=8)
def _any_of(values: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True))))
