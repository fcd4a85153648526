"""Takes names out of texts, and leaves a hash in their place that is the same within one bundle.

A name is known from the state store, from a field of a log line that holds one, or by the shape of what it stands in:
a model ref, an object key, the name of a media file. Secrets are taken out by ``m2dao.secrets``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from m2dao.secrets import scrub

MOST_CHARS = 4000  # of a line: what is longer is data, not a message
_NAMING = {"tenant", "identity", "ref", "label", "consent", "recording", "name", "registry_name", "subject"}
_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
_REF = re.compile(rf"(?<![\w.-])({_NAME})\.({_NAME})(?=@(?:\d+|champion|challenger|previous)\b)")
_KEY = re.compile(rf"(?<![\w.-])({_NAME})/(?:identities/({_NAME})|renders/|recordings/|captures/|fits/|ray-train/)")
_BEFORE_MODEL = r"(?:name(?:=|%3D|%20%3D%20|\s*=\s*)['\"]?(?:%27)?|models:/|(?<!/api/2\.0/)mlflow/)"
_MODEL = re.compile(rf"{_BEFORE_MODEL}({_NAME})(?:\.({_NAME}))?")
_MEDIA = re.compile(r"[^\s/'\"]+\.(mp4|mov|mkv|webm|avi|wav|mp3|m4a|flac|ogg|png|jpe?g)\b", re.IGNORECASE)
_DATA = re.compile(r"[A-Za-z0-9+/=_-]{200,}")
_ADDRESS = re.compile(r"\b(?!127\.)\d{1,3}(?:\.\d{1,3}){3}\b")


class Scrubber:
    """Hides the names that it has learned, and what looks like one.

    Args:
        names: known ones, such as those of tenants and identities.
    """

    def __init__(self, names: Iterable[str]):
        self._key = secrets.token_bytes(16)
        self._names = {name for name in names if name}

    def learn(self, text: str) -> None:
        """Learn the names that a log or a page holds, so that they are hidden wherever they stand."""
        for line in text.splitlines():
            fields = _json(line)
            for name in _NAMING & fields.keys():
                self._names.update(_words(str(fields[name])))
            for pattern in (_REF, _KEY, _MODEL):
                for found in pattern.finditer(line):
                    self._names.update(filter(None, found.groups()))

    def clean(self, text: str) -> str:
        """The text without secrets, names, addresses and data."""
        text = _DATA.sub("[data]", scrub(text))
        text = _MEDIA.sub(lambda found: f"[file].{found[1].lower()}", text)
        text = _ADDRESS.sub("[address]", text)
        return self._known().sub(lambda found: self.hashed(found[0]), text) if self._names else text

    def clean_lines(self, text: str) -> Iterator[str]:
        """The lines of a log, cleaned; those that are too long for a message are left out."""
        for line in text.splitlines():
            if len(line) > MOST_CHARS:
                yield "[a long line]"
            elif fields := _json(line):
                yield json.dumps({name: self._field(name, value) for name, value in fields.items()})
            else:
                yield self.clean(line)

    def hashed(self, name: str) -> str:
        """What stands for a name in this bundle."""
        return "name-" + hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:10]

    def _field(self, name: str, value: Any) -> Any:
        if name in _NAMING:
            return self.hashed(str(value))
        return value if isinstance(value, (bool, int, float)) or value is None else self.clean(str(value))

    def _known(self) -> re.Pattern[str]:
        words = "|".join(map(re.escape, sorted(self._names, key=len, reverse=True)))
        return re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])")


def _json(line: str) -> dict[str, Any]:
    """The fields of a log line of ours; none where it is another one's."""
    if not line.startswith("{"):
        return {}
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _words(text: str) -> Iterator[str]:
    """A field's text, and its parts where it is a ref."""
    yield text
    if found := re.fullmatch(rf"({_NAME})\.({_NAME})(?:@\w+)?", text):
        yield from found.groups()
