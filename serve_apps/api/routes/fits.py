"""``/v1/fits``: from recordings to versions of identities."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from serve_apps.api.authentication import IdempotencyKey, Operator, OperatorLookup
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.queries import After, Limit
from serve_apps.api.openapi import located, problem_responses
from serve_apps.api.resources.fits import FitBody, FitList, FitOrder, Fits, FitStatus
from serve_apps.api.services import ServicesOf
from serve_apps.api.waiting.streams import EVENT_STREAM, event_stream

router = APIRouter(prefix="/v1/fits", tags=["fits"])
_ACCEPTED = located(202, "Queued. `Location` is where to ask for it.")


async def _fits(services: ServicesOf) -> Fits:
    return Fits(services.platform)


Found = Annotated[Fits, Depends(_fits)]


@router.post(
    "",
    status_code=202,
    operation_id="createFit",
    response_model=FitBody,
    openapi_extra=body_of(FitOrder),
    responses={**_ACCEPTED, **problem_responses(400, 401, 404, 408, 409, 413, 415, 422, 429)},
)
def create_fit(
    tenant: OperatorLookup,
    found: Found,
    response: Response,
    order: Annotated[FitOrder, json_body(FitOrder)],
    idempotency_key: IdempotencyKey = None,
) -> FitBody:
    """Queue a fit of a person from a recording. The same wish is one fit, also when it is done."""
    job = found.create(tenant, order, idempotency_key)
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    return found.body(job)


@router.get("", operation_id="listFits", response_model=FitList, responses=problem_responses(401, 422, 429))
def list_fits(
    tenant: Operator,
    found: Found,
    status: Annotated[FitStatus | None, Query(description="Only those in this state.")] = None,
    identity: Annotated[str | None, Query(max_length=40, description="Only those of this person.")] = None,
    limit: Limit = 20,
    after: After = "",
) -> FitList:
    """Your fits, the newest first. Finished ones leave after a week."""
    return found.page(tenant, status=status, identity=identity, after=after, limit=limit)


@router.get("/{fit_id}", operation_id="getFit", response_model=FitBody, responses=problem_responses(401, 404, 429))
def get_fit(tenant: Operator, found: Found, fit_id: str) -> FitBody:
    """How far a fit is; when done, which version it made."""
    return found.body(found.get(tenant, fit_id))


@router.delete(
    "/{fit_id}", operation_id="cancelFit", response_model=FitBody, responses=problem_responses(401, 404, 409, 429)
)
def cancel_fit(tenant: Operator, found: Found, fit_id: str) -> FitBody:
    """Cancel a queued or running fit. Cancelling it again changes nothing."""
    return found.body(found.cancel(tenant, fit_id))


@router.post(
    "/{fit_id}/resume",
    status_code=202,
    operation_id="resumeFit",
    response_model=FitBody,
    responses={**_ACCEPTED, **problem_responses(401, 404, 409, 429)},
)
def resume_fit(tenant: OperatorLookup, found: Found, response: Response, fit_id: str) -> FitBody:
    """Go on with a fit that failed or was cancelled, from its last steps, under a new id."""
    job = found.resume(tenant, fit_id)
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    return found.body(job)


@router.get(
    "/{fit_id}/events",
    operation_id="followFit",
    response_class=Response,
    responses={200: EVENT_STREAM, **problem_responses(401, 404, 429)},
)
async def follow_fit(request: Request, tenant: Operator, services: ServicesOf, found: Found, fit_id: str) -> Response:
    """Every change of a fit as server-sent events, until it has ended; each is the fit as `GET` shows it."""
    job = await services.in_thread(found.get, tenant, fit_id)
    return await event_stream(request, services.changes, job, found.body)
