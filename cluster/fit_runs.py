"""The runs of fits in the model registry: one run per fit, in an experiment per tenant."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from cluster.ids import FitId, IdentityName, TenantId
from cluster.mlflow_link import MlflowLink, translated
from cluster.versions import FIT_ID_TAG, finite_number
from m2dao.errors import InputError


class FitRuns:
    """The runs of fits. Safe to share between threads.

    Every method raises ``RegistryUnavailable`` when MLflow does not answer.
    """

    def __init__(self, link: MlflowLink):
        self._link = link
        self._lock = threading.Lock()
        self._experiments: dict[TenantId, str] = {}
        self._runs: dict[FitId, str] = {}

    def log(
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
        run_id = self.run_id(tenant, identity, fit_id)
        numbers = {name: finite_number(name, value) for name, value in metrics.items()}
        with translated(f"run of {fit_id}"):
            self._link.log(run_id, step, numbers, params or {})

    def end(self, tenant: TenantId, identity: IdentityName, fit_id: FitId, *, failed: bool) -> None:
        """Close the run of a fit."""
        run_id = self.run_id(tenant, identity, fit_id)
        with translated(f"run of {fit_id}"):
            self._link.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def add_reports(self, run_id: str, reports: Mapping[str, Path]) -> None:
        """Keep files with a run.

        Raises:
            InputError: a name is not plain, or its file is not there.
        """
        with tempfile.TemporaryDirectory() as folder:
            for name, path in reports.items():
                if Path(name).name != name or not Path(path).is_file():
                    raise InputError(f"report {name}", "a plain name and a file", str(path))
                link = Path(folder) / name  # MLflow takes the name from the file
                link.symlink_to(Path(path).absolute())
                with translated(f"report {name}"):
                    self._link.client.log_artifact(run_id, str(link))

    def get_report(self, run_id: str, name: str, folder: Path) -> Path | None:
        """Fetch a file kept with a run into an existing folder; None when there is none of that name."""
        with translated(f"report {name}"):
            names = {entry.path for entry in self._link.client.list_artifacts(run_id)}
            return Path(self._link.client.download_artifacts(run_id, name, str(folder))) if name in names else None

    def delete(self, run_id: str) -> None:
        """Delete a run with its files."""
        with translated(f"run {run_id}"):
            self._link.delete_artifacts(run_id)
            self._link.client.delete_run(run_id)

    def run_id(self, tenant: TenantId, identity: IdentityName, fit_id: FitId) -> str:
        """The id of the fit's run; a retried fit goes on in the run it began."""
        with self._lock, translated(f"run of {fit_id}"):
            if fit_id not in self._runs:
                client, experiment = self._link.client, self._experiment(tenant)
                found = client.search_runs([experiment], f"tags.`{FIT_ID_TAG}` = '{fit_id}'", max_results=1)
                tags = {FIT_ID_TAG: str(fit_id), "m2dao.identity": str(identity)}
                run = found[0] if found else client.create_run(experiment, tags=tags, run_name=f"{identity} {fit_id}")
                self._runs[fit_id] = run.info.run_id
            return self._runs[fit_id]

    def _experiment(self, tenant: TenantId) -> str:
        if tenant not in self._experiments:
            client, name = self._link.client, str(tenant)
            found = client.get_experiment_by_name(name)
            if found is None:
                place = f"mlflow-artifacts:/{tenant}"
                self._link.make_once(lambda: client.create_experiment(name, artifact_location=place))
                found = client.get_experiment_by_name(name)
                assert found is not None, "made just now"
            self._experiments[tenant] = found.experiment_id
        return self._experiments[tenant]
