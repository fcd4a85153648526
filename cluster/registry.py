"""The model registry: versions of identities, their metrics and aliases.

One registered model per identity, named ``tenant.identity``. MLflow keeps versions, tags and aliases, and the metrics
of each fit (``cluster/fit_runs.py``). The identity's files are in our object store, under ``ModelRef.object_prefix``,
with a table of their hashes. The hash of that table is a tag of the version, so a replica can verify every byte it
fetches. Nothing is ever unpickled. Reports (contact sheets, plots) are artifacts of the run, and MLflow's pages show
them.

A version counts only once its tag ``m2dao.state`` says ``ready``, which is written after everything else. A
registration that was cut off leaves a version that nobody can resolve.

MLflow can set an alias but not compare and set it. ``cluster/control/champions.py`` adds the lock and the check.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from cluster.fit_runs import FitRuns
from cluster.folders import StoredFolder, get_folder, put_folder
from cluster.ids import ALIASES, AliasRef, FitId, IdentityName, ModelRef, TenantId
from cluster.mlflow_link import MlflowLink, translated
from cluster.settings import Settings
from cluster.storage import ObjectStore
from cluster.versions import (
    FILES_SHA256_TAG,
    FIT_ID_TAG,
    METRICS_TAG,
    NUM_BYTES_TAG,
    STATE_TAG,
    IdentityInfo,
    VersionInfo,
    finite_number,
    refuse_own_tags,
    version_info,
)
from m2dao.errors import (
    Conflict,
    InvalidId,
    ServiceError,
    UnknownIdentity,
)


class Registry:
    """The registry of ``settings``. Safe to share between threads; can be sent to another process.

    Every method raises ``RegistryUnavailable`` when MLflow does not answer, and those that touch files
    ``StorageUnavailable`` when the object store does not.
    """

    def __init__(self, settings: Settings, *, store: ObjectStore | None = None):
        self._settings = settings
        self._store = store or ObjectStore(settings)
        self._link = MlflowLink(settings.require("mlflow.url"))
        self._client = self._link.client
        self.runs = FitRuns(self._link)

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
        return self.describe(ref).ref

    def describe(self, ref: AliasRef | ModelRef) -> VersionInfo:
        """What is registered of the version ``ref`` stands for.

        Raises:
            UnknownIdentity: as for ``resolve``.
        """
        with translated(str(ref)):
            if isinstance(ref, AliasRef):
                version = self._client.get_model_version_by_alias(ref.registry_name, ref.alias)
            else:
                version = self._client.get_model_version(ref.registry_name, str(ref.version))
        if version.tags.get(STATE_TAG) != "ready":
            raise UnknownIdentity(str(ref), "a complete version", "one that is not", "register it again")
        return version_info(ref.tenant, ref.identity, version)

    def list_identities(self, tenant: TenantId) -> list[IdentityInfo]:
        """The tenant's identities that have a complete version, by name."""
        champions: dict[str, str | None] = {}
        versions: dict[str, list[int]] = {}
        for model in self._link.pages("search_registered_models", f"name LIKE '{tenant}.%'"):
            champions[model.name] = model.aliases.get("champion")
        for version in self._link.pages("search_model_versions", f"name LIKE '{tenant}.%'"):
            if version.tags.get(STATE_TAG) == "ready":
                versions.setdefault(version.name, []).append(int(version.version))
        infos = []
        for name in sorted(versions.keys() & champions.keys()):
            _, _, identity = name.partition(".")
            with contextlib.suppress(InvalidId):  # a model that somebody else put into MLflow
                aliased = champions[name]
                champion = int(aliased) if aliased else None
                numbers = tuple(sorted(versions[name]))
                infos.append(
                    IdentityInfo(tenant=tenant, identity=IdentityName(identity), champion=champion, versions=numbers)
                )
        return infos

    def list_versions(self, tenant: TenantId, identity: IdentityName) -> list[VersionInfo]:
        """The complete versions of an identity, newest first; empty when there is none."""
        found = self._link.pages("search_model_versions", f"name = '{tenant}.{identity}'")
        # Searching leaves out the aliases of versions, so they come from the model.
        aliases: dict[int, list[str]] = {}
        with contextlib.suppress(UnknownIdentity), translated(f"{tenant}.{identity}"):
            for alias, number in self._client.get_registered_model(f"{tenant}.{identity}").aliases.items():
                aliases.setdefault(int(number), []).append(alias)
        infos = [
            version_info(tenant, identity, version, aliases.get(int(version.version), []))
            for version in found
            if version.tags.get(STATE_TAG) == "ready"
        ]
        return sorted(infos, key=lambda info: info.ref.version, reverse=True)

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
        fit_id: FitId | None = None,
    ) -> ModelRef:
        """Store an identity folder as the identity's next version.

        Args:
            metrics: finite numbers, which a promotion gate can ask for.
            tags: text, for example ``capture_sha256`` and ``recipe``.
            artifacts: reports to keep with the run, file name -> path.
            fit_id: the fit that made it. A fit has one version: registering it again returns the first.

        Raises:
            InputError: a metric is not finite, or the folder or a report cannot be stored.
        """
        name = f"{tenant}.{identity}"
        metrics = {key: finite_number(key, value) for key, value in metrics.items()}
        refuse_own_tags(tags)
        if fit_id is not None:
            for info in self.list_versions(tenant, identity):
                if info.fit_id == fit_id:
                    return info.ref
        fit_id = fit_id or FitId.new()
        run_id = self.runs.run_id(tenant, identity, fit_id)
        with translated(name):
            self._link.make_once(lambda: self._client.create_registered_model(name))
        all_tags = {**tags, METRICS_TAG: json.dumps(metrics), FIT_ID_TAG: str(fit_id), STATE_TAG: "incomplete"}
        source = f"s3://{self._settings.s3.bucket}/{tenant}/identities/{identity}"
        with translated(name):
            version = self._client.create_model_version(name, source, run_id, tags=all_tags, await_creation_for=0)
        ref = ModelRef(tenant, identity, int(version.version))
        try:
            stored = put_folder(self._store, ref.object_prefix, folder)
            self.runs.add_reports(run_id, artifacts or {})
            finals = {f"final.{key}": value for key, value in metrics.items()}
            self.runs.log(tenant, identity, fit_id, step=0, metrics=finals)
            self._complete(ref, run_id, stored)
        except BaseException:
            # Best effort: what cannot be removed now stays "incomplete", which nobody can resolve.
            with contextlib.suppress(ServiceError):
                self._store.delete_prefix(ref.object_prefix)
                with translated(str(ref)):
                    self._client.delete_model_version(name, str(ref.version))
            raise
        return ref

    def _complete(self, ref: ModelRef, run_id: str, stored: StoredFolder) -> None:
        facts = {FILES_SHA256_TAG: stored.sha256, NUM_BYTES_TAG: str(stored.num_bytes), STATE_TAG: "ready"}
        with translated(str(ref)):
            self._client.set_terminated(run_id, "FINISHED")
            for key, value in facts.items():  # in this order: "ready" comes last
                self._client.set_model_version_tag(ref.registry_name, str(ref.version), key, value)

    def set_tags(self, ref: ModelRef, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or change them: what became known after it was registered.

        Raises:
            UnknownIdentity: there is no such complete version.
        """
        refuse_own_tags(tags)
        self.describe(ref)
        with translated(str(ref)):
            for key, value in tags.items():
                self._client.set_model_version_tag(ref.registry_name, str(ref.version), key, value)

    # -- aliases and deletion ---------------------------------------------------------------------------------

    def set_alias(self, ref: ModelRef, alias: str) -> None:
        """Let an alias stand for ``ref``.

        Promote through ``cluster.control.champions``, which also checks and announces.

        Raises:
            UnknownIdentity: there is no such complete version.
        """
        AliasRef(ref.tenant, ref.identity, alias)  # checks the alias
        self.describe(ref)
        with translated(str(ref)):
            self._client.set_registered_model_alias(ref.registry_name, alias, str(ref.version))

    def delete_alias(self, ref: AliasRef) -> None:
        """Let an alias stand for nothing; no error when it did so already."""
        with contextlib.suppress(UnknownIdentity), translated(str(ref)):
            self._client.delete_registered_model_alias(ref.registry_name, ref.alias)

    def delete_version(self, ref: ModelRef) -> None:
        """Delete a version with all its files and reports.

        Raises:
            Conflict: an alias stands for it; MLflow would drop the alias without a word.
            UnknownIdentity: there is no such version.
        """
        with translated(str(ref)):
            version = self._client.get_model_version(ref.registry_name, str(ref.version))
            if held := sorted(set(version.aliases) & set(ALIASES)):
                raise Conflict(str(ref), "a version without aliases", f"{', '.join(held)}", "move them first")
            self._client.set_model_version_tag(ref.registry_name, str(ref.version), STATE_TAG, "deleting")
        self._store.delete_prefix(ref.object_prefix)
        if version.run_id:
            self.runs.delete(version.run_id)
        with translated(str(ref)):
            self._client.delete_model_version(ref.registry_name, str(ref.version))

    def delete_identity(self, tenant: TenantId, identity: IdentityName) -> None:
        """Delete an identity: every version, complete or not, with all files, reports and aliases.

        Raises:
            UnknownIdentity: there is no such identity.
        """
        name = f"{tenant}.{identity}"
        with translated(name):
            self._client.get_registered_model(name)
        for alias in ALIASES:
            self.delete_alias(AliasRef(tenant, identity, alias))
        for version in self._link.pages("search_model_versions", f"name = '{name}'"):
            self.delete_version(ModelRef(tenant, identity, int(version.version)))
        self._store.delete_prefix(f"{tenant}/identities/{identity}/")
        with translated(name):
            self._client.delete_registered_model(name)
