"""The model registry: versions of identities, their metrics and aliases. The only module that imports mlflow.

One registered model per identity, named ``tenant.identity``. MLflow keeps versions, tags, aliases and the metrics of
each fit (one run per fit, in an experiment per tenant). The identity's files are in our object store under
``ModelRef.object_prefix`` with a table of their hashes; the hash of the table is a tag of the version, so that a
replica can verify every byte it fetches, and nothing is ever unpickled. Reports (contact sheets, plots) are artifacts of
the run, where MLflow's own pages show them.

A version counts only once its tag ``m2dao.state`` says ``ready``, which is written after everything else: a
registration that was cut off leaves a version that nobody can resolve.

MLflow can set an alias but not compare and set it. ``cluster/control/champions.py`` adds the lock and the check.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cluster.ids import ALIASES, AliasRef, FitId, IdentityName, ModelRef, TenantId
from cluster.settings import Settings
from cluster.storage import ObjectStore, StoredFolder
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
    InputError,
    InvalidId,
    RegistryUnavailable,
    ServiceError,
    UnknownIdentity,
)

# MLflow's client retries for four minutes, far longer than a request can wait; and reports usage to its makers,
# which a site that handles faces and voices must not do. A site's own values win.
_CLIENT_ENV = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for results
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Registry:
    """The registry of ``settings``. Safe to share between threads; can be sent to another process.

    Every method raises ``RegistryUnavailable`` when MLflow does not answer, and those that touch files
    ``StorageUnavailable`` when the object store does not.
    """

    def __init__(self, settings: Settings, *, store: ObjectStore | None = None):
        settings.require("mlflow_url")
        for name, value in _CLIENT_ENV.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient  # seconds to import; only processes that use the registry pay

        self._settings = settings
        self._store = store or ObjectStore(settings)
        self._client = MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)
        self._lock = threading.Lock()
        self._experiments: dict[TenantId, str] = {}
        self._runs: dict[FitId, str] = {}

    def __reduce__(self):
        return type(self), (self._settings,)

    def check(self) -> None:
        """Return when MLflow answers; raise otherwise."""
        with _translated("model registry"):
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
        with _translated(str(ref)):
            if isinstance(ref, AliasRef):
                version = self._client.get_model_version_by_alias(ref.registry_name, ref.alias)
            else:
                version = self._client.get_model_version(ref.registry_name, str(ref.version))
        if version.tags.get(STATE_TAG) != "ready":
            raise UnknownIdentity(str(ref), "a complete version", "one that is not", "register it again")
        return version_info(ref.tenant, ref.identity, version)

    def list_identities(self, tenant: TenantId) -> list[IdentityInfo]:
        """The tenant's identities that have a complete version, by name."""
        champions, versions = {}, {}
        for model in self._pages("search_registered_models", f"name LIKE '{tenant}.%'"):
            champions[model.name] = model.aliases.get("champion")
        for version in self._pages("search_model_versions", f"name LIKE '{tenant}.%'"):
            if version.tags.get(STATE_TAG) == "ready":
                versions.setdefault(version.name, []).append(int(version.version))
        infos = []
        for name in sorted(versions.keys() & champions.keys()):
            _, _, identity = name.partition(".")
            with contextlib.suppress(InvalidId):  # a model that somebody else put into MLflow
                champion = champions[name] and int(champions[name])
                numbers = tuple(sorted(versions[name]))
                infos.append(
                    IdentityInfo(tenant=tenant, identity=IdentityName(identity), champion=champion, versions=numbers)
                )
        return infos

    def list_versions(self, tenant: TenantId, identity: IdentityName) -> list[VersionInfo]:
        """The complete versions of an identity, newest first; empty when there is none."""
        found = self._pages("search_model_versions", f"name = '{tenant}.{identity}'")
        # Searching leaves out the aliases of versions, so they come from the model.
        aliases: dict[int, list[str]] = {}
        with contextlib.suppress(UnknownIdentity), _translated(f"{tenant}.{identity}"):
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
        return self._store.get_folder(info.ref.object_prefix, dest, sha256=info.files_sha256)

    def download_artifact(self, ref: ModelRef | AliasRef, name: str, folder: Path) -> Path:
        """Fetch one report of a version (given to ``register_version``) into an existing folder.

        Raises:
            UnknownIdentity: there is no such version or report.
        """
        info = self.describe(ref)
        with _translated(f"{name} of {ref}"):
            names = {entry.path for entry in self._client.list_artifacts(info.run_id)}
            if name not in names:
                raise UnknownIdentity(f"{name} of {ref}", "a report", f"only {sorted(names)}")
            return Path(self._client.download_artifacts(info.run_id, name, str(folder)))

    # -- fits and versions ------------------------------------------------------------------------------------

    def log_fit_progress(
        self,
        tenant: TenantId,
        identity: IdentityName,
        fit_id: FitId,
        *,
        step: int,
        metrics: Mapping[str, float],
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics of one step to the run of a fit, which begins with the first call.

        Args:
            params: what the fit was asked to do; each name can be given once.
        """
        from mlflow.entities import Metric, Param

        run_id = self._run(tenant, identity, fit_id)
        now_ms = int(time.time() * 1000)
        entries = [Metric(name, finite_number(name, value), now_ms, step) for name, value in metrics.items()]
        with _translated(f"run of {fit_id}"):
            self._client.log_batch(run_id, entries, [Param(k, str(v)) for k, v in (params or {}).items()])

    def end_fit(self, tenant: TenantId, identity: IdentityName, fit_id: FitId, *, failed: bool) -> None:
        """Close the run of a fit."""
        run_id = self._run(tenant, identity, fit_id)
        with _translated(f"run of {fit_id}"):
            self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

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
        run_id = self._run(tenant, identity, fit_id)
        self._ensure_model(name)
        all_tags = {**tags, METRICS_TAG: json.dumps(metrics), FIT_ID_TAG: str(fit_id), STATE_TAG: "incomplete"}
        source = f"s3://{self._settings.s3_bucket}/{tenant}/identities/{identity}"
        with _translated(name):
            version = self._client.create_model_version(name, source, run_id, tags=all_tags, await_creation_for=0)
        ref = ModelRef(tenant, identity, int(version.version))
        try:
            self._fill_version(ref, run_id, folder, metrics, artifacts or {})
        except BaseException:
            # Best effort: what cannot be removed now stays "incomplete", which nobody can resolve.
            with contextlib.suppress(ServiceError):
                self._store.delete_prefix(ref.object_prefix)
                with _translated(str(ref)):
                    self._client.delete_model_version(name, str(ref.version))
            raise
        return ref

    def _fill_version(self, ref, run_id, folder, metrics, artifacts) -> None:
        stored = self._store.put_folder(ref.object_prefix, folder)
        self._log_artifacts(run_id, artifacts)
        self.log_fit_progress(
            ref.tenant,
            ref.identity,
            self._fit_of(run_id),
            step=0,
            metrics={f"final.{key}": value for key, value in metrics.items()},
        )
        facts = {FILES_SHA256_TAG: stored.sha256, NUM_BYTES_TAG: str(stored.num_bytes), STATE_TAG: "ready"}
        with _translated(str(ref)):
            self._client.set_terminated(run_id, "FINISHED")
            for key, value in facts.items():  # in this order: "ready" comes last
                self._client.set_model_version_tag(ref.registry_name, str(ref.version), key, value)

    def _log_artifacts(self, run_id: str, artifacts: Mapping[str, Path]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, path in artifacts.items():
                if Path(name).name != name or not Path(path).is_file():
                    raise InputError(f"report {name}", "a plain name and a file", str(path))
                link = Path(folder) / name  # MLflow takes the name from the file
                link.symlink_to(Path(path).absolute())
                with _translated(f"report {name}"):
                    self._client.log_artifact(run_id, str(link))

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        with _translated(name):
            try:
                self._client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def set_tags(self, ref: ModelRef, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or change them: what became known after it was registered.

        Raises:
            UnknownIdentity: there is no such complete version.
        """
        refuse_own_tags(tags)
        self.describe(ref)
        with _translated(str(ref)):
            for key, value in tags.items():
                self._client.set_model_version_tag(ref.registry_name, str(ref.version), key, value)

    # -- aliases and deletion ---------------------------------------------------------------------------------

    def set_alias(self, ref: ModelRef, alias: str) -> None:
        """Let an alias stand for ``ref``. Promote through ``cluster.control.champions``, which also checks and announces.

        Raises:
            UnknownIdentity: there is no such complete version.
        """
        AliasRef(ref.tenant, ref.identity, alias)  # checks the alias
        self.describe(ref)
        with _translated(str(ref)):
            self._client.set_registered_model_alias(ref.registry_name, alias, str(ref.version))

    def delete_alias(self, ref: AliasRef) -> None:
        """Let an alias stand for nothing; no error when it did so already."""
        with contextlib.suppress(UnknownIdentity), _translated(str(ref)):
            self._client.delete_registered_model_alias(ref.registry_name, ref.alias)

    def delete_version(self, ref: ModelRef) -> None:
        """Delete a version with all its files and reports.

        Raises:
            Conflict: an alias stands for it; MLflow would drop the alias without a word.
            UnknownIdentity: there is no such version.
        """
        with _translated(str(ref)):
            version = self._client.get_model_version(ref.registry_name, str(ref.version))
            if held := sorted(set(version.aliases) & set(ALIASES)):
                raise Conflict(str(ref), "a version without aliases", f"{', '.join(held)}", "move them first")
            self._client.set_model_version_tag(ref.registry_name, str(ref.version), STATE_TAG, "deleting")
        self._store.delete_prefix(ref.object_prefix)
        with _translated(str(ref)):
            if version.run_id:
                self._delete_reports(version.run_id)
                self._client.delete_run(version.run_id)
            self._client.delete_model_version(ref.registry_name, str(ref.version))

    def delete_identity(self, tenant: TenantId, identity: IdentityName) -> None:
        """Delete an identity: every version, complete or not, with all files, reports and aliases.

        Raises:
            UnknownIdentity: there is no such identity.
        """
        name = f"{tenant}.{identity}"
        with _translated(name):
            self._client.get_registered_model(name)
        for alias in ALIASES:
            self.delete_alias(AliasRef(tenant, identity, alias))
        for version in self._pages("search_model_versions", f"name = '{name}'"):
            self.delete_version(ModelRef(tenant, identity, int(version.version)))
        self._store.delete_prefix(f"{tenant}/identities/{identity}/")
        with _translated(name):
            self._client.delete_registered_model(name)

    def _delete_reports(self, run_id: str) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        run = self._client.get_run(run_id)
        get_artifact_repository(run.info.artifact_uri, tracking_uri=self._settings.mlflow_url).delete_artifacts()

    # -- runs -------------------------------------------------------------------------------------------------

    def _run(self, tenant: TenantId, identity: IdentityName, fit_id: FitId) -> str:
        """The id of the fit's run; a retried fit goes on in the run it began."""
        with self._lock, _translated(f"run of {fit_id}"):
            if fit_id not in self._runs:
                experiment = self._experiment(tenant)
                found = self._client.search_runs([experiment], f"tags.`{FIT_ID_TAG}` = '{fit_id}'", max_results=1)
                tags = {FIT_ID_TAG: str(fit_id), "m2dao.identity": str(identity)}
                run = (
                    found[0]
                    if found
                    else self._client.create_run(experiment, tags=tags, run_name=f"{identity} {fit_id}")
                )
                self._runs[fit_id] = run.info.run_id
            return self._runs[fit_id]

    def _fit_of(self, run_id: str) -> FitId:
        return next(fit_id for fit_id, known in self._runs.items() if known == run_id)

    def _experiment(self, tenant: TenantId) -> str:
        from mlflow.exceptions import MlflowException

        if tenant not in self._experiments:
            found = self._client.get_experiment_by_name(str(tenant))
            if found is None:
                try:
                    self._client.create_experiment(str(tenant), artifact_location=f"mlflow-artifacts:/{tenant}")
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                        raise
                found = self._client.get_experiment_by_name(str(tenant))
            self._experiments[tenant] = found.experiment_id
        return self._experiments[tenant]

    def _pages(self, method: str, query: str) -> Iterator:
        token = None
        while True:
            with _translated("model registry"):
                page = getattr(self._client, method)(query, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


@contextlib.contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn errors of mlflow into ours."""
    from mlflow.exceptions import MlflowException, RestException

    try:
        yield
    except RestException as error:
        code = error.error_code
        alias_unknown = code == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
        if code == "RESOURCE_DOES_NOT_EXIST" or alias_unknown:
            raise UnknownIdentity(subject, "to be registered", "nothing of that name") from error
        if code in {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}:
            raise RegistryUnavailable(subject, "an answer of MLflow", code, "try again later") from error
        raise ServiceError(subject, "MLflow to accept the request", f"{code}: {error}"[:500]) from error
    except MlflowException as error:  # no answer at all, after the client's own retries
        raise RegistryUnavailable(subject, "an answer of MLflow", str(error)[:300], "try again later") from error
