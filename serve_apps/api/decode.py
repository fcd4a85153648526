"""Decoding uploads safely: a subprocess with limits per upload (``decode_worker.py``)."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m2dao
from cluster.settings import MB, ServeConfig
from m2dao.errors import MediaError, ServiceError

log = logging.getLogger(__name__)
_PACKAGES = Path(m2dao.__file__).resolve().parent.parent
_FIELD = {"audio": "audio", "image": "background_image"}


@dataclass(frozen=True)
class DecodedAudio:
    """Normalised speech: a 16 kHz mono PCM16 WAV file."""

    path: Path
    seconds: float
    num_samples: int


class UploadDecoder:
    """Turns uploaded files into plain ones that the rest of the platform can trust.

    At most ``config.decode_processes`` uploads are decoded at once; further callers wait.
    """

    def __init__(self, config: ServeConfig, *, python: str = sys.executable):
        self._config = config
        self._python = python
        self._slots = threading.BoundedSemaphore(config.decode_processes)

    def decode_audio(self, source: Path, work_dir: Path) -> DecodedAudio:
        """Normalise an uploaded sound file into ``work_dir``.

        Raises:
            MediaError: it cannot be decoded, or it is beyond a limit.
        """
        target = work_dir / "speech.wav"
        answer = self._decode("audio", source, target, int(self._config.max_audio_s * 32_000) + MB)
        return DecodedAudio(target, seconds=float(answer["seconds"]), num_samples=int(answer["num_samples"]))

    def decode_image(self, source: Path, work_dir: Path) -> Path:
        """Normalise an uploaded picture into ``work_dir``; the path of an RGB PNG.

        Raises:
            MediaError: it cannot be decoded, or it is beyond a limit.
        """
        target = work_dir / "background.png"
        self._decode("image", source, target, 64 * MB)
        return target

    def _decode(self, kind: str, source: Path, target: Path, file_bytes: int) -> dict[str, Any]:
        config = self._config
        answer_path, log_path = target.with_suffix(".json"), target.with_suffix(".log")
        limits = {
            "cpu_s": math.ceil(config.decode_timeout_s),
            "memory_bytes": config.decode_memory_mb * MB,
            "file_bytes": file_bytes,
            "max_audio_s": config.max_audio_s,
            "max_image_pixels": config.max_image_pixels,
        }
        arguments = [kind, str(source), str(target), str(answer_path), json.dumps(limits)]
        with self._slots, open(log_path, "wb") as messages:
            try:
                done = subprocess.run(
                    # -P: the work folder, where the upload lies, must not be searched for modules.
                    [self._python, "-P", "-m", "serve_apps.api.decode_worker", *arguments],
                    cwd=target.parent,
                    env=_environment(home=target.parent),
                    stdin=subprocess.DEVNULL,
                    stdout=messages,
                    stderr=messages,
                    timeout=config.decode_timeout_s,
                    process_group=0,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise MediaError(
                    _FIELD[kind], f"a file that decodes within {config.decode_timeout_s:g} s", "one that does not"
                ) from None
        if done.returncode < 0:  # stopped by a limit's signal, or crashed
            raise MediaError(_FIELD[kind], "a file that decodes within the limits", f"signal {-done.returncode}")
        try:
            answer: dict[str, Any] = json.loads(answer_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            tail = log_path.read_bytes()[-2000:].decode("utf-8", "replace")
            log.error("the decoder gave no answer", extra={"returncode": done.returncode, "output": tail})
            raise ServiceError("decoding of an upload", "an answer", f"exit code {done.returncode}") from error
        if "refused" in answer:
            raise MediaError(*answer["refused"])
        decoded: dict[str, Any] = answer["ok"]
        return decoded


def _environment(home: Path) -> dict[str, str]:
    """What the decoding process may see: nothing of the platform's environment, so no credentials."""
    # One thread per library, because every thread's stack counts as address space.
    return {
        "PATH": os.defpath,
        "PYTHONPATH": str(_PACKAGES),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
