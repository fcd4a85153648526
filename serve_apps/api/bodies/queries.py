"""Queries: what pages of a list take; and what is misspelt is told, not left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Query, Request
from fastapi.dependencies.models import Dependant

from serve_apps.problems import ApiProblem

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
"""How long a page is."""

After = Annotated[str, Query(pattern=r"^([0-9]{1,17})?$", description="`next` of the page before; the first: empty.")]
"""Where a page of a list by age begins."""


def refuse_unknown_query(request: Request) -> None:
    """Return when the route has all parameters that the query names.

    Raises:
        ApiProblem: 422, it has not.
    """
    unknown = sorted(set(request.query_params) - set(_names_of(request.scope["route"].dependant)))
    if unknown:
        errors = [{"field": f"query.{name[:80]}", "detail": "no such parameter"} for name in unknown[:10]]
        # Without the header the server would go on to receive a body, however long it is.
        raise ApiProblem("invalid-request", "the query has unknown parameters", {"Connection": "close"}, errors)


def _names_of(dependant: Dependant) -> Iterator[str]:
    """The parameters of a route, and of what it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names_of(inner)
