"""Fits as the API shows them, without HTTP."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from cluster.control.fit_requests import MAX_CONSENT_CHARACTERS, PRIORITIES, STAGES, FitOptions, FitRequest
from cluster.control.fits import FitService
from cluster.control.recordings import Recordings
from cluster.ids import FitId, IdentityName, ModelRef, TenantId
from cluster.platform import Platform
from cluster.state.records import JobRecord
from cluster.state.resources.recordings import RecordingRecord
from m2dao.errors import Conflict, InvalidId, QuotaExceeded, UnknownJob
from serve_apps.api.bodies.times import utc
from serve_apps.api.resources.recordings import parse_recording
from serve_apps.api.schemas import Body
from serve_apps.problems import ApiProblem, document_for_tenant

FitStatus = Literal["queued", "running", "done", "failed", "cancelled"]
MINUTES = {"quick": 2.0, "good": 10.0, "best": 30.0}
_AGAIN_S = 60
_URL_S = 3600
_PICTURES_S = 22 * 3600  # for so long after its end a fit has pictures; the janitor deletes them after a day


class FitTerms(Body):
    """What to fit, and for how long."""

    quality: Literal["quick", "good", "best"] = Field(
        default="good", description="How long to fit: 2, 10 or 30 minutes, unless `minutes` says otherwise."
    )
    minutes: float | None = Field(default=None, gt=0, le=1440, description="How long to fit, in minutes.")
    size: Literal[64, 128, 256, 512] = Field(default=256, description="Side of the picture, in pixels.")
    recipe: str = Field(default="m2dao", pattern="^[a-z0-9_-]{1,40}$", description="The training recipe.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of everything random.")


class FitOrder(FitTerms):
    """An identity that is to be fitted from a recording."""

    identity: str = Field(
        pattern="^[a-z0-9][a-z0-9-]{0,39}$",
        description="The person's name; a new version of it is made.",
        examples=["anna"],
    )
    recording: str | None = Field(
        default=None,
        max_length=100,
        description="The id of a recording that is ready.",
        examples=["rec-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4"],
    )
    recordings: list[Annotated[str, Field(max_length=100)]] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="The same as a list. A fit is from one recording: more are refused, as their cameras differ.",
    )
    consent: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_CONSENT_CHARACTERS,
        description="Who said, and where, that the person consents; kept with the version.",
    )
    promote: bool = Field(default=False, description="Promote the version if it passes the gate.")
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="Which of your fits start first. What has begun is never stopped."
    )


class PictureBody(Body):
    """A picture of a fit."""

    name: str = Field(
        description="`contact_sheet.jpg`: what the person was seen doing. `strip.jpg`: recording, render."
    )
    url: str = Field(description="Without an API key.")
    updated_at: datetime
    expires_at: datetime = Field(description="When the URL stops working. Ask again for a fresh one.")


class FitResult(Body):
    """What a fit has made."""

    version: int
    metrics: dict[str, float]
    promoted: bool | None = Field(description="Whether it became the champion; null: that was not asked for.")
    detail: str = Field(description="Why it was not promoted.")


class FitBody(Body):
    """A fit: the way from a recording to a version of an identity."""

    id: str = Field(examples=["f-7f3c1f0e5b1d4d0fa2b5e0f4c1a2b3c4"])
    status: FitStatus
    stage: str = Field(
        description="What is done now: `fetch`, `prepare`, `fit`, `evaluate`, `register`; else `status`."
    )
    detail: str = Field(description="The same more closely: step, phase, loss and picture quality so far.")
    progress: float = Field(ge=0, le=1, description="0 to 1.")
    time_left_s: float | None = Field(description="Until the stage `fit` is done, about; null where nobody can tell.")
    metrics: dict[str, float] = Field(description="Of the last step told: `step`, `loss`, `psnr_db`. Empty before.")
    pictures: list[PictureBody] = Field(
        default=[], description="How it looks so far. Not in lists; gone a day after the end."
    )
    identity: str
    recording_sha256: str
    size: int
    recipe: str
    minutes: float | None
    priority: Literal["low", "normal", "high"]
    attempt: int = Field(description="How many times a worker has started it.")
    created_at: datetime
    updated_at: datetime
    result: FitResult | None = Field(default=None, description="When done.")
    error: dict[str, Any] | None = Field(default=None, description="When failed: a problem document.")


class FitList(Body):
    """Fits of the tenant, the newest first."""

    fits: list[FitBody]
    next: str | None = Field(description="Where the next page begins: ask again with `after` set to it. null: no more.")


class Fits:
    """The fits of tenants; an id that is malformed, unknown or another's gets the same answer."""

    def __init__(self, platform: Platform):
        self._platform, self._jobs = platform, platform.state.jobs
        self._service = FitService(state=platform.state, store=platform.store)

    def create(self, tenant: TenantId, order: FitOrder, key: str | None) -> JobRecord:
        """Queue a fit. The same wish is one fit, as long as that fit is open.

        Args:
            key: the client's own name for this request.

        Raises:
            ApiProblem: too many fits are open.
            Conflict: the recording is not ready.
            UnknownRecording: there is no such recording.
            M2daoError: see ``FitService.order``.
        """
        limits = self._platform.settings.fit
        recording = self.ready_recording(tenant, _one_recording(order))
        options = self.options(order)
        request = FitRequest(
            batch=str(FitId.new()),
            identity=IdentityName.parse(order.identity),
            recording_sha256=recording.sha256,
            recording_name=recording.name,
            options=options,
            consent=order.consent,
            promote=order.promote,
            priority=PRIORITIES[order.priority],
        )
        try:
            return self._service.order(tenant, request, key=key, max_open=limits.max_open)
        except QuotaExceeded as error:
            detail = f"at most {limits.max_open} fits may be queued or running"
            raise ApiProblem("too-many-fits", detail, {"Retry-After": str(_AGAIN_S)}) from error

    def ready_recording(self, tenant: TenantId, text: str) -> RecordingRecord:
        """A recording that can be fitted.

        Raises:
            Conflict: it is not ready.
            UnknownRecording: there is no such recording.
        """
        platform = self._platform
        recordings = Recordings(platform.state, platform.store, platform.settings.recordings)
        recording = recordings.get(tenant, parse_recording(text))
        if recording.state != "ready":
            raise Conflict(
                f"recording {recording.id}",
                "one that is ready",
                f"one that is {recording.state}",
                "wait, or see its error",
            )
        return recording

    def options(self, terms: FitTerms) -> FitOptions:
        """What to fit and for how long.

        Raises:
            ApiProblem: a fit may not take so long.
        """
        most = self._platform.settings.fit.max_minutes
        minutes = terms.minutes or MINUTES[terms.quality]
        if minutes > most:
            fault = {"field": "body.minutes", "detail": f"at most {most:g}"}
            raise ApiProblem("invalid-request", "a fit may take so long at most", errors=[fault])
        return FitOptions(recipe=terms.recipe, size=terms.size, minutes=minutes, seed=terms.seed)

    def get(self, tenant: TenantId, text: str) -> JobRecord:
        """One fit."""
        try:
            return self._jobs.get(tenant, parse_fit(text))
        except UnknownJob as error:
            raise _unknown() from error

    def body(self, job: JobRecord) -> FitBody:
        """A fit as the API shows it, with its pictures."""
        over_s = time.time() - job.updated_s if job.finished else 0.0
        if over_s > _PICTURES_S:
            return fit_body(job)
        expires_at = datetime.now(UTC) + timedelta(seconds=_URL_S)
        request, store = FitRequest.of(job), self._platform.store
        pictures = [
            PictureBody(
                name=name,
                url=store.presign_get(request.picture_key(job, name), expires_s=_URL_S, name=name),
                updated_at=utc(at_s),
                expires_at=expires_at,
            )
            for name, at_s in sorted(job.figures.get("pictures", {}).items())
        ]
        return fit_body(job).model_copy(update={"pictures": pictures})

    def page(self, tenant: TenantId, *, status: str | None, identity: str | None, after: str, limit: int) -> FitList:
        """A page of fits, the newest first."""
        jobs, following = self._jobs.page(
            tenant,
            "fit",
            keep=lambda job: status in (None, job.status) and identity in (None, job.request["identity"]),
            after=after,
            limit=limit,
        )
        return FitList(fits=[fit_body(job) for job in jobs], next=following)

    def cancel(self, tenant: TenantId, text: str) -> JobRecord:
        """End a fit; of one that is cancelled already, nothing changes.

        Raises:
            Conflict: it is done or failed.
        """
        job = self.get(tenant, text)
        return self._service.cancel(tenant, job.fit_id)

    def resume(self, tenant: TenantId, text: str) -> JobRecord:
        """Go on with a fit that failed or was cancelled, under a new id; one that is open goes on by itself.

        Raises:
            Conflict: it is done.
        """
        job = self.get(tenant, text)
        return self._service.resume(tenant, [job.fit_id]).jobs[0]


