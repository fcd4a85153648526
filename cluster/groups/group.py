"""What a group of settings is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MB = 1_000_000


class Group(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def number(default: float | None, low: float, high: float, help: str) -> Any:
    """A number from ``low`` to ``high``."""
    return Field(default, ge=low, le=high, description=help)
