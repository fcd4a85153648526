"""Bodies of the API: shared.

Written from the API's own description by `make docs`: do not edit.
"""

from __future__ import annotations

from m2dao_client.models.base import Model


class FieldFault(Model):
    """One fault of a request."""

    field: str
    """Where: the form field, parameter or header."""
    detail: str
    """What is wrong with it."""


class Problem(Model):
    """Every error answer (RFC 9457)."""

    type: str
    """`urn:m2dao:problem:<code>`, stable."""
    title: str
    """What the code means."""
    status: int
    """The HTTP status."""
    detail: str | None = None
    """What happened in this case."""
    errors: list[FieldFault] | None = None
    """The single faults of an invalid request."""
    request_id: str | None = None
    """The request, as our logs name it; also `X-Request-Id`."""