def parse_fit(text: str) -> FitId:
    """The id of a fit; what cannot be one gets the answer that an unknown one gets."""
    try:
        return FitId.parse(text)
    except InvalidId as error:
        raise _unknown() from error


def fit_body(job: JobRecord) -> FitBody:
    """A fit as the API shows it."""
    request = FitRequest.of(job)
    stage, _, detail = job.stage.partition(": ")
    running = job.status == "running"
    return FitBody(
        id=str(job.id),
        status=cast(FitStatus, job.status),  # checked by the schema
        stage=(stage or "fetch") if running else job.status,
        detail=detail if running else "",
        progress=min(1.0, max(0.0, job.progress)),
        time_left_s=_time_left_s(job, stage, request.options.minutes) if running else None,
        metrics=job.figures.get("metrics", {}),
        identity=str(request.identity),
        recording_sha256=request.recording_sha256,
        size=request.options.size,
        recipe=request.options.recipe,
        minutes=request.options.minutes,
        priority=_priority_of(request),
        attempt=job.attempt,
        created_at=datetime.fromtimestamp(job.created_s, UTC),
        updated_at=datetime.fromtimestamp(job.updated_s, UTC),
        result=None if job.result is None else _result(job.result),
        error=None if job.error is None else document_for_tenant(job.error),
    )


