"""A keeper's work beside an API of the tests."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from cluster.keeper.keeper import Keeper
from cluster.keeper.probe_chore import ProbeChore
from cluster.keeper.recordings_chore import RecordingsChore
from cluster.settings import MB
from serve_apps.identities.node_cache import NodeCache
from serve_apps.identities.source import IdentitySource
from serve_apps.recordings.look import look_into
from serve_apps.rendering.probe import fault_of_version
from tests.support.serve import Api, load_on_cpu


@contextlib.contextmanager
def keeper_beside(api: Api, folder: Path) -> Iterator[None]:
    """A keeper that looks into recordings and probes versions, with ``folder`` to write in."""

    def look(record):
        return look_into(api.platform, record, Path(mkdtemp(dir=folder)))  # which only its owner may read

    source = IdentitySource(
        versions=api.platform.state.versions,
        store=api.platform.store,
        disk=NodeCache(folder / "disk", byte_budget=1000 * MB),
        load_talker=load_on_cpu,
    )
    probe = functools.partial(fault_of_version, source)
    chores = [RecordingsChore(api.platform, look=look), ProbeChore(api.platform, probe=probe, replicas_s=0.0)]
    stop = threading.Event()
    thread = threading.Thread(target=Keeper(api.platform.state.seats, chores).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
