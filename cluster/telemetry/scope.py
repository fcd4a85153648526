"""Whom a thread or task works for: a request, a tenant, a job. Every log line tells it.

    with working_for(request="9f2c", tenant="acme"):
        log.info("accepted")        # {"message": "accepted", "request": "9f2c", "tenant": "acme", ...}

Tasks of an event loop begin with the scope of whoever makes them. Threads do not: give them ``carried(call)``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

REQUEST, TENANT, JOB = "request", "tenant", "job"
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_scope: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("m2dao_scope", default=MappingProxyType({}))
Result = TypeVar("Result")


def scope() -> Mapping[str, str]:
    """The fields of the present scope."""
    return _scope.get()


@contextlib.contextmanager
def working_for(**more: str) -> Iterator[None]:
    """Add fields to the scope of what is inside; empty ones are left out."""
    token = _scope.set({**_scope.get(), **{name: value for name, value in more.items() if value}})
    try:
        yield
    finally:
        _scope.reset(token)


def note(**more: str) -> None:
    """Add fields to the present scope, until whoever opened it closes it."""
    _scope.set({**_scope.get(), **more})


def carried(call: Callable[[], Result]) -> Callable[[], Result]:
    """``call`` with the present scope, for another thread."""
    return functools.partial(contextvars.copy_context().run, call)


def is_request_id(text: str) -> bool:
    """Whether a client may name its request so: 1 to 128 letters, digits, dots, dashes and underscores."""
    return _REQUEST_ID.fullmatch(text) is not None


def new_request_id() -> str:
    """A name for a request that came without one."""
    return uuid.uuid4().hex
