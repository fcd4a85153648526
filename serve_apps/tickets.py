"""The wire between the ingress and a renderer replica: ticket, answers, and where files are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cluster.control.sweep import RENDERS
from cluster.ids import RenderId, TenantId
from cluster.object_keys import object_key
from cluster.state.records import Claim
from m2dao.formats import IDENTITY, IDENTITY_READ, RENDER_JOB_READ, RENDER_JOB_VERSION

STARTED = "started"
"""A replica's word once it keeps the claim alive itself; the last word says how the render ended."""
PUT_OFF = "put off"
"""How the last word begins when something of ours was away; the code of the error follows."""

SPEECH, SOUND = "speech.wav", "sound.flac"
"""The files of a render: what is spoken, and the sound as it was sent where that is another.

A request says where they are. ``audio_key`` and ``sound_key`` are keys of the object store, the same one where there is
one file. ``kept_files`` are names of files kept with the job (``Jobs.files``).
"""

_RENDER_JOB = "m2dao.render-job {}"  # what a render says of itself, with its version
SERVED = frozenset(
    [IDENTITY.tag_of(version) for version in IDENTITY_READ]
    + [_RENDER_JOB.format(version) for version in RENDER_JOB_READ]
)
"""The formats that this release renders from. What needs others is left to the replicas of another release."""


def needs_of_render(identity_format: str) -> tuple[str, ...]:
    """The formats that a replica must know for a render; that of old versions is not known."""
    return _RENDER_JOB.format(RENDER_JOB_VERSION), *filter(None, [identity_format])


@dataclass(frozen=True, kw_only=True)
class RenderTicket:
    """What the dispatcher hands to a replica: a claimed job, as plain text and numbers.

    ``has_kept_files`` is only sent where it is true. A replica of the release before knows neither the field nor such
    files: it refuses the ticket before it begins, so the render goes to another one, uncounted.
    """

    tenant: str
    job_id: str
    fence: int
    has_kept_files: bool = False

    @classmethod
    def of(cls, claim: Claim) -> RenderTicket:
        """The ticket of a claimed render."""
        job = claim.job
        has_kept_files = "kept_files" in job.request
        return cls(tenant=str(job.tenant), job_id=str(job.id), fence=claim.fence, has_kept_files=has_kept_files)

    def as_sent(self) -> dict[str, Any]:
        """The fields as they are sent."""
        fields = dataclasses.asdict(self)
        return fields if self.has_kept_files else {name: fields[name] for name in ("tenant", "job_id", "fence")}


def render_prefix(tenant: TenantId, render_id: RenderId) -> str:
    """Where everything of a render is stored, ending in a slash."""
    return object_key(tenant, RENDERS, str(render_id)) + "/"
