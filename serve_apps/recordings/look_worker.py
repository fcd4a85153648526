"""Looks into one uploaded recording; runs inside a contained process, called by ``look.py``.

Uploads are hostile, as those of renders are: see ``serve_apps/api/decode_worker.py``.
"""

from __future__ import annotations

from typing import Any

from m2dao.errors import CaptureRejected
from m2dao.media import report


def look(say: object, source: str) -> dict[str, Any]:
    """What is in the file and what will be done with it, as ``m2dao probe`` tells it.

    Raises:
        MediaError: it cannot be decoded.
        CaptureRejected: it has no picture or no sound.
    """
    found = report.look(source)
    for kind in ("video", "audio"):
        if found[kind] is None:
            raise CaptureRejected(source, f"a recording with {kind}", f"a file without ({found['container']})")
    return found
