"""A deployment to be broken, and what was asked of it; ``start.py`` starts it.

Every process of it reaches Redis, S3 and MLflow through fault proxies. The tests look at the truth past the proxies.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from cluster.control.fit_requests import FitOptions
from cluster.control.fits import FitService, Recording
from cluster.ids import FitId, IdentityName, RenderId, TenantId
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.stack import processes
from cluster.stack.home import StackHome
from cluster.stack.services import base_environment
from cluster.state.records import JobRecord
from cluster.state.seats import KEEPER
from tests.faults.breaking import until
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import processes_of
from tests.support.serve import register, speech
from tests.support.tiny_identity import make_tiny_identity

ANNA, BELLA = IdentityName("anna"), IdentityName("bella")  # one that is there, one that is fitted
NUM_REPLICAS = 2
KEEPER_COMMAND = [sys.executable, "-m", "tests.faults.keeper"]
# What is in the command line, or in the title that Ray gives, of each kind of process.
TITLES = {
    "ingress": "ray::ServeReplica:m2dao:ingress",
    "replica": "ray::ServeReplica:m2dao:talker",
    "decoder": "m2dao.contain.server",
    "keeper": "tests.faults.keeper",
    "driver": "train_jobs.job",
    "fit worker": "ray::RayTrainWorker",
}
# How many there are when all is well and nothing is fitted.
_LIVING = {"ingress": 1, "replica": NUM_REPLICAS, "keeper": 1, "driver": 0, "fit worker": 0}
_AGAIN = (429, 500, 502, 503, 504)  # what a careful client asks again after
_SOURCE = Path(__file__).resolve().parents[2]
_names = itertools.count()


@dataclass
class Order:
    """A render that was asked for; accepted once it has an id."""

    tenant: TenantId
    seconds: float
    headers: dict[str, str]
    id: str = ""
    refusals: list[int] = field(default_factory=list)  # status codes after which the client came again


@dataclass
class Fit:
    """A fit that was queued. It stays at its third step until it may go on."""

    tenant: TenantId
    id: FitId
    gate: Path

    def go_on(self) -> None:
        self.gate.touch()


@dataclass
class Site:
    """The deployment, and what was asked of it since the last look."""

    url: str
    home: Path
    tmp: Path
    cache: Path
    proxies: dict[str, FaultProxy]
    settings: Settings  # through the proxies, as every process of the site has them
    services: Platform  # straight to the services
    mounted: bool  # whether tmp and cache are small disks of their own
    client: httpx.Client
    orders: list[Order] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)

    # -- asking -----------------------------------------------------------------------------------------------

    def new_account(self) -> TenantId:
        """A tenant that has nothing."""
        tenant = TenantId(f"f{os.getpid()}-{next(_names)}")
        self.services.state.accounts.create_tenant(tenant)
        return tenant

    def new_tenant(self) -> tuple[TenantId, dict[str, str]]:
        """A tenant with the identity anna, which no replica has loaded, and the headers of its requests."""
        tenant = self.new_account()
        with self.identity() as folder:
            register(self.services, tenant, folder)
        return tenant, {"Authorization": f"Bearer {self.services.state.accounts.create_api_key(tenant)}"}

    @contextlib.contextmanager
    def identity(self) -> Iterator[Path]:
        """An identity that is like no other: copies on disk are found by content."""
        with tempfile.TemporaryDirectory() as folder:
            yield make_tiny_identity(Path(folder) / "anna", size=64, seed=next(_names))

    def order(self, tenant: TenantId, headers: dict[str, str], *, seconds: float) -> Order:
        """Ask for a render as a careful client does: the same request again until the API says yes."""
        order = Order(tenant, seconds, {**headers, "Idempotency-Key": uuid.uuid4().hex})
        self.orders.append(order)
        self.ask_until_accepted(order)
        return order

    def ask_until_accepted(self, order: Order) -> None:
        def ask() -> bool:
            answer = self._ask(order)
            if answer is None:
                return False
            if answer.status_code in _AGAIN:
                order.refusals.append(answer.status_code)
                return False
            assert answer.status_code == 202, answer.text
            order.id = answer.json()["id"]
            return True

        until(ask, "a render to be accepted", pause_s=0.2)

    def _ask(self, order: Order) -> httpx.Response | None:
        """Ask once; None when there was no answer."""
        files = {"audio": ("speech.wav", speech(order.seconds), "audio/wav")}
        with contextlib.suppress(httpx.HTTPError):
            return self.client.post("/v1/renders", files=files, data={"identity": str(ANNA)}, headers=order.headers)
        return None

    def fit(self) -> Fit:
        """Queue a fit of bella, as ``m2dao-train fit`` does, for a new tenant."""
        tenant = self.new_account()
        folder = self.home / "fits" / str(tenant)
        folder.mkdir(parents=True)
        plan = {"steps": 6, "stay_at": 3, "go": str(folder / "go"), "diary": str(folder / "diary")}
        (folder / "recording.json").write_text(json.dumps(plan))
        service = FitService(state=self.services.state, store=self.services.store)
        recording = Recording(identity=BELLA, path=folder / "recording.json")
        batch = service.submit(tenant, [recording], FitOptions(protocols=("paper",)))
        fit = Fit(tenant, batch.fit_ids[0], folder / "go")
        self.fits.append(fit)
        return fit

    # -- looking ----------------------------------------------------------------------------------------------

    def shown(self, order: Order) -> dict[str, Any]:
        """What the API says of a render; empty when it says nothing."""
        with contextlib.suppress(httpx.HTTPError):
            answer = self.client.get(f"/v1/renders/{order.id}", headers=order.headers, timeout=5)
            if answer.status_code == 200:
                return dict(answer.json())
        return {}

    def job(self, what: Order | Fit) -> JobRecord:
        """What the state store says of a render or a fit."""
        job_id = RenderId.parse(what.id) if isinstance(what, Order) else what.id
        return self.services.state.jobs.get(what.tenant, job_id)

    def pids(self, kind: str) -> set[int]:
        """The processes of a kind."""
        return {pid for pid in processes_of(self.home, ["ray", "keeper"]) if TITLES[kind] in _title(pid)}

    def replica_at(self, order: Order) -> int:
        """The replica that has begun a render: the job names it."""
        pid = int(self.job(order).worker.rpartition(":")[2])
        assert pid in self.pids("replica"), (self.job(order).worker, self.pids("replica"))
        return pid

    def amiss(self) -> list[str]:
        """The kinds of processes of which there are too few or too many."""
        found = {kind: len(self.pids(kind)) for kind in _LIVING}
        return [f"{num} of {kind}" for kind, num in found.items() if num != _LIVING[kind]]

    # -- keepers ----------------------------------------------------------------------------------------------

    def start_keeper(self) -> None:
        """Start the site's own keeper, and wait until somebody keeps."""
        home = StackHome(self.home)
        processes.spawn(
            KEEPER_COMMAND,
            mark=home.mark("keeper"),
            record=home.record_path("keeper"),
            log=home.log_path("keeper"),
            env=self._keeper_env(),
            cwd=self.home,
        )
        until(lambda: self.services.state.seats.is_held(KEEPER), "a keeper", pause_s=0.2)

    @contextlib.contextmanager
    def another_keeper(self) -> Iterator[None]:
        """A second keeper waits for the end of the first while the block runs."""
        with (
            open(self.home / "logs" / "another-keeper.log", "ab") as log,
            subprocess.Popen(KEEPER_COMMAND, env=self._keeper_env(), stdout=log, stderr=log) as other,
        ):
            try:
                yield
            finally:
                other.terminate()

    def _keeper_env(self) -> dict[str, str]:
        return {**base_environment(), **self.settings.to_env(), "PYTHONPATH": str(_SOURCE), "TMPDIR": str(self.tmp)}


def _title(pid: int) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
