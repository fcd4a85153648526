"""Queries of lists: what is misspelt is told, not left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from serve_apps.problems import ApiProblem


async def known_query(request: Request) -> None:
    """Return when a route has all parameters that the query names.

    Raises:
        ApiProblem: 422, it has not.
    """
    known = set(_names_of(request.scope["route"].dependant))
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        errors = [{"field": f"query.{name[:80]}", "detail": "no such parameter"} for name in unknown[:10]]
        raise ApiProblem("invalid-request", "the query has unknown parameters", errors=errors)


def _names_of(dependant: Dependant) -> Iterator[str]:
    """The parameters of a route, and of what it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names_of(inner)


KnownQuery = Annotated[None, Depends(known_query)]
"""A parameter of this type lets a route refuse unknown parameters of its query; name it after the tenant."""
