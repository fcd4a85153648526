"""Tenants share the places of workers: who has more of them gives way to who waits.

A worker of a batch pulls one fit after the other, so a batch that has all places of a full cluster would keep them
until its last fit. Its workers therefore leave after a fit where that makes the shares more equal. What has begun is
never stopped.
"""

from __future__ import annotations

from cluster.ids import TenantId
from cluster.state.jobs import Jobs

_STANDS_S = 10  # how long a word counts; it is said each second


def want_place(jobs: Jobs, tenant: TenantId, *, rests: bool) -> None:
    """Say that workers of a tenant wait for a place; to be said again while they do.

    Args:
        rests: they have given way and do not ask for one yet.
    """
    jobs.want_place("fit", tenant, rests=rests)


def gives_way(jobs: Jobs, tenant: TenantId, *, to_resting: bool, has_begun: bool = True) -> bool:
    """Whether the next free place is another tenant's, which waits and has none or fewer than this one.

    Args:
        to_resting: also to one that rests. Two that rest would wait for each other.
        has_begun: this one has had a turn. Before it has, it does not leave the only place that it has.
    """
    others = jobs.wanting("fit", within_s=_STANDS_S, rests=to_resting) - {tenant}
    if not others:
        return False
    ours = jobs.backlog("fit", tenant=tenant).num_running
    if not (ours or has_begun):
        return False
    theirs = [jobs.backlog("fit", tenant=other) for other in others]
    return any(fits.num_queued and (fits.num_running == 0 or fits.num_running < ours) for fits in theirs)
