"""Prepares a tenant's recording in a contained process.

The fit worker holds credentials, so it decodes nothing itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from m2dao.contain.box import Box
from m2dao.contain.client import ContainedCalls
from m2dao.errors import CaptureCorrupt

_WORKER = "train_jobs.prepare_worker"
# Generous: they stop what has gone wild, and the longest recording of twenty minutes comes nowhere near.
_HOURS = 6
_MEMORY_BYTES = 64 << 30  # of address space, most of which is never used
_FILE_BYTES = 16 << 30


def prepare_contained(
    recording: Path,
    capture_dir: Path,
    *,
    size: int,
    num_threads: int,
    allow_uncontained: bool,
    on_progress: Callable[[str, float], None],
) -> None:
    """Make the capture ``capture_dir`` of a recording; nothing else may be in its parent folder.

    Raises:
        MediaError, CaptureRejected: the recording will not do.
        ContainedProcessDied: it took the process down.
        ContainmentUnavailable: this machine cannot contain a process.
    """
    from m2dao.assets import AssetStore
    from m2dao.capture.needs import MODELS, compile_kernels  # and not prepare itself: that costs a second, for nothing
    from m2dao.kernels.compiled import machine_code_folder

    compile_kernels()
    folder = capture_dir.parent
    folder.mkdir(exist_ok=True)
    recording.chmod(0o444)  # the process is another user; the folder around the recording is shut
    models = AssetStore.from_env()
    for name in MODELS:
        models.path(name)  # fetched here, because there is no network inside
    shown = [recording, models.folder]
    env = {
        "M2DAO_ASSETS_DIR": str(models.folder),
        "NUMBA_NUM_THREADS": str(num_threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TMPDIR": str(folder),
    }
    if machine_code := machine_code_folder():
        shown.append(machine_code)
        env["NUMBA_CACHE_DIR"] = str(machine_code)
    box = Box(
        readable=tuple(map(str, shown)),
        writable=(str(folder),),
        cpu_s=_HOURS * 3600 * num_threads,
        wall_s=_HOURS * 3600.0,
        memory_bytes=_MEMORY_BYTES,
        file_bytes=_FILE_BYTES,
        num_files=1024,
        num_threads=1024,
    )
    calls = ContainedCalls([_WORKER], allow_uncontained=allow_uncontained, env=env)
    try:
        calls.start()
        arguments = {"recording": str(recording), "capture_dir": str(capture_dir), "size": size}
        calls.run(f"{_WORKER}:prepare_recording", arguments, box, on_progress=on_progress)
    finally:
        calls.close()
    _check_plain(capture_dir)


def _check_plain(folder: Path) -> None:
    """Let nothing through that leads out of the folder: the process may have been taken over."""
    for path in (folder, *folder.rglob("*")):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise CaptureCorrupt(path.name, "a plain file or folder", "a link or a device", "prepare it again")
