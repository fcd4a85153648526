"""The embedded stack: Valkey, SeaweedFS, MLflow and a Ray head as real processes on this machine.

``up`` starts what the site has not configured itself, all at once, and returns when everything answers. The processes
outlast the command. What it does is safe to repeat: a service that answers is left alone, one that does not is started
anew, and when a service cannot be started, those that this ``up`` started are stopped again.

    $M2DAO_HOME/stack.env          what reaches the services; later commands read it
    $M2DAO_HOME/credentials.json   passwords, keys and tokens, made once per home
    $M2DAO_HOME/run/               records of processes, ports, lock
    $M2DAO_HOME/logs/              what the services say
    $M2DAO_HOME/{redis,s3,mlflow,ray}/   their data
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from cluster.settings import Settings
from cluster.stack import processes
from cluster.stack.home import StackHome, write_private
from cluster.stack.services import (
    LOOPBACK,
    PORT_NAMES,
    SERVICES,
    Service,
    base_environment,
    http_ok,
    leftover_sockets,
    make_service,
    ray_temp_dir,
)
from m2dao.errors import ConfigError, M2daoError, ServiceUnavailable, StackError

_POLL_S = 0.1
# The setting by which a site names a service of its own; there is none for the keeper, which is ours.
_CONFIGURED = {"redis": "redis.url", "s3": "s3.endpoint", "mlflow": "mlflow.url", "ray": "ray.address"}
# A service that needs another's address is stopped before it, and started with it.
_STOP_ORDER = (("guardian",), ("keeper",), ("ray", "mlflow"), ("s3", "redis"))
_GRACE_S = {"redis": 5, "s3": 8, "mlflow": 8, "ray": 15, "keeper": 5, "guardian": 2}  # to end by themselves

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """How one service is."""

    name: str
    state: str  # "running", "not answering", "stopped", or "external" (the site's own)
    pid: int | None
    address: str  # without passwords
    log: str


class Stack:
    """The embedded stack of one home.

    Args:
        settings: read without ``stack.env`` (``Settings.from_env(use_stack=False)``): what is set in them is the site's
            own service and is not started here.
    """

    def __init__(self, settings: Settings):
        self._home = StackHome(settings.home)
        self._settings = settings
        self._cancelled = threading.Event()

    def up(
        self,
        *,
        services: Sequence[str] = SERVICES,
        progress: Progress = lambda line: None,
        owner_pid: int | None = None,
    ) -> Settings:
        """Start what is missing and return the settings that reach everything.

        Args:
            services: which ones; the others are left as they are.
            progress: is told, line by line, what happens; possibly from several threads.
            owner_pid: stop the stack when this process ends, however it ends.

        Raises:
            StackError: a service could not be started; what this call started is stopped again.
            ServiceUnavailable: a service of the site's own does not answer.
        """
        with self._home.exclusive(self._settings.start_timeout_s):
            self._cancelled.clear()
            started: list[str] = []
            try:
                planned = self._plan(services)
                settings = self._settings
                for service in planned:
                    settings = settings.with_env(service.reached_by)
                if owner_pid is not None:
                    self._start_guardian(owner_pid)  # first: the owner can be killed while the services start
                self._start_all(planned, settings, started, progress)
                self._check_external(services, settings)
                self._home.write_stack_env(settings)
            except BaseException:
                self._cancelled.set()
                if started:
                    names = sorted(set(started))
                    progress("undoing: " + ", ".join(names))
                    self._stop(names)
                if not any(self._home.is_running(name) for name in SERVICES):
                    self._stop(["guardian"])
                raise
        return settings

    def down(self, *, progress: Progress = lambda line: None) -> int:
        """Stop everything of this home; returns how many processes had to be killed. Data stays."""
        if not self._home.run_dir.exists():  # never started, or its folder was deleted under it
            was_gone = not self._home.path.exists()
            killed = self._stop([name for name in _GRACE_S if self._home.is_running(name)])
            if was_gone:  # a store that ends writes once more, and so makes the folder again
                shutil.rmtree(self._home.path, ignore_errors=True)
            return killed
        with self._home.exclusive(self._settings.start_timeout_s):
            self._home.stack_env.unlink(missing_ok=True)
            killed = 0
            for group in _STOP_ORDER:
                running = [name for name in group if self._home.is_running(name)]
                for name in running:
                    progress(f"stopping {name}")
                killed += self._stop(running)
            shutil.rmtree(ray_temp_dir(self._home.path), ignore_errors=True)
            for path in leftover_sockets(self._home.ports().get("s3", {})):
                path.unlink(missing_ok=True)
            return killed

    def stop_service(self, name: str) -> None:
        """Stop one service and leave the others; ``up`` starts it again where it was, with its data."""
        with self._home.exclusive(self._settings.start_timeout_s):
            self._stop([name])

    def status(self) -> list[ServiceStatus]:
        """How each service is."""
        ports = self._home.ports()
        reached = Settings.from_env({"M2DAO_HOME": str(self._home.path)})
        return [self._status(name, ports, reached) for name in SERVICES]

    # -- starting ---------------------------------------------------------------------------------------------

    def _plan(self, names: Sequence[str]) -> list[Service]:
        """The services to run here, with ports and files, in the order of ``SERVICES``."""
        unknown = set(names) - set(SERVICES)
        if unknown:
            raise StackError(f"service {sorted(unknown)[0]}", " or ".join(SERVICES), "another name")
        embedded = [n for n in SERVICES if n in names and self._own(n) is None]
        self._home.make_folders()
        credentials = self._home.credentials()
        if self._own("redis") is not None and self._settings.plain("key_pepper") is None:
            remedy = (
                f"set it as on the other nodes; without others, key_pepper in {self._home.credentials_path} will do"
            )
            raise ConfigError(
                "M2DAO_KEY_PEPPER", "a value: M2DAO_REDIS_URL is set, and its keys need it", "none", remedy
            )
        ports = self._home.choose_ports(embedded)
        pepper = self._settings.plain("key_pepper") or credentials["key_pepper"]  # a site's own wins
        settings, planned = self._settings.with_env({"M2DAO_KEY_PEPPER": pepper}), []
        for name in embedded:
            service = make_service(name, settings, ports[name], credentials)
            settings = settings.with_env(service.reached_by)
            planned.append(service)
        self._settings = self._settings.with_env({"M2DAO_KEY_PEPPER": pepper})
        return planned

    def _start_all(self, planned: list[Service], settings: Settings, started: list[str], progress: Progress) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(planned))) as pool:
            try:
                futures = [pool.submit(self._start, service, settings, started, progress) for service in planned]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self._cancelled.set()  # before the pool waits for its threads
                raise

    def _start(self, service: Service, settings: Settings, started: list[str], progress: Progress) -> None:
        began = time.monotonic()
        plan = self._home.run_dir / f"{service.name}.plan"
        fingerprint = _fingerprint(service)
        record = self._home.record(service.name)
        if record is not None and record.alive():
            same = plan.exists() and plan.read_text() == fingerprint
            if same and _ready(service, settings):
                progress(f"{service.name}: already running")
                return
            progress(f"{service.name}: " + ("does not answer" if same else "other settings") + ", starting it anew")
        self._stop([service.name])  # whatever an earlier attempt has left
        for path, text in service.files.items():
            write_private(path, text)
        plan.write_text(fingerprint)
        deadline = began + self._settings.start_timeout_s
        for tries_left in reversed(range(service.num_tries)):
            if self._cancelled.is_set():
                return
            started.append(service.name)
            record = processes.spawn(
                service.command,
                mark=self._home.mark(service.name),
                record=self._home.record_path(service.name),
                log=self._home.log_path(service.name),
                env={**base_environment(), **service.env},
                cwd=self._home.path,
            )
            if self._wait_ready(service, settings, record, deadline, must=not tries_left):
                progress(f"{service.name}: ready after {time.monotonic() - began:.1f} s")
                return
            self._stop([service.name])
            progress(f"{service.name}: ended before it was ready, starting it again")

    def _wait_ready(
        self, service: Service, settings: Settings, record: processes.ProcessRecord, deadline: float, *, must: bool
    ) -> bool:
        """True once the service answers or ``up`` was cancelled; False when it ended and may be tried again."""
        log = self._home.log_path(service.name)
        while not _ready(service, settings) and not self._cancelled.is_set():
            if not record.alive():
                if not must:
                    return False
                raise StackError(service.name, "to start", "its process ended", f"see {log}:\n{_tail(log)}")
            if time.monotonic() > deadline:
                raise StackError(
                    service.name,
                    f"to answer within {self._settings.start_timeout_s} s",
                    "no answer",
                    f"raise M2DAO_START_TIMEOUT_S, or see {log}:\n{_tail(log)}",
                )
            time.sleep(_POLL_S)
        return True

    def _check_external(self, names: Sequence[str], settings: Settings) -> None:
        """The services of the site's own must answer too; the bucket is made where it is missing."""
        from cluster.state.store import StateStore
        from cluster.storage import ObjectStore

        if "redis" in names and self._settings.redis.url:
            with contextlib.closing(StateStore(settings)) as state:
                state.check()
                state.accounts.check_pepper()
        if "s3" in names and self._settings.s3.endpoint:
            ObjectStore(settings).ensure_bucket()
        url = self._settings.plain("mlflow.url")
        if "mlflow" in names and url and not http_ok(f"{url}/health"):
            raise ServiceUnavailable("model registry", f"an answer of {url}/health", "none", "check M2DAO_MLFLOW_URL")

    def _start_guardian(self, owner_pid: int) -> None:
        import sys

        mark, record = self._home.mark("guardian"), self._home.record_path("guardian")
        processes.stop(mark, record, grace_s=2)
        ticks = processes.start_ticks_of(owner_pid)
        processes.spawn(
            [sys.executable, "-m", "cluster.stack.guardian", str(self._home.path), str(owner_pid), str(ticks)],
            mark=mark,
            record=record,
            log=self._home.log_path("guardian"),
            cwd=Path(__file__).resolve().parents[2],
            env=base_environment(),
        )

    # -- stopping and looking ---------------------------------------------------------------------------------

    def _stop(self, names: Sequence[str]) -> int:
        """Stop these services at the same time; every one is tried, whatever becomes of the others."""
        if not names:
            return 0
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            futures = [
                pool.submit(processes.stop, self._home.mark(name), self._home.record_path(name), grace_s=_GRACE_S[name])
                for name in names
            ]
        return sum(future.result() for future in futures)

    def _own(self, name: str) -> str | None:
        """The address of a service of the site's own; None where the service is ours."""
        return self._settings.plain(_CONFIGURED[name]) if name in _CONFIGURED else None

    def _status(self, name: str, ports: dict[str, dict[str, int]], reached: Settings) -> ServiceStatus:
        external = self._own(name)
        if external is not None:
            shown = external.rpartition("@")[2]
            return ServiceStatus(name=name, state="external", pid=None, address=shown, log="")
        record, log = self._home.record(name), str(self._home.log_path(name))
        if record is None or not record.alive():
            return ServiceStatus(name=name, state="stopped", pid=None, address="", log=log)
        if set(ports[name]) != set(PORT_NAMES[name]):  # started by another release
            return ServiceStatus(name=name, state="running", pid=record.pid, address="", log=log)
        service = make_service(name, self._settings, ports[name], self._home.credentials())
        state = "running" if _ready(service, reached.with_env(service.reached_by)) else "not answering"
        address = f"{LOOPBACK}:{ports[name][PORT_NAMES[name][0]]}"
        return ServiceStatus(name=name, state=state, pid=record.pid, address=address, log=log)


def _ready(service: Service, settings: Settings) -> bool:
    try:
        return service.ready(settings)
    except M2daoError:
        return False


def _fingerprint(service: Service) -> str:
    """Tells whether a running service was started with the same command, environment and files."""
    files = {str(path): text for path, text in service.files.items()}
    return hashlib.sha256(json.dumps([service.command, service.env, files]).encode()).hexdigest()


def _tail(path: Path, num_lines: int = 15) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:])
    return ""
