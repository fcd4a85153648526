"""Creates, looks up, lists and cancels renders, without HTTP.

All but ``create`` block, and are called from threads.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cluster.ids import ModelRef, RenderId, TenantId
from cluster.settings import MB
from cluster.state.new_jobs import Files, NewJob, NoRoomForFiles, Once, create_on_loop
from cluster.state.people.principals import Principal
from cluster.state.records import ALWAYS, JobRecord, Span
from cluster.telemetry.scope import JOB, note
from cluster.telemetry.traces import spans
from m2dao.errors import Conflict, InvalidId, M2daoError, NotFound, QuotaExceeded, UnderMaintenance, UnknownIdentity
from serve_apps.api import schemas
from serve_apps.api.authentication import LOOKUP_COST, UploadPlace, too_many_renders
from serve_apps.api.bodies.times import utc
from serve_apps.api.decode import DecodedAudio
from serve_apps.api.resources.retries import retry_of
from serve_apps.api.services import Services
from serve_apps.api.uploads import RenderForm
from serve_apps.identities.aliases import parse_identity, resolve_identity, unknown_identity
from serve_apps.parallel import do_all
from serve_apps.problems import ApiProblem, document_of
from serve_apps.tickets import SOUND, SPEECH, needs_of_render, render_prefix

MAX_KEPT = MB  # bytes of sound that travel with the job, at most: half a minute of plain speech
_NOT_BEGUN = ""  # the stage of a claimed render that no replica has begun
_BACKGROUND = "background.png"
_CONTENT_TYPES = {SPEECH: "audio/wav", SOUND: "audio/flac", _BACKGROUND: "image/png"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RenderFilter:
    """Which renders a list shows.

    Args:
        status: only those in this state; None for any.
        identity: only those of this person; None for all.
        version: only those of this version; None for any.
        span: when they were made.
        after: what the page before gave; empty for the first.
        offset: how many of the newest to leave out, without the rest of this.
        limit: how many at most.
    """

    status: str | None = None
    identity: str | None = None
    version: int | None = None
    span: Span = ALWAYS
    after: str = ""
    offset: int = 0
    limit: int = 20

    def keeps(self, job: JobRecord) -> bool:
        """Whether a render is one of them, its time apart."""
        ref = ModelRef.parse(job.request["ref"])
        return (
            self.status in (None, shown_status(job))
            and self.identity in (None, str(ref.identity))
            and self.version in (None, ref.version)
        )


@dataclass(frozen=True)
class _Parts:
    """What a render is made of, once its uploads are decoded."""

    ref: ModelRef
    needs: tuple[str, ...]  # formats
    audio: DecodedAudio
    image: Path | None

    @property
    def sounds(self) -> dict[str, Path]:
        """By name."""
        return {SPEECH: self.audio.path} | ({} if self.audio.sent is None else {SOUND: self.audio.sent})

    @property
    def files(self) -> dict[str, Path]:
        """By name."""
        return self.sounds | ({} if self.image is None else {_BACKGROUND: self.image})

    @property
    def fits_the_job(self) -> bool:
        """Whether all of it may travel with the job."""
        return self.image is None and sum(path.stat().st_size for path in self.sounds.values()) <= MAX_KEPT


class RenderRequests:
    """The renders of tenants."""

    def __init__(self, services: Services):
        self._services = services
        self._jobs = services.state.jobs

    async def create(self, place: UploadPlace, form: RenderForm, work_dir: Path) -> JobRecord:
        """Queue a render in its place, pinned to the version its identity stands for now.

        Raises:
            ApiProblem: unknown identity, malformed identity; no decoder is free.
            MediaError: an upload cannot be used.
            IdempotencyConflict: the key was used for another request.
        """
        in_thread = self._services.in_thread
        try:
            if not place.principal.sees(parse_identity(form.identity, place.tenant).identity):
                raise unknown_identity()
            key = place.idempotency_key or str(RenderId.new())
            ref, needs = await in_thread(self._resolve, form.identity, place.tenant, key)
        except ApiProblem as error:
            if error.code == "unknown-identity":
                await self._services.door.charge(place.tenant, LOOKUP_COST)
            raise
        with spans.span("decode") as decoding:
            audio = await self._services.decoder.decode_audio(form.audio.path, work_dir)
            decoding.set(audio_seconds=audio.seconds)
            image = None
            if form.background_image is not None:
                image = await self._services.decoder.decode_image(form.background_image.path, work_dir)
        parts = _Parts(ref, needs, audio, image)
        new = self._new_job(place, form, parts)  # it names the span that is at work now, not that of storing
        with spans.span("store"):
            job = await self._queue(place, new, form, parts)
        note(**{JOB: str(job.id)})
        log.info("render accepted", extra={"ref": job.request["ref"], "audio_seconds": job.request["audio_seconds"]})
        return job

    async def _queue(self, place: UploadPlace, new: NewJob, form: RenderForm, parts: _Parts) -> JobRecord:
        try:
            try:
                if parts.fits_the_job:
                    return await self._create_with_files(place, new, parts)
            except NoRoomForFiles:
                log.info("sounds go to the object store: too many renders are open")
            return await self._services.in_thread(self._store, new, form, parts)
        except QuotaExceeded as error:
            raise too_many_renders(self._services) from error

    def _resolve(self, text: str, tenant: TenantId, key: str) -> tuple[ModelRef, tuple[str, ...]]:
        """The version that a client means, and the formats that whoever renders it must know."""
        ref = resolve_identity(self._services.state.champions, text, tenant, key=key)
        try:
            return ref, needs_of_render(self._services.state.versions.facts(ref).format)
        except UnknownIdentity as error:  # it was deleted a moment ago
            raise unknown_identity() from error

    def _new_job(self, place: UploadPlace, form: RenderForm, parts: _Parts) -> NewJob:
        """The job, but for where its files are."""
        config, key, render_id = self._services.config, place.idempotency_key, RenderId.new()
        request = {
            "identity": form.identity,
            "ref": str(parts.ref),
            "audio_seconds": parts.audio.seconds,
            "background": _background(form, render_prefix(place.tenant, render_id)),
        }
        return NewJob(
            tenant=place.tenant,
            kind="render",
            job_id=render_id,
            request=request,
            once=None if key is None else Once(key=key, fingerprint=_fingerprint(form)),
            max_attempts=config.max_attempts,
            max_open=config.max_active_renders,
            cost=parts.audio.seconds,
            needs=parts.needs,
        )

    async def _create_with_files(self, place: UploadPlace, new: NewJob, parts: _Parts) -> JobRecord:
        """Queue a render whose sounds travel with it: nothing is stored before, and no thread waits."""
        contents = {name: path.read_bytes() for name, path in parts.sounds.items()}
        most_open = self._services.config.sounds_in_redis_mb * MB // MAX_KEPT
        new = replace(
            new,
            request={**new.request, "kept_files": list(contents)},
            files=Files(contents=contents, most_open=most_open),
            place=place.place,
        )
        job, _ = await create_on_loop(self._services.redis, new)
        place.held = False
        return job

    def _store(self, new: NewJob, form: RenderForm, parts: _Parts) -> JobRecord:
        """Store the files, then queue the render that names them."""
        prefix = render_prefix(new.tenant, RenderId.parse(str(new.job_id)))
        store = self._services.store
        puts = [
            functools.partial(store.put_file, prefix + name, path, content_type=_CONTENT_TYPES[name])
            for name, path in parts.files.items()
        ]
        sound = SOUND if SOUND in parts.files else SPEECH
        new = replace(new, request={**new.request, "audio_key": prefix + SPEECH, "sound_key": prefix + sound})
        try:
            do_all(self._services.storing, puts)  # each is small, and the way to the store is long
        except BaseException:
            self._forget(prefix)
            raise
        try:
            job, _ = self._jobs.add(new)
        except (
            Conflict,
            NotFound,
            QuotaExceeded,
            UnderMaintenance,
        ):  # refused; after any other error the render may be queued
            self._forget(prefix)
            raise
        if job.id != new.job_id:  # a repetition of a request that has its own copy
            self._forget(prefix)
        return job

    def _forget(self, prefix: str) -> None:
        with contextlib.suppress(M2daoError):  # left-overs cost storage, not correctness
            self._services.store.delete_prefix(prefix)

    def get(self, asker: Principal, text: str) -> JobRecord:
        """One render. A malformed id, an unknown one and one that is not the asker's get the same answer."""
        try:
            job = self._jobs.get(asker.tenant, RenderId.parse(text))
        except (InvalidId, NotFound) as error:
            raise _unknown_render() from error
        if not asker.sees(ModelRef.parse(job.request["ref"]).identity):
            raise _unknown_render()
        note(**{JOB: str(job.id)})
        return job

    def page(self, tenant: TenantId, wanted: RenderFilter) -> tuple[Sequence[JobRecord], str | None]:
        """A page of renders, the newest first, and where the next page begins."""
        if wanted.offset:
            return self._jobs.list(tenant, "render", limit=wanted.limit, offset=wanted.offset), None
        return self._jobs.page(
            tenant, "render", keep=wanted.keeps, span=wanted.span, after=wanted.after, limit=wanted.limit
        )

    def retry(self, asker: Principal, text: str) -> JobRecord:
        """The render in place of one that failed.

        Raises:
            ApiProblem: unknown, it has not failed, or its sound or version is gone.
        """
        return retry_of(self._services, self.get(asker, text), MAX_KEPT)

    def video_key(self, asker: Principal, text: str) -> str:
        """Where the finished video of a render is stored.

        Raises:
            ApiProblem: unknown, or not done.
        """
        job = self.get(asker, text)
        if job.result is None:
            raise ApiProblem("no-video", f"the render is {job.status}")
        return str(job.result["key"])

    def cancel(self, asker: Principal, text: str) -> JobRecord:
        """End an open render; of one that is cancelled already, nothing changes.

        Raises:
            ApiProblem: unknown, or it is done or failed.
        """
        job = self.get(asker, text)
        try:
            job = self._jobs.cancel(asker.tenant, job.id)
        except NotFound as error:
            raise _unknown_render() from error
        except Conflict as error:
            raise ApiProblem("render-finished", f"the render is {self.get(asker, text).status}") from error
        self._forget(render_prefix(asker.tenant, RenderId.parse(text)))
        return job

    def body(self, job: JobRecord) -> schemas.Render:
        """A render as the API shows it."""
        status = shown_status(job)
        return schemas.Render(
            id=str(job.id),
            status=cast(schemas.RenderStatus, status),  # checked by the schema
            stage=job.stage if status == "running" else status,
            progress=min(1.0, max(0.0, job.progress)),
            identity=job.request["identity"],
            version=ModelRef.parse(job.request["ref"]).version,
            background=job.request["background"].get("value", job.request["background"]["kind"]),
            audio_seconds=job.request["audio_seconds"],
            attempt=job.attempt,
            created_at=utc(job.created_s),
            updated_at=utc(job.updated_s),
            figures=None if job.result is None else schemas.RenderFigures(**job.result["figures"]),
            result=None if job.result is None else self._result(str(job.id), job.result),
            error=None if job.error is None else document_of(job.error),
        )

    def _result(self, name: str, result: dict[str, Any]) -> schemas.RenderResult:
        life_s = self._services.config.result_url_s
        expires_at = datetime.now(UTC) + timedelta(seconds=life_s)
        url = self._services.store.presign_get(result["key"], expires_s=life_s, name=f"{name}.mp4")
        return schemas.RenderResult(
            url=url, expires_at=expires_at, num_bytes=result["num_bytes"], sha256=result["sha256"]
        )


def shown_status(job: JobRecord) -> str:
    """The state of a render as clients see it: one that is claimed waits until a replica begins it."""
    begun = job.status != "running" or job.stage != _NOT_BEGUN
    return job.status if begun else "queued"


def _background(form: RenderForm, prefix: str) -> dict[str, str]:
    if form.background_image is not None:
        return {"kind": "image", "key": prefix + _BACKGROUND}
    if form.background == "plate":
        return {"kind": "plate"}
    return {"kind": "color", "value": form.background}


def _fingerprint(form: RenderForm) -> str:
    """What makes two requests the same: everything the client sent, and nothing we made of it."""
    image = form.background_image and form.background_image.sha256
    return json.dumps([form.identity, form.background, form.audio.sha256, image])


def _unknown_render() -> ApiProblem:
    return ApiProblem("unknown-render", "no render of that id")
