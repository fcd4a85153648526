"""Probes the versions that no replica probes, because none serves their identity."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from cluster.ids import ModelRef
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.lease import Lease

logger = logging.getLogger(__name__)

LOOK_S = 0.3
BACKEND = "cpu"  # a keeper holds no GPU
REPLICAS_S = 1.0  # how long replicas have to take on a probe
_PROBE_S = 25.0
_PROGRAM = "serve_apps.rendering.probe"  # named, not imported: the keeper knows no engine

Probe = Callable[[ModelRef], str]
"""Tells what is wrong with a version; empty for nothing."""


class ProbeChore:
    """Answers probes.

    Args:
        platform: the services.
        probe: what a probe is; in a process of its own when not given.
        replicas_s: how long replicas have to take on a probe.
    """

    name = "probes"

    def __init__(self, platform: Platform, *, probe: Probe | None = None, replicas_s: float = REPLICAS_S):
        self._probes = platform.state.probes
        self._replicas_s = replicas_s
        self._probe = probe or _InProcess(platform.settings)
        self._who = f"keeper {socket.gethostname()}:{os.getpid()}"

    def do(self, lease: Lease) -> float:
        for tenant, probe in self._probes.waiting(for_s=self._replicas_s):
            lease.check()
            ref = self._probes.claim(tenant, probe, self._who)
            if ref is not None:
                self._probes.answer(tenant, probe, self._who, self._fault_of(ref), backend=BACKEND)
        return LOOK_S

    def _fault_of(self, ref: ModelRef) -> str:
        """Also when it is our fault: who wants to promote waits for a word, and may try again."""
        try:
            return self._probe(ref)
        except Exception as error:
            logger.exception("a probe failed", extra={"ref": str(ref)})
            return f"it could not be probed: {error}"


class _InProcess:
    """A probe in a process of its own, which may take some seconds and may die."""

    def __init__(self, settings: Settings):
        self._env = {**os.environ, **settings.to_env()}

    def __call__(self, ref: ModelRef) -> str:
        command = [sys.executable, "-m", _PROGRAM, str(ref)]
        try:
            ran = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            return f"the probe took longer than {_PROBE_S:g} s"
        if ran.returncode:
            return f"the probe failed ({ran.returncode}): {ran.stderr[-300:]}"
        return ran.stdout.strip()
