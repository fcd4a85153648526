"""What an operation asks its driver for, so that the SDK's logic knows no sockets and no event loops.

An operation is a generator. It yields steps, is given their results, and returns its own. A driver does the steps,
with or without an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

Result = TypeVar("Result")
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request.

    Args:
        repeatable: whether it may be sent again when no answer came; safe methods and keyed requests may.
        files: of a form: name -> (file name, bytes).
    """

    method: str
    url: str
    repeatable: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str | int | float] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What came back; of an open stream, without the content."""

    status: int
    headers: Mapping[str, str]
    content: bytes = b""


@dataclass(frozen=True)
class Send:
    """Send a request; the result is the whole ``Answer``."""

    request: Request


@dataclass(frozen=True)
class Open:
    """Send a request and keep its answer open; the result is the ``Answer`` so far. One at a time."""

    request: Request


@dataclass(frozen=True)
class Read:
    """Read on in the open answer; the result is bytes, none at its end."""


@dataclass(frozen=True)
class Close:
    """Close the open answer. What is still open when an operation ends, its driver closes."""


@dataclass(frozen=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call something that blocks, such as reading a file; the result is its result."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Emit(Generic[Item]):
    """Hand an item to whoever iterates."""

    item: Item


Step: TypeAlias = Send | Open | Read | Close | Pause | Work
Call: TypeAlias = Generator[Step, Any, Result]
"""An operation with one result."""
Items: TypeAlias = Generator[Step | Emit[Item], Any, None]
"""An operation that emits items."""
