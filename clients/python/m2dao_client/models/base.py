"""What the bodies of the API have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A body of the API. Fields that a later release adds are left out, so that this one goes on to work."""

    model_config = ConfigDict(extra="ignore", frozen=True)
