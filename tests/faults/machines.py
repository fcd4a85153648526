"""Machines of a small cluster, as network namespaces of this one.

What ``ray_cluster.yaml`` starts runs on them. Each has an address, a temporary folder and processes of its own. A
machine can be lost: nothing that is sent to it comes back, not even a refusal.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import yaml

_SOURCE = Path(__file__).resolve().parents[2]
_ETC = "/etc/m2dao"  # where the commands expect settings and the token


class Network:
    """A switch that machines are plugged into; address 1 of it is ours.

    Args:
        number: of the network; another than that of other tests which run beside us.
    """

    def __init__(self, number: int):
        self._bridge = f"m2dao{number}"
        self._prefix = f"10.77.{number}"
        self.host = f"{self._prefix}.1"

    def __enter__(self) -> Network:
        _ip(f"link add {self._bridge} type bridge")
        _ip(f"address add {self.host}/24 dev {self._bridge}")
        _ip(f"link set {self._bridge} up")
        return self

    def __exit__(self, *reason: object) -> None:
        _ip(f"link delete {self._bridge}")

    @contextlib.contextmanager
    def machine(self, number: int, folder: Path) -> Iterator[Machine]:
        """A machine that runs, at an address of this network. Its processes end with it, and with us."""
        machine = Machine(self._bridge, f"{self._prefix}.{number}", folder)
        try:
            machine.start()
            yield machine
        finally:
            machine.end()


class Machine:
    """One machine; see ``Network.machine``.

    Args:
        bridge: the switch.
        address: its own.
        folder: a new one, for its disk.
    """

    def __init__(self, bridge: str, address: str, folder: Path):
        self._bridge, self.address, self._folder = bridge, address, folder
        self._cable = f"{bridge}.{address.rpartition('.')[2]}"
        self._init: subprocess.Popen[str] | None = None
        for part in ("tmp", "etc", "home"):
            (folder / part).mkdir(parents=True)

    def start(self) -> None:
        """Switch it on; nothing runs on it yet. After ``lose`` it is a new machine at the old address."""
        (self._folder / "tmp").rename(self._folder / f"tmp-{time.monotonic_ns()}")
        (self._folder / "tmp").mkdir()
        # The first process takes up orphans, and ends, with all others, when we do: its input does then.
        inside = f"mkdir -p /tmp/ray && mount --bind {self._folder}/tmp /tmp/ray && echo on && cat; exit"
        flags = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._init = subprocess.Popen(
            ["unshare", *flags, "bash", "-c", inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._init.stdout is not None
        assert self._init.stdout.readline() == "on\n"
        _ip(f"link add {self._cable} type veth peer name eth0 netns {self._pid()}")
        _ip(f"link set {self._cable} master {self._bridge} up")
        network = f"{self.address.rpartition('.')[0]}"
        for words in (f"address add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            self.run(f"ip {words}")
        self.run(f"ip route add default via {network}.1")

    def lose(self) -> None:
        """The cable is out, and then nothing runs any more."""
        _ip(f"link delete {self._cable}")
        self.end()

    def end(self) -> None:
        """Switch it off."""
        if self._init is not None:
            self._init.kill()
            self._init.communicate()
            self._init = None
            # The kernel keeps the network, and the cable in it, for as long as connections linger.
            subprocess.run(["ip", "link", "delete", self._cable], capture_output=True)

    def _here(self, text: str) -> str:
        return text.replace(_ETC, str(self._folder / "etc"))

    def processes(self) -> list[psutil.Process]:
        """All that runs on it, as we see it."""
        return psutil.Process(self._pid()).children(recursive=True)

    def _pid(self) -> int:
        """Its first process, as we see it."""
        assert self._init is not None
        return psutil.Process(self._init.pid).children()[0].pid

    def configure(self, settings: Mapping[str, str], token: str) -> None:
        """Write what ``ray_cluster.yaml`` expects at /etc/m2dao and in the home of its user."""
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self._folder / "etc" / "m2dao.env").write_text(self._here("".join(lines)))
        (self._folder / "etc" / "ray-token").touch(mode=0o600)
        (self._folder / "etc" / "ray-token").write_text(token)
        ours = self._folder / "home" / "m2dao"
        ours.mkdir()
        (ours / "src").symlink_to(_SOURCE)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        (ours / "environment").write_text(f"PATH={path}\nPYTHONPATH={_SOURCE}\n")

    def start_ray(self, role: str, *, head: str) -> None:
        """Run the command by which the launcher starts Ray on a machine of a role: ``head`` or ``worker``."""
        config = yaml.safe_load((_SOURCE / "ray_cluster.yaml").read_text())
        command = config[f"{role}_start_ray_commands"][1]
        # There is no cloud to start machines in.
        command = command.replace("--autoscaling-config=~/ray_bootstrap_config.yaml", "")
        self.run(command, RAY_HEAD_IP=head)

    def run(self, command: str, **env: str) -> str:
        """Run a command line on the machine; returns what it wrote.

        Raises:
            AssertionError: it failed; says what it wrote.
        """
        words = [
            "nsenter",
            "--target",
            str(self._pid()),
            "--net",
            "--mount",
            "--pid",
            "bash",
            "-c",
            self._here(command),
        ]
        home = {"HOME": str(self._folder / "home"), "PATH": os.environ["PATH"]}
        log = self._folder / "log"
        with open(log, "ab") as output:  # a pipe would be held open by what stays
            start = output.tell()
            ran = subprocess.run(
                words, env={**home, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=300
            )
        said = log.read_bytes()[start:].decode(errors="replace")
        assert ran.returncode == 0, f"{shlex.join(words)}\n{said}"
        return said


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True)
