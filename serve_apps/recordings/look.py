"""Looks into one uploaded recording, for the keeper.

    python -m serve_apps.recordings.look TENANT RECORDING

Prints one JSON object: ``{"report": ...}``, or ``{"problem": ...}`` when the recording cannot be used. Any other end
means that nothing is known of it.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from cluster.control.recordings import Looked, file_suffix, upload_key
from cluster.ids import RecordingId, TenantId
from cluster.platform import Platform
from cluster.scratch import remove_abandoned, scratch_folder
from cluster.settings import MB, Settings
from cluster.state.resources.recordings import RecordingRecord
from m2dao.contain.box import Box
from m2dao.contain.client import ContainedCalls
from m2dao.errors import (
    ContainedProcessDied,
    ContainedProcessKilled,
    InputError,
    M2daoError,
    MediaError,
    UnknownRecording,
)
from serve_apps.problems import ApiProblem, stored_problem

_WORKER = "serve_apps.recordings.look_worker"
_SCRATCH = "recording-"


def look_into(platform: Platform, record: RecordingRecord, folder: Path) -> Looked:
    """Fetch what was uploaded into ``folder``, compare its hash, and decode it in a contained process.

    Raises:
        M2daoError: nothing is known of it.
    """
    try:
        return Looked(report=_report_of(platform, record, folder))
    except (InputError, ApiProblem) as error:
        return Looked(problem=stored_problem(error))


def _report_of(platform: Platform, record: RecordingRecord, folder: Path) -> dict[str, Any]:
    path = folder / f"recording{file_suffix(record.name)}"
    sha256 = platform.store.get_file(upload_key(record.tenant, record.id), path)
    if sha256 != record.sha256:
        raise ApiProblem("upload-damaged", f"sha256 {record.sha256} was announced, {sha256} came")
    settings = platform.settings
    path.chmod(0o444)  # the process is another user; the folder around it is shut
    box = Box(
        readable=(str(path),),
        writable=(),
        cpu_s=math.ceil(settings.recordings.check_s),
        wall_s=settings.recordings.check_s,
        memory_bytes=settings.serve.decode_memory_mb * MB,
        file_bytes=0,
    )
    calls = ContainedCalls([_WORKER], allow_uncontained=settings.allow_uncontained_decoders)
    try:
        calls.start()
        return dict(calls.run(f"{_WORKER}:look", {"source": str(path)}, box))
    except ContainedProcessKilled:  # within its limits: this machine lacks something, not the file
        raise
    except ContainedProcessDied as error:
        raise MediaError("the recording", f"a file that decodes {error.expected}", error.got) from error
    except InputError as error:  # its owner knows the file by another name
        raise type(error)(*(str(text).replace(str(path), "the recording") for text in error.args)) from None
    finally:
        calls.close()


def main(argv: list[str]) -> int:
    """Print what is in the recording that ``argv`` names; returns the exit code."""
    try:
        remove_abandoned(_SCRATCH)  # of looks that were killed
        platform = Platform(Settings.from_env())
        record = platform.state.recordings.find(TenantId.parse(argv[0]), RecordingId.parse(argv[1]))
        if record is None:
            raise UnknownRecording(f"recording {argv[1]}", "a recording", "none of that id")
        with scratch_folder(_SCRATCH) as folder:
            said = look_into(platform, record, folder)
        print(json.dumps({"report": said.report} if said.problem is None else {"problem": said.problem.as_dict()}))
    except M2daoError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
