"""Probes a version: loads it and renders a frame, as a render would.

    python -m serve_apps.rendering.probe acme.anna@7

prints what is wrong with it, or nothing. The keeper runs it where no replica can, in a process of its own: whatever a
broken version does to that process, the keeper goes on.
"""

from __future__ import annotations

import functools
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.ids import ModelRef, TenantId
from cluster.platform import Platform
from cluster.settings import MB, Settings
from cluster.state.probes import Probes
from m2dao.errors import AssetError, M2daoError, MissingExtra, RenderBackendUnavailable, ServiceUnavailable
from m2dao.timeline import SAMPLE_RATE
from serve_apps.identities.node_cache import NodeCache
from serve_apps.identities.source import IdentitySource, load_talker
from serve_apps.identities.talker_cache import TalkerCache

log = logging.getLogger(__name__)

OURS = (ServiceUnavailable, RenderBackendUnavailable, MissingExtra, AssetError)  # no fault of the version
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_SAME = 8  # of 255: how much a pixel of the person may differ between two backgrounds
_LEAST_SHARE = 0.01  # of the frame, that shows the person
_LEAST_SPREAD = 2.0  # of 255: standard deviation over the person


def fault_of(talker: Any) -> str:
    """What is wrong with the first frame of a talker; empty when it shows a person.

    The frame is rendered before black and before white. Where both are the same, there is the person.
    """
    import numpy as np

    waveform = np.zeros(SAMPLE_RATE // 5, np.float32)
    before_black, before_white = (
        np.asarray(next(iter(talker.frames(waveform, background=color)))).astype(np.float64)  # [H, W, 3]
        for color in (_BLACK, _WHITE)
    )
    person = (np.abs(before_black - before_white) <= _SAME).all(axis=-1)  # [H, W]
    if person.mean() < _LEAST_SHARE:
        return "the probe frame shows nobody"
    if before_black[person].std() < _LEAST_SPREAD:
        return "the probe frame shows one flat colour"
    return ""


def fault_of_version(source: IdentitySource, ref: ModelRef) -> str:
    """What is wrong with a version; empty when it can be loaded and rendered.

    Raises:
        ServiceUnavailable, MissingExtra, AssetError, RenderBackendUnavailable: we lack something, so nothing is known
            of the version.
    """
    try:
        with source.prepare(ref) as prepared:
            return fault_of(prepared.load())
    except OURS:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class ReplicaProber:
    """Probes on a replica that serves the identity; the new version is warm there afterwards.

    Args:
        probes: the questions.
        talkers: what the replica holds.
        name: who answers.
        backend: by what the replica renders.
    """

    def __init__(self, probes: Probes, talkers: TalkerCache, *, name: str, backend: str):
        self._probes, self._talkers, self._name, self._backend = probes, talkers, name, backend
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="probe")

    def heard(self, message: dict[str, Any]) -> None:
        """Take a question on, if this replica serves the identity. Returns at once."""
        ref = ModelRef.parse(message["ref"])
        if any(known.registry_name == ref.registry_name for known in self._talkers.resident()):
            self._thread.submit(self._answer, ref.tenant, str(message["id"]))

    def _answer(self, tenant: TenantId, probe: str) -> None:
        try:
            ref = self._probes.claim(tenant, probe, self._name)
            if ref is not None:
                self._probes.answer(tenant, probe, self._name, self._fault_of(ref), backend=self._backend)
        except OURS as error:  # somebody else takes it on
            log.warning("a version could not be probed", extra={"error": str(error)})
        except Exception:
            log.exception("a version could not be probed")

    def _fault_of(self, ref: ModelRef) -> str:
        try:
            with self._talkers.lease(ref) as talker:
                return fault_of(talker)
        except OURS:  # nothing is known of the version
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def source_of(platform: Platform) -> IdentitySource:
    """Identities of a platform, through this node's copies.

    They are rendered by the CPU, because a keeper holds no GPU.
    """
    settings = platform.settings
    disk = NodeCache(settings.home / "serve-cache", byte_budget=settings.serve.disk_budget_mb * MB)
    load = functools.partial(load_talker, backend="cpu")
    return IdentitySource(versions=platform.state.versions, store=platform.store, disk=disk, load_talker=load)


def main(argv: list[str]) -> int:
    """Print what is wrong with the version that ``argv`` names; returns the exit code."""
    try:
        print(fault_of_version(source_of(Platform(Settings.from_env())), ModelRef.parse(argv[0])))
    except M2daoError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
