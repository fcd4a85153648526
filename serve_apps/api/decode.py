"""Decoding uploads safely: in contained processes (``m2dao/contain``), a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.settings import MB, ServeConfig
from m2dao.contain.box import Box
from m2dao.contain.client import ContainedCalls
from m2dao.errors import ContainedProcessDied, ContainedProcessKilled, InputError, MediaError, ServiceUnavailable
from serve_apps.problems import ApiProblem

log = logging.getLogger(__name__)
_WORKER = "serve_apps.api.decode_worker"
_FIELD = {"audio": "audio", "image": "background_image"}
_BUSY_AGAIN_S = 2
_MAX_BYTES_PER_S = 192_000  # of 16-bit stereo at 48 kHz, which no FLAC exceeds by much

PICTURE_BYTES = 16 * MB  # a background as we keep it: at most 2048 x 2048 pixels


def speech_bytes(seconds: float) -> int:
    """The size of decoded speech and of the sound as it was sent, with room to spare."""
    return int(seconds * (32_000 + _MAX_BYTES_PER_S)) + 2 * MB


@dataclass(frozen=True)
class DecodedAudio:
    """Speech as 16 kHz mono PCM16 WAV, and as it was sent, in FLAC; None where that is the same."""

    path: Path
    sent: Path | None
    seconds: float
    num_samples: int


class UploadDecoder:
    """Turns uploaded files into plain ones that the rest of the platform can trust.

    At most ``config.decode_processes`` uploads are decoded at once. Further callers wait on the event loop, for
    ``config.decode_wait_s`` at most.

    Args:
        config: limits.
        allow_uncontained: whether to decode where this site cannot contain a process.
    """

    def __init__(self, config: ServeConfig, *, allow_uncontained: bool = False):
        self._config = config
        self._calls = ContainedCalls(
            [_WORKER],
            allow_uncontained=allow_uncontained,
            warm_up=f"{_WORKER}:warm_up",
            num_spare=config.decode_processes,
        )
        self._slots = asyncio.Semaphore(config.decode_processes)

    def start(self) -> list[str]:
        """Make the first decoding as quick as the next; returns what this site lacks of the containment.

        Raises:
            ContainmentUnavailable: it lacks something, and the settings do not allow that.
        """
        lacks = self._calls.start()
        if lacks:
            log.warning("decoders are not contained", extra={"lacks": lacks})
        return lacks

    def close(self) -> None:
        """End the processes that wait."""
        self._calls.close()

    async def decode_audio(self, source: Path, work_dir: Path) -> DecodedAudio:
        """Normalise an uploaded sound file into ``work_dir``.

        Raises:
            MediaError: it cannot be decoded, or it is beyond a limit.
            ApiProblem: 503, all decoders are busy.
            ContainmentUnavailable: no contained process can be made.
        """
        target, sent, seconds = work_dir / "speech.wav", work_dir / "sound.flac", self._config.max_audio_s
        limits = {"max_audio_s": seconds}
        file_bytes = int(seconds * _MAX_BYTES_PER_S) + MB
        answer = await self._decode("audio", source, {"target": target, "sent": sent}, file_bytes, limits)
        if not answer["is_other"]:
            sent.unlink()
        return DecodedAudio(
            target,
            sent if answer["is_other"] else None,
            seconds=float(answer["seconds"]),
            num_samples=int(answer["num_samples"]),
        )

    async def decode_image(self, source: Path, work_dir: Path) -> Path:
        """Normalise an uploaded picture into ``work_dir``; the path of an RGB PNG.

        Raises:
            MediaError, ApiProblem, ContainmentUnavailable: as for sound.
        """
        target = work_dir / "background.png"
        limits = {"max_image_pixels": self._config.max_image_pixels}
        await self._decode("image", source, {"target": target}, PICTURE_BYTES, limits)
        return target

    async def _decode(
        self, kind: str, source: Path, targets: dict[str, Path], file_bytes: int, limits: Mapping[str, float]
    ) -> dict[str, Any]:
        config = self._config
        # The process is another user: it may read this one file, and fill those. Their folder is shut.
        source.chmod(0o444)
        for target in targets.values():
            target.touch(mode=0o600)
        box = Box(
            readable=(str(source),),
            writable=tuple(map(str, targets.values())),
            cpu_s=math.ceil(config.decode_timeout_s),
            wall_s=config.decode_timeout_s,
            memory_bytes=config.decode_memory_mb * MB,
            file_bytes=file_bytes,
        )
        arguments = {"source": str(source), **{name: str(path) for name, path in targets.items()}, **limits}
        done: dict[str, Any] | None = None
        try:
            async with self._slot():
                done = dict(await self._call(f"{_WORKER}:decode_{kind}", arguments, box))
            return done
        except ContainedProcessKilled as error:  # within its limits: this machine lacks something, not the file
            raise ServiceUnavailable("decoder", "to live", error.got, "try again later") from error
        except ContainedProcessDied as error:
            raise MediaError(_FIELD[kind], f"a file that decodes {error.expected}", error.got) from error
        except InputError as error:
            # The client knows its file by another name than our temporary path.
            raise MediaError(*(str(text).replace(str(source), "the upload") for text in error.args)) from None
        finally:
            if done is None:
                for target in targets.values():
                    target.unlink()

    async def _call(self, function: str, arguments: Mapping[str, Any], box: Box) -> Any:
        """Call it, and again in a fresh process where something outside killed the first.

        That is not the file's fault.
        """
        try:
            return await self._calls.run_async(function, arguments, box)
        except ContainedProcessKilled as error:
            log.warning("a decoder was killed; the upload is decoded again", extra={"error": str(error)})
            return await self._calls.run_async(function, arguments, box)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._config.decode_wait_s):
                await self._slots.acquire()
        except TimeoutError:
            again = {"Retry-After": str(_BUSY_AGAIN_S)}
            raise ApiProblem("service-unavailable", "all decoders are busy; try again", again) from None
        try:
            yield
        finally:
            self._slots.release()
