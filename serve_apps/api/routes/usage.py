"""``/v1/usage``: what a tenant has used, for its bill."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from cluster.ids import IdentityName
from cluster.state.resources.usage import UsageRow, today
from serve_apps.api.authentication import Operator
from serve_apps.api.bodies.times import Day
from serve_apps.api.bodies.usage import UsageBody, UsageList
from serve_apps.api.openapi import problem_responses
from serve_apps.api.services import ServicesOf
from serve_apps.problems import ApiProblem

router = APIRouter(prefix="/v1/usage", tags=["usage"])
_USUAL = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a query asks for."""

    first: date
    last: date
    identity: IdentityName | None
    format: str
    after: str
    limit: int


async def _wanted(
    from_: Annotated[
        Day | None, Query(alias="from", description="The first day (UTC); 30 days before the last when not given.")
    ] = None,
    to: Annotated[
        date | None, Query(description="The last day (UTC), this one included; today when not given.")
    ] = None,
    identity: Annotated[
        str | None, Query(pattern="^[a-z0-9][a-z0-9-]{0,39}$", description="Only what was used for this person.")
    ] = None,
    format: Annotated[Literal["json", "csv"], Query(description="`csv`: a table with a line of names.")] = "json",
    limit: Annotated[int, Query(ge=1, le=1000, description="How many rows at most.")] = 100,
    after: Annotated[
        str,
        Query(pattern=r"^([0-9]{1,6}\.[a-z0-9-]{0,40})?$", description="`next` of the page before; the first: empty."),
    ] = "",
) -> _Wanted:
    last = to or today()
    first = from_ or last - min(_USUAL, last - date.min)
    if first > last:
        fault = {"field": "query.from", "detail": f"at most the last day, which is {last}"}
        raise ApiProblem("invalid-request", "the days end before they begin", errors=[fault])
    name = None if identity is None else IdentityName(identity)
    return _Wanted(first=first, last=last, identity=name, format=format, after=after, limit=limit)


Wanted = Annotated[_Wanted, Depends(_wanted)]


@router.get(
    "",
    operation_id="listUsage",
    response_model=UsageList,
    responses={
        200: {
            "description": "Rows by day and identity. `Link` leads to the next page.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        },
        **problem_responses(401, 422, 429),
    },
)
def list_usage(
    request: Request,
    response: Response,
    tenant: Operator,
    services: ServicesOf,
    wanted: Wanted,
) -> UsageList | Response:
    """What you used, by day and identity, the oldest first."""
    rows, following = services.state.usage.page(
        tenant, wanted.first, wanted.last, identity=wanted.identity, after=wanted.after, limit=wanted.limit
    )
    bodies = [_body(row) for row in rows]
    if following is not None:
        days = {"from": wanted.first, "to": wanted.last}
        link = request.url.include_query_params(**days, after=following)
        response.headers["Link"] = f'<{link.path}?{link.query}>; rel="next"'
    if wanted.format == "csv":
        return Response(_csv(bodies), headers=dict(response.headers), media_type="text/csv")
    return UsageList(usage=bodies, next=following)


def _csv(rows: list[UsageBody]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(UsageBody.model_fields), lineterminator="\r\n")
    table.writeheader()
    table.writerows(row.model_dump() for row in rows)
    return text.getvalue()


def _body(row: UsageRow) -> UsageBody:
    return UsageBody(
        day=row.day,
        identity=None if row.identity is None else str(row.identity),
        num_renders=row.num_renders,
        rendered_s=round(row.rendered_s, 3),
        num_fits=row.num_fits,
        fitted_s=round(row.fitted_s, 3),
        stored_mb_days=round(row.stored_mb_days, 6),
    )
