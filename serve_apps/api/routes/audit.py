"""``/v1/audit``: who has done what on behalf of a tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from cluster.state.people.audit import AuditEntry
from serve_apps.api.authentication import Admin
from serve_apps.api.bodies import people as schemas
from serve_apps.api.bodies.times import utc
from serve_apps.api.openapi import problem_responses
from serve_apps.api.services import ServicesOf

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("", operation_id="listAudit", response_model=schemas.AuditList, responses=problem_responses(401, 422, 429))
def list_audit(
    admin: Admin,
    services: ServicesOf,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 100,
    before: Annotated[
        str, Query(pattern=r"^([0-9]{1,15}-[0-9]{1,15})?$", description="`next` of the page before; the first: empty.")
    ] = "",
) -> schemas.AuditList:
    """Who has done what on your behalf, the newest first."""
    entries, following = services.state.audit.page(admin.tenant, before=before, limit=limit)
    return schemas.AuditList(entries=[_body(entry) for entry in entries], next=following)


def _body(entry: AuditEntry) -> schemas.AuditEntry:
    at = utc(entry.at_s)
    assert at is not None
    return schemas.AuditEntry(
        id=entry.entry_id, at=at, by=entry.by, what=entry.what, on=entry.on, before=entry.before, after=entry.after
    )
