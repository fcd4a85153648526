"""Looks into recordings that were uploaded, and deletes those whose time is over."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cached_property

from cluster.control.recordings import Looked, Recordings
from cluster.platform import Platform
from cluster.settings import MB
from cluster.state.lease import Lease
from cluster.state.problems import Problem
from cluster.state.resources.recordings import RecordingRecord
from m2dao.errors import Conflict, LeaseLost, M2daoError, NotFound, ServiceUnavailable

logger = logging.getLogger(__name__)

LOOK_S = 0.3  # how late an upload that is complete is looked at
_PROGRAM = "serve_apps.recordings.look"  # named, not imported: the keeper decodes nothing
_START_S = 60.0  # for imports and for the object store
_SLOWEST_BYTES_S = 1 * MB  # at which a recording is fetched

Look = Callable[[RecordingRecord], Looked]


class RecordingsChore:
    """Does what is due about recordings; tenants take turns.

    Args:
        platform: the services.
        look: reads what was uploaded; in a process of its own when not given.
    """

    name = "recordings"

    def __init__(self, platform: Platform, *, look: Look | None = None):
        self._platform = platform
        self._look = look or _InProcess(platform)

    @cached_property
    def _recordings(self) -> Recordings:
        return Recordings(self._platform.state, self._platform.store, self._platform.settings.recordings)

    def do(self, lease: Lease) -> float:
        table = self._platform.state.recordings
        seen = set()
        for tenant, recording_id in table.due():
            if tenant in seen:  # one of each, then we look anew: a tenant with a hundred holds up nobody for long
                continue
            seen.add(tenant)
            lease.check()
            record = table.find(tenant, recording_id)
            if record is None:
                table.pass_over(tenant, recording_id)
            else:
                self._do(record)
        return 0.0 if seen else LOOK_S

    def _do(self, record: RecordingRecord) -> None:
        try:
            self._recordings.look_after(record, self._look)
        except LeaseLost:
            raise
        except (Conflict, NotFound) as error:  # somebody else has moved it on
            logger.info("a recording has moved", extra={"recording": str(record.id), "error": str(error)})
            self._platform.state.recordings.put_off(record)
        except M2daoError as error:
            logger.warning("a recording waits", extra={"recording": str(record.id), "error": str(error)})
            self._platform.state.recordings.put_off(record)


class _InProcess:
    """Looks in a process of its own, which may take long and may die."""

    def __init__(self, platform: Platform):
        self._settings = platform.settings
        self._env = {**os.environ, **platform.settings.to_env()}

    def __call__(self, record: RecordingRecord) -> Looked:
        """Raises ServiceUnavailable where nothing became known of the recording."""
        command = [sys.executable, "-m", _PROGRAM, str(record.tenant), str(record.id)]
        limit_s = _START_S + self._settings.recordings.check_s + record.num_bytes / _SLOWEST_BYTES_S
        subject, expected = f"recording {record.id}", "to be looked into"
        try:
            ran = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            raise ServiceUnavailable(subject, expected, f"nothing within {limit_s:.0f} s") from error
        if ran.returncode:
            raise ServiceUnavailable(subject, expected, f"an end with {ran.returncode}: {ran.stderr[-300:]}")
        said = json.loads(ran.stdout)
        if "problem" in said:
            return Looked(problem=Problem.from_dict(said["problem"]))
        return Looked(report=said["report"])