def _one_recording(order: FitOrder) -> str:
    """The recording that is to be fitted.

    Raises:
        ApiProblem: none is named, or several.
    """
    named = [*([order.recording] if order.recording is not None else []), *(order.recordings or [])]
    if len(named) == 1:
        return named[0]
    detail = "name one recording" if not named else "a fit is from one recording: choose the longest that is good"
    fault = {"field": "body.recordings" if named else "body.recording", "detail": detail}
    raise ApiProblem("invalid-request", "a fit needs exactly one recording", errors=[fault])


def _priority_of(request: FitRequest) -> Literal["low", "normal", "high"]:
    (name,) = (name for name, number in PRIORITIES.items() if number == request.priority)
    return cast('Literal["low", "normal", "high"]', name)  # the schema checks it


def _time_left_s(job: JobRecord, stage: str, minutes: float | None) -> float | None:
    if stage != "fit" or minutes is None:
        return None
    low, high = STAGES["fit"]
    return round(minutes * 60 * min(1.0, max(0.0, (high - job.progress) / (high - low))), 1)


def _result(result: dict[str, Any]) -> FitResult:
    promotion = result["promotion"]
    return FitResult(
        version=ModelRef.parse(result["ref"]).version,
        metrics=result["metrics"],
        promoted=None if promotion is None else bool(promotion["promoted"]),
        detail="" if promotion is None or promotion["promoted"] else str(promotion["detail"]),
    )


def _unknown() -> ApiProblem:
    return ApiProblem("unknown-fit", "no fit of that id")
