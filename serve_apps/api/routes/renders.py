"""``/v1/renders``: ask for videos, follow them, cancel them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from cluster.scratch import scratch_folder
from cluster.state.records import Span
from cluster.telemetry.traces import spans
from m2dao.errors import InputError
from serve_apps.api import schemas
from serve_apps.api.authentication import Asker, Tenant, Upload
from serve_apps.api.bodies.queries import After, Limit
from serve_apps.api.bodies.times import Moment
from serve_apps.api.openapi import located, problem_responses
from serve_apps.api.renders import RenderFilter, RenderRequests
from serve_apps.api.services import ServicesOf
from serve_apps.api.uploads import disk_need, read_render_form
from serve_apps.api.waiting.ends import ended_job
from serve_apps.api.waiting.streams import EVENT_STREAM, event_stream
from serve_apps.api.web import is_head
from serve_apps.problems import ApiProblem

SCRATCH = "upload-"  # what the names of temporary folders of requests begin with
_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")  # others are ignored, as the protocol has it
_MP4 = "video/mp4"
router = APIRouter(prefix="/v1/renders", tags=["renders"])


async def _requests(services: ServicesOf) -> RenderRequests:
    return RenderRequests(services)


async def _work_dir() -> AsyncIterator[Path]:
    with scratch_folder(SCRATCH) as folder:
        yield folder


Requests = Annotated[RenderRequests, Depends(_requests)]
Wait = Annotated[
    int, Query(ge=0, le=60, description="Seconds to wait for its end; the answer comes then, or after this time.")
]
_ACCEPTED = located(202, "Queued. `Location` is where to ask for it.")
_LOOK_AGAIN_S = 2


@router.post(
    "",
    status_code=202,
    operation_id="createRender",
    response_model=schemas.Render,
    openapi_extra=schemas.CREATE_RENDER_BODY,
    responses={
        **_ACCEPTED,
        200: {**_ACCEPTED[202], "description": "It has ended within `wait`.", "model": schemas.Render},
        **problem_responses(400, 401, 404, 408, 413, 415, 422, 429),
    },
)
async def create_render(
    request: Request,
    response: Response,
    place: Upload,
    services: ServicesOf,
    requests: Requests,
    work_dir: Annotated[Path, Depends(_work_dir)],
    wait: Wait = 0,
) -> schemas.Render:
    """Queue a video of an identity speaking the uploaded audio."""
    with services.disk.reserved(disk_need(request, services.config)):
        with spans.span("accept"):
            form = await read_render_form(request, services.config, work_dir, services.writers)
        job = await requests.create(place, form, work_dir)
    request.app.state.on_created()
    await place.give_back()  # now, so that the next request of this client finds it
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    job = await ended_job(services.changes, job, wait)
    if wait and job.finished:
        response.status_code = 200
    # A link to a video is signed, which takes time; a new render has none.
    return requests.body(job) if job.result is None else await services.in_thread(requests.body, job)


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


async def _filter(
    status: Annotated[schemas.RenderStatus | None, Query(description="Only those in this state.")] = None,
    identity: Annotated[
        str | None, Query(pattern="^[a-z0-9][a-z0-9-]{0,39}$", description="Only those of this person.")
    ] = None,
    version: Annotated[int | None, Query(ge=1, le=2**53, description="Only those of this version.")] = None,
    since: Annotated[Moment | None, Query(description="Only those made at this time or later.")] = None,
    until: Annotated[Moment | None, Query(description="Only those made before this time.")] = None,
    limit: Limit = 20,
    after: After = "",
    offset: Annotated[
        int,
        Query(ge=0, le=1_000_000, description="How many of the newest to leave out, with `limit` alone. Use `after`."),
    ] = 0,
) -> RenderFilter:
    if offset and (after or any(each is not None for each in (status, identity, version, since, until))):
        fault = {"field": "query.offset", "detail": "only with `limit`; use `after`"}
        raise ApiProblem("invalid-request", "the list can be asked for in one way at a time", errors=[fault])
    span = Span(since_s=_unix(since), until_s=_unix(until))
    return RenderFilter(
        status=status, identity=identity, version=version, span=span, after=after, offset=offset, limit=limit
    )


@router.get(
    "", operation_id="listRenders", response_model=schemas.RenderList, responses=problem_responses(401, 422, 429)
)
def list_renders(
    tenant: Tenant, requests: Requests, wanted: Annotated[RenderFilter, Depends(_filter)]
) -> schemas.RenderList:
    """Your renders, the newest first; ended ones leave after a week. A short page may have a `next`."""
    jobs, following = requests.page(tenant, wanted)
    return schemas.RenderList(renders=[requests.body(job) for job in jobs], next=following)


@router.get(
    "/{render_id}",
    operation_id="getRender",
    response_model=schemas.Render,
    responses={
        200: {
            "description": "The render. While it is open, `Retry-After` says when to ask again.",
            "headers": {"Retry-After": {"schema": {"type": "string"}}},
        },
        **problem_responses(401, 404, 422, 429),
    },
)
async def get_render(
    asker: Asker, response: Response, services: ServicesOf, requests: Requests, render_id: str, wait: Wait = 0
) -> schemas.Render:
    """How far a render is; when done, where the video is."""
    job = await run_in_threadpool(requests.get, asker, render_id)
    job = await ended_job(services.changes, job, wait)
    if not job.finished:
        response.headers["Retry-After"] = str(_LOOK_AGAIN_S)
    return await run_in_threadpool(requests.body, job)


@router.get(
    "/{render_id}/events",
    operation_id="followRender",
    response_class=Response,
    responses={200: EVENT_STREAM, **problem_responses(401, 404, 429)},
)
async def follow_render(
    request: Request, asker: Asker, services: ServicesOf, requests: Requests, render_id: str
) -> Response:
    """Every change of a render until it ends, as server-sent events whose data is the render."""
    job = await run_in_threadpool(requests.get, asker, render_id)
    return await event_stream(request, services.changes, job, requests.body)


@router.post(
    "/{render_id}/retry",
    status_code=202,
    operation_id="retryRender",
    response_model=schemas.Render,
    responses={**_ACCEPTED, **problem_responses(401, 404, 409, 429)},
)
async def retry_render(
    request: Request, response: Response, asker: Asker, services: ServicesOf, requests: Requests, render_id: str
) -> schemas.Render:
    """Make a render in place of one that failed: the same sound and version, and once only."""
    job = await services.in_thread(requests.retry, asker, render_id)
    request.app.state.on_created()
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    return await run_in_threadpool(requests.body, job)


@router.get(
    "/{render_id}/video",
    operation_id="getRenderVideo",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The video.", "content": {"video/mp4": {}}},
        206: {"description": "The part of it that `Range` asked for.", "content": {"video/mp4": {}}},
        **problem_responses(401, 404, 416, 422, 429),
    },
)
def get_render_video(
    request: Request,
    asker: Asker,
    services: ServicesOf,
    requests: Requests,
    render_id: str,
    download: Annotated[bool, Query(description="Save it as a file instead of playing it.")] = False,
    range: Annotated[str | None, Header(max_length=200, description="A part, such as `bytes=0-1023`.")] = None,
) -> Response:
    """The finished video itself, to play in a page or, with `download=1`, to save."""
    key = requests.video_key(asker, render_id)
    kind = "attachment" if download else "inline"
    headers = {"Accept-Ranges": "bytes", "Content-Disposition": f'{kind}; filename="{render_id}.mp4"'}
    wanted = range if range is not None and _RANGE.fullmatch(range) else None
    if is_head(request):
        headers["Content-Length"] = str(services.store.head(key).num_bytes)
        return Response(media_type=_MP4, headers=headers)
    try:
        part = services.store.read_range(key, wanted)
    except InputError as error:
        raise ApiProblem("range-not-satisfiable", error.got) from error
    headers["Content-Length"] = str(part.num_bytes)
    if part.content_range is not None:
        headers["Content-Range"] = part.content_range
    status = 200 if part.content_range is None else 206
    return StreamingResponse(part.chunks(), status, headers, _MP4)


@router.delete(
    "/{render_id}",
    operation_id="cancelRender",
    response_model=schemas.Render,
    responses=problem_responses(401, 404, 409, 429),
)
def cancel_render(asker: Asker, requests: Requests, render_id: str) -> schemas.Render:
    """Cancel a queued or running render. Cancelling it again changes nothing."""
    return requests.body(requests.cancel(asker, render_id))
