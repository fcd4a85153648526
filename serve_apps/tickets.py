"""The wire between the ingress and a renderer replica: ticket, answers, and where files are."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.control.sweep import RENDERS
from cluster.ids import RenderId, TenantId
from cluster.object_keys import object_key

STARTED = "started"
"""A replica's word once it keeps the claim alive itself; the last word says how the render ended."""
PUT_OFF = "put off"
"""How the last word begins when something of ours was away; the code of the error follows."""


@dataclass(frozen=True, kw_only=True)
class RenderTicket:
    """What the dispatcher hands to a replica: a claimed job, as plain text and numbers."""

    tenant: str
    job_id: str
    fence: int


def render_prefix(tenant: TenantId, render_id: RenderId) -> str:
    """Where everything of a render is stored, ending in a slash."""
    return object_key(tenant, RENDERS, str(render_id)) + "/"
