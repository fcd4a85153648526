"""Bodies of the API: health.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from typing import Literal

from m2dao_client.models.base import Model


class Health(Model):
    """An answer of the health routes."""

    status: Literal["ok"]


class Readiness(Model):
    """How the services behind the API are."""

    status: Literal["ok", "degraded", "maintenance"]
    """`degraded`: renders go on, but something else does not. `maintenance`: nothing new is accepted, and
    everything can be read."""
    degraded: list[str]
    """What does not answer."""
