"""``/v1/batches``: one wish for many identities, carried out in waves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from serve_apps.api.authentication import IdempotencyKey, Operator, OperatorLookup
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.queries import After, Limit
from serve_apps.api.openapi import located, problem_responses
from serve_apps.api.resources.batches import BatchBody, BatchList, BatchRequest, BatchResource, batch_body
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/batches", tags=["batches"])
_ACCEPTED = located(202, "Accepted. `Location` is where to ask for it.")


async def _batches(services: ServicesOf) -> BatchResource:
    return BatchResource(services.platform)


Found = Annotated[BatchResource, Depends(_batches)]


@router.post(
    "",
    status_code=202,
    operation_id="createBatch",
    response_model=BatchBody,
    openapi_extra=body_of(BatchRequest),
    responses={**_ACCEPTED, **problem_responses(400, 401, 404, 408, 409, 413, 415, 422, 429)},
)
def create_batch(
    tenant: OperatorLookup,
    found: Found,
    response: Response,
    wish: Annotated[BatchRequest, json_body(BatchRequest)],
    idempotency_key: IdempotencyKey = None,
) -> BatchBody:
    """Fit, migrate or judge many identities, in waves. It pauses when too many have failed."""
    record = found.create(tenant, wish, idempotency_key)
    response.headers["Location"] = f"{router.prefix}/{record.id}"
    return batch_body(record)


@router.get("", operation_id="listBatches", response_model=BatchList, responses=problem_responses(401, 422, 429))
def list_batches(
    tenant: Operator,
    found: Found,
    limit: Limit = 20,
    after: After = "",
) -> BatchList:
    """Your batches, the newest first. Ended ones leave after a week."""
    return found.page(tenant, after=after, limit=limit)


@router.get(
    "/{batch_id}", operation_id="getBatch", response_model=BatchBody, responses=problem_responses(401, 404, 429)
)
def get_batch(tenant: Operator, found: Found, batch_id: str) -> BatchBody:
    """How far a batch is, item by item."""
    return batch_body(found.get(tenant, batch_id))


@router.delete(
    "/{batch_id}",
    operation_id="cancelBatch",
    response_model=BatchBody,
    responses=problem_responses(401, 404, 409, 429),
)
def cancel_batch(tenant: Operator, found: Found, batch_id: str) -> BatchBody:
    """Begin nothing more and end what has begun. Cancelling it again changes nothing."""
    return batch_body(found.cancel(tenant, batch_id))


@router.post(
    "/{batch_id}/pause",
    operation_id="pauseBatch",
    response_model=BatchBody,
    responses=problem_responses(401, 404, 409, 429),
)
def pause_batch(tenant: Operator, found: Found, batch_id: str) -> BatchBody:
    """Begin nothing more; what has begun goes on."""
    return batch_body(found.pause(tenant, batch_id))


@router.post(
    "/{batch_id}/resume",
    operation_id="resumeBatch",
    response_model=BatchBody,
    responses=problem_responses(401, 404, 409, 422, 429),
)
def resume_batch(
    tenant: Operator,
    found: Found,
    batch_id: str,
    retry_failed: Annotated[bool, Query(description="Begin with what has failed anew.")] = False,
) -> BatchBody:
    """Go on with a paused batch. Failures until now no longer count."""
    return batch_body(found.resume(tenant, batch_id, retry_failed=retry_failed))
