"""Queries of lists: what is misspelt is told, not left out."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from serve_apps.problems import ApiProblem


async def known_query(request: Request) -> None:
    """Return when a route has all parameters that the query names.

    Raises:
        ApiProblem: 422, it has not.
    """
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        errors = [{"field": f"query.{name[:80]}", "detail": "no such parameter"} for name in unknown[:10]]
        raise ApiProblem("invalid-request", "the query has unknown parameters", errors=errors)


KnownQuery = Annotated[None, Depends(known_query)]
"""A parameter of this type lets a route refuse unknown parameters of its query; name it after the tenant."""
