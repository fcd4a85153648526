"""One call that waits for the end of a job."""

from __future__ import annotations

from cluster.state.records import JobRecord
from serve_apps.api.waiting.job_changes import JobChanges
from serve_apps.problems import ApiProblem


async def ended_job(changes: JobChanges, job: JobRecord, wait_s: float) -> JobRecord:
    """The job when it has ended, or as it is after ``wait_s`` seconds.

    Where too many wait already, the answer comes at once: whoever asks again then is served, too.
    """
    if job.finished or wait_s <= 0:
        return job
    try:
        async with changes.follow(job.tenant, job.id) as states:
            async for state in states(wait_s):
                job = state
    except ApiProblem:
        return job
    return job
