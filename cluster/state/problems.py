"""Why a job failed, in the one form in which it is stored with the job."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from m2dao.errors import M2daoError
from m2dao.secrets import scrub

_URN = "urn:m2dao:problem:"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a job failed.

    Args:
        code: stable, for programs; the ``code`` of an error class or a word of the job store's own.
        title: what kind of thing went wrong, in a few words.
        detail: what went wrong this time.
    """

    code: str
    title: str = ""
    detail: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Problem:
        """The problem that an exception is, with its whole message: for operators, not for a tenant."""
        if isinstance(error, M2daoError):
            title = (type(error).__doc__ or error.code).splitlines()[0]
            return cls(code=error.code, title=title, detail=str(error))
        detail = scrub(f"{type(error).__name__}: {error}")
        return cls(code="internal-error", title="An unexpected error", detail=detail)

    def as_dict(self) -> dict[str, str]:
        """As JSON; ``Problem.from_dict`` reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Problem:
        """Read what ``as_dict`` wrote, or the problem document that was stored with renders before."""
        code = values.get("code") or str(values.get("type", "")).removeprefix(_URN) or "internal-error"
        return cls(code=code, title=values.get("title", ""), detail=values.get("detail", ""))
