"""The model registry: versions of identities with their metrics, tags and reports.

One registered model per identity, named ``tenant.identity``. MLflow keeps versions, tags and aliases, and the metrics
of each fit (``cluster/fit_runs.py``). The identity's files are in our object store, under ``ModelRef.object_prefix``,
with a table of their hashes. Nothing is ever unpickled. Reports (contact sheets, plots) are artifacts of the run, and
MLflow's pages show them.

MLflow is the ledger that people read. Which versions count and which one serves is decided in the state store
(``cluster/state/versions.py``, ``cluster/state/champions.py``). A registration that was cut off leaves a version that
nobody can resolve.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from cluster.fit_runs import FitRuns
from cluster.folders import StoredFolder, get_folder, put_folder
from cluster.ids import AliasRef, FitId, IdentityName, ModelRef, TenantId
from cluster.ledger import Ledger
from cluster.mlflow_link import MlflowLink, translated
from cluster.settings import Settings
from cluster.state.records import Claim
from cluster.state.store import StateStore
from cluster.state.upkeep.erasures import identity_path
from cluster.state.versions import VersionDetails, VersionFacts
from cluster.storage import ObjectStore
from cluster.versions import (
    FIT_ID_TAG,
    METRICS_TAG,
    STATE_TAG,
    VersionInfo,
    finite_number,
    refuse_own_tags,
    version_info,
)
from m2dao.errors import (
    ServiceError,
    StateUnavailable,
    UnknownIdentity,
)
from m2dao.formats import IDENTITY

logger = logging.getLogger(__name__)


class Registry:
    """The registry of ``settings``. Safe to share between threads; can be sent to another process.

    Every method raises ``RegistryUnavailable`` when MLflow does not answer, and those that touch files
    ``StorageUnavailable`` when the object store does not.
    """

    def __init__(self, settings: Settings, *, store: ObjectStore | None = None, state: StateStore | None = None):
        self._settings = settings
        self._store = store or ObjectStore(settings)
        self._state = state or StateStore(settings)
        self._link = MlflowLink(settings.require("mlflow.url"))
        self._client = self._link.client
        self.runs = FitRuns(self._link)
        self.ledger = Ledger(self._link)

    def __reduce__(self) -> tuple[type[Registry], tuple[Settings]]:
        return type(self), (self._settings,)

    def check(self) -> None:
        """Return when MLflow answers; raise otherwise."""
        with translated("model registry"):
            self._client.search_registered_models(max_results=1)

    # -- reading ----------------------------------------------------------------------------------------------

    def resolve(self, ref: AliasRef | ModelRef) -> ModelRef:
        """The pinned version that ``ref`` stands for now.

        Raises:
            UnknownIdentity: there is no such identity, version or alias, or the version is not complete.
        """
        return self._state.champions.resolve(ref)

    def describe(self, ref: AliasRef | ModelRef) -> VersionInfo:
        """What is registered of the version ``ref`` stands for.

        Raises:
            UnknownIdentity: as for ``resolve``.
        """
        pinned = self.resolve(ref)
        aliases = self._state.champions.get(pinned.tenant, pinned.identity).aliases_of(pinned.version)
        facts = self._state.versions.facts(pinned)
        with translated(str(pinned)):
            version = self._client.get_model_version(pinned.registry_name, str(pinned.version))
        info = version_info(pinned.tenant, pinned.identity, version, list(aliases))
        return dataclasses.replace(info, files_sha256=facts.files_sha256, num_bytes=facts.num_bytes)

    def download(self, ref: ModelRef | AliasRef, dest: Path) -> StoredFolder:
        """Fetch a version's identity folder into ``dest``, which must not exist, verifying every byte.

        Raises:
            UnknownIdentity: there is no such version.
            ObjectCorrupt: the stored bytes are not the registered ones.
            AlreadyExists: ``dest`` exists.
        """
        info = self.describe(ref)
        return get_folder(self._store, info.ref.object_prefix, dest, sha256=info.files_sha256)

    def download_artifact(self, ref: ModelRef | AliasRef, name: str, folder: Path) -> Path:
        """Fetch one report of a version (given to ``register_version``) into an existing folder.

        Raises:
            UnknownIdentity: there is no such version or report.
        """
        path = self.runs.get_report(self.describe(ref).run_id, name, folder)
        if path is None:
            raise UnknownIdentity(f"{name} of {ref}", "a report", "none of that name")
        return path

    # -- registering ------------------------------------------------------------------------------------------

    def register_version(
        self,
        tenant: TenantId,
        identity: IdentityName,
        folder: Path,
        *,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Mapping[str, Path] | None = None,
        claim: Claim | None = None,
    ) -> ModelRef:
        """Store an identity folder as the identity's next version.

        Args:
            metrics: finite numbers, which a promotion gate can ask for.
            tags: text, for example ``capture_sha256`` and ``recipe``.
            artifacts: reports to keep with the run, file name -> path.
            claim: of the fit that made it. A fit has one version: registering it again returns the first.

        Raises:
            InputError: a metric is not finite, or the folder or a report cannot be stored.
            LeaseLost: the fit is somebody else's now; nothing was registered.
        """
        metrics = {key: finite_number(key, value) for key, value in metrics.items()}
        refuse_own_tags(tags)
        made = None if claim is None else self._state.versions.open(claim)
        if made is not None:
            return ModelRef(tenant, identity, made)
        fit_id = FitId.new() if claim is None else claim.job.fit_id
        run_id = self.runs.run_id(tenant, identity, fit_id)
        ref = self._new_version(tenant, identity, run_id, {**tags, METRICS_TAG: json.dumps(metrics)}, fit_id)
        committing = False
        try:
            stored = put_folder(self._store, ref.object_prefix, folder)
            self.runs.add_reports(run_id, artifacts or {})
            finals = {f"final.{key}": value for key, value in metrics.items()}
            self.runs.log(tenant, identity, fit_id, step=0, metrics=finals)
            facts = VersionFacts(files_sha256=stored.sha256, num_bytes=stored.num_bytes, format=_format_of(folder))
            committing = True
            details = VersionDetails(ref=ref, metrics=metrics, tags=tags, created_s=time.time(), fit_id=fit_id)
            self._state.versions.commit(ref, facts, claim, details=details)
        except BaseException as error:
            # A commit without an answer may have been one. What is not removed now is nobody's: a janitor finds it.
            if not (committing and isinstance(error, StateUnavailable)):
                self._remove_unfinished(ref)
            raise
        self._show(ref, run_id, facts)
        return ref

    def _new_version(
        self, tenant: TenantId, identity: IdentityName, run_id: str, tags: Mapping[str, str], fit_id: FitId
    ) -> ModelRef:
        """A version of the model registry that does not count yet."""
        name = f"{tenant}.{identity}"
        with translated(name):
            self._link.make_once(lambda: self._client.create_registered_model(name))
        all_tags = {**tags, FIT_ID_TAG: str(fit_id), STATE_TAG: "incomplete"}
        source = f"s3://{self._settings.s3.bucket}/{tenant}/identities/{identity}"
        with translated(name):
            version = self._client.create_model_version(name, source, run_id, tags=all_tags, await_creation_for=0)
        return ModelRef(tenant, identity, int(version.version))

    def _remove_unfinished(self, ref: ModelRef) -> None:
        """Remove a version that does not count, as far as the services answer."""
        with contextlib.suppress(ServiceError):
            self._store.delete_prefix(ref.object_prefix)
            with translated(str(ref)):
                self._client.delete_model_version(ref.registry_name, str(ref.version))

    def _show(self, ref: ModelRef, run_id: str, facts: VersionFacts) -> None:
        """Show people that the version counts. It does so already; the keeper shows it later where this fails.

        MLflow refuses the slower of two who write a tag for the first time, and the keeper may be the other one.
        """
        try:
            with translated(str(ref)):
                self._client.set_terminated(run_id, "FINISHED")
            self.ledger.show_ready(ref, facts)
            self._state.versions.told(ref)
        except ServiceError as error:
            logger.info("a version is shown later", extra={"ref": str(ref), "error": str(error)})

    # -- deletion ---------------------------------------------------------------------------------------------

    def delete_version(self, ref: ModelRef) -> None:
        """Delete a version with all its files and reports. Safe to repeat when it was cut off.

        Raises:
            Conflict: an alias stands for it.
            UnknownIdentity: there is no such version.
        """
        self._state.versions.retire(ref)
        self._state.erasures.note(identity_path(ref.tenant, ref.identity, ref.version))
        self._store.delete_prefix(ref.object_prefix)
        self.delete_entry(ref)
        self._state.versions.forget(ref)

    def delete_entry(self, ref: ModelRef) -> None:
        """Delete a version from the model registry, with its run; nothing happens when it is not there."""
        with contextlib.suppress(UnknownIdentity), translated(str(ref)):
            version = self._client.get_model_version(ref.registry_name, str(ref.version))
            if version.run_id:
                with contextlib.suppress(UnknownIdentity):  # gone already, when this was cut off before
                    self.runs.delete(version.run_id)
            self._client.delete_model_version(ref.registry_name, str(ref.version))

    def delete_identity(self, tenant: TenantId, identity: IdentityName) -> None:
        """Delete an identity: every version, complete or not, with all files, reports and aliases.

        Raises:
            UnknownIdentity: there is no such identity.
        """
        name = f"{tenant}.{identity}"
        with translated(name):
            self._client.get_registered_model(name)
        self._state.erasures.note(identity_path(tenant, identity))
        self._state.champions.clear(tenant, identity)
        for number in self._state.versions.all(tenant, identity):
            self.delete_version(ModelRef(tenant, identity, number))
        self._store.delete_prefix(f"{tenant}/identities/{identity}/")
        self.delete_model(tenant, identity)

    def delete_model(self, tenant: TenantId, identity: IdentityName) -> None:
        """Delete an identity from the model registry, with every version that is left, but no files."""
        name = f"{tenant}.{identity}"
        for version in self._link.pages("search_model_versions", f"name = '{name}'"):
            self.delete_entry(ModelRef(tenant, identity, int(version.version)))
        with contextlib.suppress(UnknownIdentity), translated(name):
            self._client.delete_registered_model(name)


def _format_of(folder: Path) -> str:
    """The identity format that a folder's manifest names; empty where it names none."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        manifest = json.loads((folder / IDENTITY.manifest).read_text(encoding="utf-8"))
        return f"{manifest.get('format', '')} {manifest.get('version', '')}".strip()
    return ""
