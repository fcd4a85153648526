"""Prepares a recording; runs inside a contained process, called by ``recordings.py``."""

from __future__ import annotations

from collections.abc import Callable

from m2dao.capture.prepare import prepare


def prepare_recording(say: Callable[..., None], recording: str, capture_dir: str, size: int) -> None:
    """Make the capture folder of a recording.

    Raises:
        MediaError, CaptureRejected: the recording will not do.
    """
    prepare(recording, capture_dir, size=size, on_progress=say)
