"""Removes what no job and no version names: what processes left behind that were killed half-way.

Faces and voices are biometric data, so nothing may lie about for good. Everything here is old (``GRACE``) and belongs
to nobody, so it may be done twice, and by two janitors at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cluster.control.recordings import UPLOADS
from cluster.control.sweep import MIN_DAYS, RENDERS, sweep_renders
from cluster.ids import FitId, ModelRef, RecordingId, RenderId, TenantId
from cluster.registry import Registry
from cluster.state.keys import KINDS
from cluster.state.records import JobRecord
from cluster.state.store import StateStore
from cluster.storage import ObjectInfo, ObjectStore
from m2dao.errors import InvalidId, UnknownJob

GRACE = timedelta(days=1)  # what is younger may still be in somebody's hands
_KEEP_DAYS = MIN_DAYS + 1  # of renders


class Janitor:
    """Cleans the object store and the model registry.

    Args:
        state: knows what is needed.
        store: holds files.
        registry: holds versions.
        now: the time to go by.
        upload_hours: how long uploads of recordings may take.
    """

    def __init__(
        self,
        state: StateStore,
        store: ObjectStore,
        registry: Registry,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        upload_hours: float = 24.0,
    ):
        self._upload_grace = GRACE + timedelta(hours=upload_hours)
        self._state, self._store, self._registry, self._now = state, store, registry, now

    def clean(self, check: Callable[[], None] = lambda: None) -> Counter[str]:
        """Remove everything that is nobody's; returns how much of each kind that was.

        Args:
            check: called between steps; raises when somebody else has become the janitor.
        """
        removed: Counter[str] = Counter()
        fits = self._state.jobs.open("fit")
        for tenant in self._state.accounts.list_tenants():
            check()
            old = sweep_renders(self._state.jobs, self._store, tenant, days=_KEEP_DAYS, now=self._now())
            removed["old renders"] += old
            removed["files of renders"] += self._delete(self._lost_of_renders(tenant))
            check()
            removed["files of uploads"] += self._delete(self._lost_of_uploads(tenant))
            removed["step checkpoints"] += self._delete(self._lost_of_fits(tenant, fits))
            removed["files of Ray Train"] += self._delete(self._lost_of_ray_train(tenant, fits))
            check()
            removed["files of versions"] += self._delete(self._lost_of_versions(tenant))
        check()
        removed["versions"] += self._finish_deletions() + self._delete_incomplete()
        removed["unfinished uploads"] += self._store.abort_uploads(before=self._now() - self._upload_grace)
        for kind in KINDS:  # which counts open jobs anew: an older release beside this one does not keep the totals
            self._state.jobs.requeue_expired(kind)
        return removed

    def _delete(self, objects: Iterator[ObjectInfo]) -> int:
        found = list(objects)
        for info in found:
            self._store.delete_found(info)
        return len(found)

    def _old(self, tenant: TenantId, folder: str) -> Iterator[tuple[list[str], ObjectInfo]]:
        """The objects in a folder of a tenant that are older than the grace, with the parts of their names."""
        prefix = f"{tenant}/{folder}/"
        before = self._now() - GRACE
        for info in self._store.list(prefix):
            if info.modified < before:
                yield info.key.removeprefix(prefix).split("/"), info

    def _job(self, tenant: TenantId, job_id: RenderId | FitId) -> JobRecord | None:
        try:
            return self._state.jobs.get(tenant, job_id)
        except UnknownJob:
            return None

    def _lost_of_renders(self, tenant: TenantId) -> Iterator[ObjectInfo]:
        """Uploads whose render was never accepted, and videos of attempts that are not the result."""
        jobs: dict[str, JobRecord | None] = {}
        for (name, *_), info in self._old(tenant, RENDERS):
            if name not in jobs:
                try:
                    jobs[name] = self._job(tenant, RenderId.parse(name))
                except InvalidId:
                    continue
            job = jobs[name]
            # A render whose record has ended leaves by age: until then its link may be in use.
            never = job is None and info.modified > self._now() - timedelta(days=MIN_DAYS)
            result = job.result["key"] if job is not None and job.result is not None else None
            attempt = info.key.rpartition("/")[2].startswith("video-")
            if never or (attempt and result is not None and info.key != result):
                yield info

    def _lost_of_uploads(self, tenant: TenantId) -> Iterator[ObjectInfo]:
        """Uploaded recordings that were moved to their place already, or given up."""
        for (name, *_), info in self._old(tenant, UPLOADS):
            try:
                record = self._state.recordings.find(tenant, RecordingId.parse(name))
            except InvalidId:
                continue
            if record is None or record.state not in ("uploading", "checking", "moving"):
                yield info

    def _lost_of_fits(self, tenant: TenantId, fits: Sequence[JobRecord]) -> Iterator[ObjectInfo]:
        """Step checkpoints of fits that are done, or that nobody can resume any more.

        Args:
            fits: the open ones of all tenants, as they were when the cleaning began. A fit that is resumed since then
                has a record, which keeps its steps.
        """
        needed = {job.request.get("steps_of") for job in fits if job.tenant == tenant}
        for (name, *_), info in self._old(tenant, "fits"):
            try:
                job = self._job(tenant, FitId.parse(name))
            except InvalidId:
                continue
            if name not in needed and (job is None or job.status == "done"):
                yield info

    def _lost_of_ray_train(self, tenant: TenantId, fits: Sequence[JobRecord]) -> Iterator[ObjectInfo]:
        """What Ray Train noted about batches that are over; ``fits`` as for ``_lost_of_fits``."""
        batches = {job.request.get("batch") for job in fits if job.tenant == tenant}
        for (name, *_), info in self._old(tenant, "ray-train"):
            if name.rpartition("-")[0] not in batches:
                yield info

    def _lost_of_versions(self, tenant: TenantId) -> Iterator[ObjectInfo]:
        """Files of versions that do not count, because their registration was cut off."""
        if not self._state.champions.is_imported():
            return  # versions of an earlier time count too, and are not known here yet
        known = {
            f"{name}/{number}"
            for name in self._state.champions.names(tenant)
            for number in self._state.versions.all(tenant, name)
        }
        for parts, info in self._old(tenant, "identities"):
            if "/".join(parts[:2]) not in known:
                yield info

    def _finish_deletions(self) -> int:
        """Delete the versions whose deletion was cut off."""
        count = 0
        for tenant in self._state.accounts.list_tenants():
            for name in self._state.champions.names(tenant):
                for number, facts in self._state.versions.all(tenant, name).items():
                    if facts.state == "deleting":
                        self._registry.delete_version(ModelRef(tenant, name, number))
                        count += 1
        return count

    def _delete_incomplete(self) -> int:
        """Delete from the model registry the versions whose registration was cut off."""
        before = (self._now() - GRACE).timestamp()
        count = 0
        for info, state in self._registry.ledger.versions():
            if state == "ready" or info.created_s >= before:
                continue
            if info.ref.version not in self._state.versions.all(info.ref.tenant, info.ref.identity):
                self._registry.delete_entry(info.ref)
                count += 1
        return count
