"""The machine of Ray's head is lost: workers go on serving, and a new head takes over.

Machines are network namespaces; Ray is started on them by the commands of ``ray_cluster.yaml``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from cluster.platform import Platform
from cluster.settings import Settings
from cluster.stack.stack import Stack
from tests.faults.breaking import cannot, last, until
from tests.faults.machines import Machine, Network
from tests.faults.start import SERVICES, behind, proxies_of
from tests.support.serve import Customer, new_customer, register
from tests.support.stack import reaching
from tests.support.tiny_identity import make_tiny_identity

pytestmark = pytest.mark.cell
AWAY_S = 30.0
_SIZES = {"MIN_REPLICAS": "1", "MAX_REPLICAS": "1", "RENDER_THREADS": "1", "LEASE_S": "10"}
_TALKER = "ray::ServeReplica:m2dao:talker"


@dataclass
class Cluster:
    """A head that does no work and one worker, on services of their own."""

    head: Machine
    worker: Machine
    platform: Platform
    home: Path

    def ours(self, words: str) -> str:
        """Run a program of ours on the head, with the machine's environment, as docs/guides/cluster.md tells."""
        script = "~/m2dao/src/install/with_environment.sh ~/m2dao/environment /etc/m2dao/m2dao.env --"
        return self.head.run(f"{script} {shlex.quote(sys.executable)} -m {words}")

    def replicas(self) -> dict[str, int]:
        """The process of each replica of our application, as we see it."""
        found = {}
        for process in self.worker.processes():
            with contextlib.suppress(psutil.Error):
                if match := re.match(r"ray::ServeReplica:m2dao:\w+", " ".join(process.cmdline())):
                    found[match.group()] = process.pid
        return found

    def is_running(self) -> bool:
        """Whether Serve says that all is well; a head that has just begun may not know yet."""
        try:
            return self.ours("serve_apps.cli status").startswith("RUNNING")
        except AssertionError:
            return False


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if os.getuid() != 0 or shutil.which("ip") is None:
        cannot("machines of this cell are network namespaces, for which root and iproute2 are needed")
    with contextlib.ExitStack() as held:
        home = Path(tempfile.mkdtemp(prefix="m2dao-"))
        held.callback(shutil.rmtree, home, ignore_errors=True)
        services = Stack(Settings(home=home / "services", start_timeout_s=600))
        held.callback(services.down)
        direct = services.up(services=tuple(SERVICES), owner_pid=os.getpid())
        network = held.enter_context(Network(os.getpid() % 250 + 1))
        head = held.enter_context(network.machine(2, home / "head"))
        worker = held.enter_context(network.machine(3, home / "worker"))
        reached = _reached(direct, network.host, held)
        token = secrets.token_hex(32)
        for machine in (head, worker):
            machine.configure({**reached, "M2DAO_RAY_ADDRESS": f"{head.address}:6379"}, token)
        head.start_ray("head", head=head.address)
        worker.start_ray("worker", head=head.address)
        platform = Platform(reaching(direct))
        held.callback(platform.state.close)
        cluster = Cluster(head, worker, platform, home)
        cluster.ours("serve_apps.cli deploy")
        yield cluster


def _reached(direct: Settings, host: str, held: contextlib.ExitStack) -> dict[str, str]:
    """What the machines' environment says of the services, which the network reaches through proxies."""
    env = {"M2DAO_API_HOST": "0.0.0.0", "M2DAO_RAY_TOKEN_FILE": "/etc/m2dao/ray-token"}
    env |= {f"M2DAO_SERVE_{name}": value for name, value in _SIZES.items()}
    env |= behind(direct, {name: held.enter_context(proxy) for name, proxy in proxies_of(direct, host=host).items()})
    redis = urlsplit(env["M2DAO_REDIS_URL"])
    return env | {"RAY_REDIS_ADDRESS": f"{redis.hostname}:{redis.port}", "RAY_REDIS_PASSWORD": str(redis.password)}


@dataclass
class Client:
    """Asks for one render after the other, until told to stop; each must be accepted and made."""

    customer: Customer
    num_made: int = 0
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _ask(self) -> None:
        for number in itertools.count():
            try:
                answer = self.customer.ask(1.0)
                while answer.status_code in (200, 202) and answer.json()["status"] in ("queued", "running"):
                    last(0.1)
                    answer = self.customer.client.get(f"/v1/renders/{answer.json()['id']}")
                if answer.status_code == 200 and answer.json()["status"] == "done":
                    self.num_made += 1
                else:
                    self.failures.append(f"render {number}: {answer.status_code} {answer.text}")
            except httpx.HTTPError as error:
                self.failures.append(f"render {number}: {error!r}")
            if self._over.is_set():
                return


def test_no_request_fails_while_the_head_is_lost_and_when_another_takes_over(cluster, tmp_path):
    customer = new_customer(cluster.platform.state, f"http://{cluster.worker.address}:8000")
    register(cluster.platform, customer.tenant, make_tiny_identity(tmp_path / "anna", size=64))
    client = Client(customer)
    with customer.client, client.asking():
        until(lambda: client.num_made or client.failures, "a first render")
        replicas = cluster.replicas()
        assert len(replicas) == 3  # ingress, renderer, keeper
        cluster.head.lose()
        before = client.num_made
        last(AWAY_S)
        while_away = client.num_made - before
        cluster.head.start()  # a new machine, which knows only what is in Redis
        cluster.head.start_ray("head", head=cluster.head.address)
        until(cluster.is_running, "Serve to run under the new head", pause_s=1)
        assert cluster.replicas() == replicas  # nothing was started anew
        after = client.num_made
        until(lambda: client.num_made > after or client.failures, "a render under the new head")
    assert client.failures == []
    assert while_away > 0
    assert _is_replaced(cluster, replicas[_TALKER])


def _is_replaced(cluster: Cluster, pid: int) -> bool:
    """Kill a replica: the new head sees that, and starts another."""
    os.kill(pid, signal.SIGKILL)
    return bool(until(lambda: cluster.replicas().get(_TALKER, pid) != pid, "another replica", pause_s=0.5))
