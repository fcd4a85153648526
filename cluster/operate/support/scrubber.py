"""Takes names out of texts, and leaves a hash in their place that is the same within one bundle.

A name is known from the state store, from a field of a log line that holds one, or by the shape of what it stands in:
a model ref, an object key, a route, an error of ours. Secrets are taken out by ``m2dao.secrets``.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cluster.operate.support.names import Names
from m2dao.secrets import scrub

MOST_CHARS = 4000  # of a field of our log lines; a longer line of others is data, not a message
_CUT = "... [cut] ..."
_MOST_VALUES = 100  # of a list in a log line
_FEWEST_CHARS = 4  # of what a client names its request or file, to be looked for elsewhere
_REQUEST = {"request", "request_id"}
_NAMING = {"tenant", "identity", "ref", "label", "consent", "recording", "name", "registry_name", "subject"}
_NAMING |= {"recording_name", *_REQUEST}
_RANDOM = re.compile(r"[0-9a-f]{32}")  # a request that we have named
_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
_REF = re.compile(rf"(?<![\w.-])({_NAME})\.({_NAME})(?=@(?:\d+|champion|challenger|previous)\b)")
_KINDS = rf"(?:identities/({_NAME})|renders/|recordings/|captures/|fits/|ray-train/|uploads/)"
_KEY = re.compile(rf"(?<![\w.-])(?!v1/)({_NAME})/{_KINDS}")
_ROUTE = re.compile(rf"/v1/identities/({_NAME})")
_BEFORE_MODEL = r"(?:name(?:=|%3D|%20%3D%20|\s*=\s*)['\"]?(?:%27)?|models:/|(?<!/api/2\.0/)mlflow/)"
_MODEL = re.compile(rf"{_BEFORE_MODEL}({_NAME})(?:\.({_NAME}))?")
_OURS = re.compile(rf"\b(?:tenant|identity) ({_NAME})(?:\.({_NAME}))?(?=:)|--(?:tenant|identity)[ =]({_NAME})")
_OF = re.compile(rf"\b(?:version \d+|champion|challenger|previous|report) of ({_NAME})\.({_NAME})")
_QUOTED = re.compile(rf"['\"](?:{'|'.join(sorted(_NAMING - _REQUEST))})['\"]: ?(?:'([^']+)'|\"([^\"]+)\")")
_SHAPES = (_REF, _KEY, _ROUTE, _MODEL, _OURS, _OF, _QUOTED)
_SUFFIXES = "mp4 m4v mov mkv webm avi mpe?g mts m2ts mxf 3gp wmv flv ogv wav mp3 m4a flac ogg opus aac aiff?"
_SUFFIXES += " png jpe?g webp heic bmp tiff? gif"
_MEDIA = re.compile(rf"\.({_SUFFIXES.replace(' ', '|')})\b", re.IGNORECASE)
_DATA = re.compile(r"[A-Za-z0-9+/=_-]{200,}")
_ADDRESS = re.compile(r"\b(?!127\.)\d{1,3}(?:\.\d{1,3}){3}\b")
_MAYBE_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]+(?:\.\d{1,3}){0,3}(?!\w)")


class Scrubber:
    """Hides the names that it has learned, and what looks like one.

    Args:
        names: known ones, such as those of tenants and identities.
    """

    def __init__(self, names: Iterable[str]):
        self._key = secrets.token_bytes(16)
        self._names = Names(names)

    def learn(self, text: str) -> None:
        """Learn the names that a log or a page holds, so that they are hidden wherever they stand."""
        for line in text.splitlines():
            for name, value in _values("", _json(line) or line):
                if name in _NAMING:
                    self._names.add(_words(name, str(value)))
                for pattern in _SHAPES:
                    for found in pattern.finditer(str(value)):
                        self._names.add(filter(None, found.groups()))

    def clean(self, text: str) -> str:
        """The text without secrets, names, addresses and data."""
        text = _without_media(_DATA.sub("[data]", scrub(text)))
        text = _ADDRESS.sub("[address]", _MAYBE_IPV6.sub(_without_ipv6, text))
        return self._names.replaced(text, self.hashed)

    def clean_lines(self, text: str) -> Iterator[str]:
        """The lines of a log, cleaned: long fields of ours are cut, and long lines of others left out."""
        for line in text.splitlines():
            if fields := _json(line):
                yield json.dumps(self._field("", fields))
            else:
                yield "[a long line]" if len(line) > MOST_CHARS else self.clean(line)

    def hashed(self, name: str) -> str:
        """What stands for a name in this bundle."""
        return "name-" + hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:10]

    def _field(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {self.clean(key): self._field(key, each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._field(name, each) for each in value] if len(value) <= _MOST_VALUES else "[data]"
        if name in _NAMING:
            text = str(value)
            return text if name in _REQUEST and _RANDOM.fullmatch(text) else self.hashed(text)
        return value if isinstance(value, (bool, int, float)) or value is None else _cut(self.clean(str(value)))


def _json(line: str) -> dict[str, Any]:
    """The fields of a log line of ours; none where it is another one's."""
    if not line.startswith("{"):
        return {}
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Each plain value, with the name of its field."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _values(key, each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(name, each)
    else:
        yield name, value


def _words(name: str, text: str) -> Iterator[str]:
    """What to look for elsewhere: a field's text, and its parts where it is a ref."""
    if name in _REQUEST and (len(text) < _FEWEST_CHARS or _RANDOM.fullmatch(text)):
        return
    yield text
    if found := re.fullmatch(rf"({_NAME})\.({_NAME})(?:@\w+)?", text):
        yield from found.groups()


def names_of_file(name: str) -> Iterator[str]:
    """A file's name as texts may hold it: with its suffix, and without if that is no common word."""
    yield name
    stem = name.rpartition(".")[0]
    if len(stem) >= _FEWEST_CHARS:
        yield stem


def _without_media(text: str) -> str:
    """The text without names of media files, which may hold blanks: they begin after a slash or a quote."""
    pieces, done = [], 0
    for found in _MEDIA.finditer(text):
        begin = 1 + max(text.rfind(mark, done, found.start()) for mark in "/\\'\"\n")
        begin = max(begin, done)
        if begin < found.start():
            pieces += [text[done:begin], f"[file].{found[1].lower()}"]
            done = found.end()
    return "".join([*pieces, text[done:]])


def _without_ipv6(found: re.Match[str]) -> str:
    text = found[0] if found[0].endswith("::") else found[0].rstrip(":")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return found[0]
    is_nobody = address.is_loopback or address.is_unspecified
    return found[0] if is_nobody else "[address]" + found[0][len(text) :]


def _cut(text: str) -> str:
    """Short enough for a bundle. The end of a traceback says what went wrong, its begin where."""
    if len(text) <= MOST_CHARS:
        return text
    kept = (MOST_CHARS - len(_CUT)) // 2
    return text[:kept] + _CUT + text[-kept:]
