"""``/v1/recordings``: videos of people, uploaded in parts straight to the object store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from cluster.control.recordings import Recordings
from serve_apps.api.authentication import IdempotencyKey, Operator, OperatorLookup
from serve_apps.api.bodies.json_body import body_of, json_body
from serve_apps.api.bodies.queries import After, Limit
from serve_apps.api.openapi import located, problem_responses
from serve_apps.api.resources.recordings import (
    RecordingBody,
    RecordingList,
    RecordingRequest,
    RecordingResource,
    UploadBody,
    recording_body,
)
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/recordings", tags=["recordings"])


async def _resource(services: ServicesOf) -> RecordingResource:
    platform = services.platform
    return RecordingResource(Recordings(platform.state, platform.store, platform.settings.recordings))


Found = Annotated[RecordingResource, Depends(_resource)]


@router.post(
    "",
    status_code=201,
    operation_id="createRecording",
    response_model=RecordingBody,
    openapi_extra=body_of(RecordingRequest),
    responses={
        **located(201, "Room is reserved. `upload` tells where to send the parts, `Location` where to ask for it."),
        **problem_responses(400, 401, 408, 409, 413, 415, 422, 429),
    },
)
async def create_recording(
    tenant: OperatorLookup,
    services: ServicesOf,
    found: Found,
    response: Response,
    wish: Annotated[RecordingRequest, json_body(RecordingRequest)],
    idempotency_key: IdempotencyKey = None,
) -> RecordingBody:
    """Reserve room for a video and begin its upload. The same bytes are one recording."""
    body = await services.in_thread(found.create, tenant, wish, idempotency_key)
    response.headers["Location"] = f"{router.prefix}/{body.id}"
    return body


@router.get("", operation_id="listRecordings", response_model=RecordingList, responses=problem_responses(401, 422, 429))
def list_recordings(
    tenant: Operator,
    found: Found,
    limit: Limit = 20,
    after: After = "",
) -> RecordingList:
    """Your recordings, the newest first."""
    return found.page(tenant, after=after, limit=limit)


@router.get(
    "/{recording_id}",
    operation_id="getRecording",
    response_model=RecordingBody,
    responses=problem_responses(401, 404, 429),
)
def get_recording(tenant: Operator, found: Found, recording_id: str) -> RecordingBody:
    """One recording; when ready, what is in it."""
    return recording_body(found.get(tenant, recording_id))


@router.get(
    "/{recording_id}/parts",
    operation_id="getRecordingParts",
    response_model=UploadBody,
    responses=problem_responses(401, 404, 409, 429),
)
async def get_recording_parts(
    tenant: OperatorLookup, services: ServicesOf, found: Found, recording_id: str
) -> UploadBody:
    """Which parts the store has, and fresh URLs for those that it lacks: how an upload goes on."""
    return await services.in_thread(found.parts, tenant, recording_id)


@router.post(
    "/{recording_id}/complete",
    status_code=202,
    operation_id="completeRecording",
    response_model=RecordingBody,
    responses=problem_responses(401, 404, 409, 429),
)
async def complete_recording(
    tenant: OperatorLookup, services: ServicesOf, found: Found, recording_id: str
) -> RecordingBody:
    """End an upload, once all parts are stored. It is looked into at once. Safe to repeat."""
    return recording_body(await services.in_thread(found.complete, tenant, recording_id))


@router.delete(
    "/{recording_id}",
    status_code=204,
    operation_id="deleteRecording",
    response_class=Response,
    responses=problem_responses(401, 404, 409, 429),
)
async def delete_recording(tenant: OperatorLookup, services: ServicesOf, found: Found, recording_id: str) -> None:
    """Delete a recording and its captures, or give its upload up. Versions that were fitted from it stay."""
    await services.in_thread(found.delete, tenant, recording_id)
