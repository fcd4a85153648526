"""Creates, looks up, lists and cancels renders, without HTTP.

All but ``create`` block, and are called from threads.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from cluster.ids import ModelRef, RenderId, TenantId
from cluster.state.jobs import Once
from cluster.state.records import JobRecord
from cluster.storage import ObjectStore
from m2dao.errors import Conflict, InvalidId, M2daoError, NotFound, QuotaExceeded
from serve_apps.api import schemas
from serve_apps.api.authentication import LOOKUP_COST, UploadPlace, too_many_renders
from serve_apps.api.decode import DecodedAudio
from serve_apps.api.services import Services
from serve_apps.api.uploads import RenderForm
from serve_apps.identities.aliases import resolve_identity
from serve_apps.problems import ApiProblem, document_of
from serve_apps.tickets import render_prefix

_NOT_BEGUN = ""  # the stage of a claimed render that no replica has begun


@dataclass(frozen=True)
class _Parts:
    """What a render is made of, once its uploads are decoded."""

    ref: ModelRef
    audio: DecodedAudio
    image: Path | None


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
            ref = await in_thread(resolve_identity, self._services.state.champions, form.identity, place.tenant)
        except ApiProblem as error:
            if error.code == "unknown-identity":
                await self._services.door.charge(place.tenant, LOOKUP_COST)
            raise
        audio = await self._services.decoder.decode_audio(form.audio.path, work_dir)
        image = None
        if form.background_image is not None:
            image = await self._services.decoder.decode_image(form.background_image.path, work_dir)
        return await in_thread(self._store, place, form, _Parts(ref, audio, image))

    def _store(self, place: UploadPlace, form: RenderForm, parts: _Parts) -> JobRecord:
        tenant, render_id = place.tenant, RenderId.new()
        prefix = render_prefix(tenant, render_id)
        audio_key = sound_key = prefix + "speech.wav"
        files = [(audio_key, parts.audio.path, "audio/wav")]
        if parts.audio.sent is not None:
            sound_key = prefix + "sound.flac"
            files.append((sound_key, parts.audio.sent, "audio/flac"))
        background = _background(form, prefix)
        request = {
            "identity": form.identity,
            "ref": str(parts.ref),
            "audio_key": audio_key,
            "sound_key": sound_key,
            "audio_seconds": parts.audio.seconds,
            "background": background,
        }
        if parts.image is not None:
            files.append((background["key"], parts.image, "image/png"))
        try:
            self._put(files)
        except BaseException:
            self._forget(prefix)
            raise
        try:
            job = self._create_job(tenant, render_id, request, _fingerprint(form), place.idempotency_key)
        except (ApiProblem, Conflict, NotFound):  # refused; after any other error the render may be queued
            self._forget(prefix)
            raise
        if job.id != render_id:  # a repetition of a request that has its own copy
            self._forget(prefix)
        return job

    def _put(self, files: list[tuple[str, Path, str]]) -> None:
        """Store files at the same time: each is small, and the way to the store is long."""
        services = self._services
        puts = [services.storing.submit(_put_one, services.store, *file) for file in files]
        wait(puts)  # all of them: after an error what they have stored is removed
        for put in puts:
            put.result()

    def _forget(self, prefix: str) -> None:
        with contextlib.suppress(M2daoError):  # left-overs cost storage, not correctness
            self._services.store.delete_prefix(prefix)

    def _create_job(
        self, tenant: TenantId, render_id: RenderId, request: dict[str, Any], fingerprint: str, key: str | None
    ) -> JobRecord:
        config = self._services.config
        try:
            job, _ = self._jobs.create(
                tenant,
                "render",
                request,
                job_id=render_id,
                once=None if key is None else Once(key=key, fingerprint=fingerprint),
                max_attempts=config.max_attempts,
                max_open=config.max_active_renders,
                cost=request["audio_seconds"],
            )
            return job
        except QuotaExceeded as error:
            raise too_many_renders(self._services) from error

    def get(self, tenant: TenantId, text: str) -> JobRecord:
        """One render. A malformed id, an unknown one and another tenant's get the same answer."""
        try:
            return self._jobs.get(tenant, RenderId.parse(text))
        except (InvalidId, NotFound) as error:
            raise ApiProblem("unknown-render", "no render of that id") from error

    def newest(self, tenant: TenantId, *, limit: int, offset: int) -> list[JobRecord]:
        """Renders, the newest first."""
        return self._jobs.list(tenant, "render", limit=limit, offset=offset)

    def video_key(self, tenant: TenantId, text: str) -> str:
        """Where the finished video of a render is stored.

        Raises:
            ApiProblem: unknown, or not done.
        """
        job = self.get(tenant, text)
        if job.result is None:
            raise ApiProblem("no-video", f"the render is {job.status}")
        return str(job.result["key"])

    def cancel(self, tenant: TenantId, text: str) -> JobRecord:
        """End an open render; of one that is cancelled already, nothing changes.

        Raises:
            ApiProblem: unknown, or it is done or failed.
        """
        job = self.get(tenant, text)
        try:
            job = self._jobs.cancel(tenant, job.id)
        except NotFound as error:
            raise ApiProblem("unknown-render", "no render of that id") from error
        except Conflict as error:
            raise ApiProblem("render-finished", f"the render is {self.get(tenant, text).status}") from error
        self._forget(render_prefix(tenant, RenderId.parse(text)))
        return job

    def body(self, job: JobRecord) -> schemas.Render:
        """A render as the API shows it."""
        begun = job.status != "running" or job.stage != _NOT_BEGUN
        status = job.status if begun else "queued"
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
            created_at=datetime.fromtimestamp(job.created_s, UTC),
            updated_at=datetime.fromtimestamp(job.updated_s, UTC),
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


def _put_one(store: ObjectStore, key: str, path: Path, content_type: str) -> None:
    store.put_file(key, path, content_type=content_type)


def _background(form: RenderForm, prefix: str) -> dict[str, str]:
    if form.background_image is not None:
        return {"kind": "image", "key": prefix + "background.png"}
    if form.background == "plate":
        return {"kind": "plate"}
    return {"kind": "color", "value": form.background}


def _fingerprint(form: RenderForm) -> str:
    """What makes two requests the same: everything the client sent, and nothing we made of it."""
    image = form.background_image and form.background_image.sha256
    return json.dumps([form.identity, form.background, form.audio.sha256, image])
