"""A failed render asked for anew, from the sound that was kept."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from cluster.ids import ModelRef, RenderId
from cluster.settings import MB
from cluster.state.new_jobs import Files, NewJob, NoRoomForFiles
from cluster.state.records import JobRecord
from m2dao.errors import NotFound, QuotaExceeded, UnknownIdentity
from serve_apps.api.authentication import too_many_renders
from serve_apps.api.services import Services
from serve_apps.identities.aliases import unknown_identity
from serve_apps.parallel import do_all
from serve_apps.problems import ApiProblem
from serve_apps.tickets import needs_of_render, render_prefix


def retry_of(services: Services, failed: JobRecord, max_kept: int) -> JobRecord:
    """The render that stands in place of a failed one, of the same sound and version. Blocks.

    Its id follows from that of the failed one, so however often it is asked for, there is one.

    Raises:
        ApiProblem: it has not failed, its sound is gone, its version is gone, or too many renders are open.
    """
    if failed.status != "failed":
        raise ApiProblem("not-failed", f"the render is {failed.status}")
    new_id = RenderId("r-" + hashlib.sha256(f"retry {failed.id}".encode()).hexdigest()[:32])
    try:
        return services.state.jobs.get(failed.tenant, new_id)
    except NotFound:
        pass
    try:
        facts = services.state.versions.facts(ModelRef.parse(failed.request["ref"]))
    except UnknownIdentity as error:
        raise unknown_identity() from error
    request, files = _with_files(services, failed, new_id)
    most_open = services.config.sounds_in_redis_mb * MB // max_kept
    new = NewJob(
        tenant=failed.tenant,
        kind="render",
        job_id=new_id,
        request=request,
        max_attempts=services.config.max_attempts,
        max_open=services.config.max_active_renders,
        cost=request["audio_seconds"],
        needs=needs_of_render(facts.format),
        files=Files(contents=files, most_open=most_open),
    )
    try:
        return services.state.jobs.add(new)[0]
    except QuotaExceeded as error:
        raise too_many_renders(services) from error
    except NoRoomForFiles as error:
        raise ApiProblem("service-unavailable", "so many renders are open that no sound is kept") from error


def _with_files(services: Services, failed: JobRecord, new_id: RenderId) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The request of the new render, and the files that travel with it; others are copied in the store."""
    request = dict(failed.request)
    if "kept_files" in request:
        files = dict(services.state.jobs.kept_files(failed.tenant, failed.id))
        if set(request["kept_files"]) - set(files):
            raise _gone()
        return request, files
    old, new = (render_prefix(failed.tenant, each) for each in (RenderId.parse(str(failed.id)), new_id))
    background = dict(request["background"])
    keys = {request["audio_key"], request.get("sound_key", request["audio_key"]), background.get("key")} - {None}
    copies = [functools.partial(services.store.copy, key, key.replace(old, new, 1)) for key in sorted(keys)]
    try:
        do_all(services.storing, copies)
    except NotFound as error:
        raise _gone() from error
    for fields in (request, background):
        fields |= {name: text.replace(old, new, 1) for name, text in fields.items() if name in _KEYS}
    return {**request, "background": background}, {}


_KEYS = ("audio_key", "sound_key", "key")


def _gone() -> ApiProblem:
    return ApiProblem("sound-gone", "its sound was kept for some time only: send it again as a new render")
