"""Does one render from claim to stored video, in a thread of a replica or of a test.

A worker's word on a job is fenced (``cluster/state/jobs.py``), so everything here may happen twice. A worker that was
only slow writes its video under a name of its own attempt, and learns at its next heartbeat that it is not wanted.
"""

from __future__ import annotations

import contextlib
import logging
import time
import wave
from collections.abc import Generator
from pathlib import Path
from typing import Any

from cluster.ids import ModelRef, RenderId, TenantId
from cluster.scratch import scratch_folder
from cluster.settings import ServeConfig
from cluster.state.jobs import Jobs
from cluster.state.lease import Lease
from cluster.state.records import Claim
from cluster.storage import ObjectStore
from m2dao.errors import InputError, LeaseLost, M2daoError, NotFound, ObjectCorrupt, ServiceError, ServiceUnavailable
from m2dao.files import file_sha256
from m2dao.media.mux import VideoWriter
from m2dao.timeline import SAMPLE_RATE, num_frames_for_samples
from serve_apps.identities.talker_cache import TalkerCache
from serve_apps.problems import stored_problem
from serve_apps.rendering.load import Load
from serve_apps.tickets import RenderTicket, render_prefix

log = logging.getLogger(__name__)
SCRATCH = "render-"  # what the names of its temporary folders begin with
_PERMANENT = (InputError, NotFound, ObjectCorrupt)  # trying again would end the same way


class RenderWorker:
    """Does renders.

    Args:
        jobs: where the job's state is kept.
        store: where uploads are and results go.
        talkers: where identities come from.
        config: lease and limits.
        load: told what there is to do, for the autoscaler.
        name: who does them, for people who read messages.
    """

    def __init__(
        self, *, jobs: Jobs, store: ObjectStore, talkers: TalkerCache, config: ServeConfig, load: Load, name: str
    ):
        self._jobs = jobs
        self._store = store
        self._talkers = talkers
        self._config = config
        self._load = load
        self._name = name

    def run(self, ticket: RenderTicket, ref: str) -> str:
        """Do one claimed render and record how it ended.

        Args:
            ticket: which one.
            ref: the model id the request was routed by; must be the ref that the render is pinned to.

        Returns:
            "done", "failed", "retry" (queued again) or "lost" (cancelled, or taken over by another worker).
        """
        tenant, render_id = TenantId.parse(ticket.tenant), RenderId.parse(ticket.job_id)
        try:
            job = self._jobs.get(tenant, render_id)
        except NotFound:
            return "lost"
        claim = Claim(job=job, fence=ticket.fence, worker=self._name)
        note = {"tenant": ticket.tenant, "job": ticket.job_id, "ref": job.request["ref"], "attempt": job.attempt}
        video_key = f"{render_prefix(tenant, render_id)}video-{ticket.fence}.mp4"
        try:
            if ref != job.request["ref"]:
                raise ServiceError(f"render {render_id}", f"to be routed as {job.request['ref']}", repr(ref))
            lease_s = self._config.lease_s  # a store silent for longer may have given the job to somebody else
            with Lease(self._jobs, claim, lease_s=lease_s, patience_s=lease_s) as lease:
                result = self._render(claim, lease, video_key)
                lease.tell("storing")
        except LeaseLost:
            log.info("render given up: cancelled or taken over", extra=note)
            self._forget(video_key)
            return "lost"
        except Exception as error:  # whatever it is, the job must not stay open
            log.exception("render failed", extra=note)
            self._forget(video_key)
            return self._fail(claim, error)
        else:
            return self._finish(claim, result, note)
        finally:
            self._load.left(ticket.job_id, 0.0)

    def _finish(self, claim: Claim, result: dict[str, Any], note: dict[str, Any]) -> str:
        """Announce the stored video; once this is sent, only a refusal makes it safe to delete the video."""
        try:
            self._jobs.finish(claim, result)
        except LeaseLost:
            log.info("render finished too late: cancelled or taken over", extra=note)
            self._forget(result["key"])
            return "lost"
        except ServiceUnavailable:
            log.exception("whether the render counts as done is not known", extra=note)
            return "retry"  # it does, or its lease runs out
        log.info("render done", extra={**note, **result["figures"]})
        return "done"

    def _fail(self, claim: Claim, error: Exception) -> str:
        try:
            job = self._jobs.fail(claim, stored_problem(error), retry=not isinstance(error, _PERMANENT))
        except LeaseLost:
            return "lost"
        except ServiceUnavailable:
            return "retry"  # the lease will run out, and somebody takes over
        return "failed" if job.finished else "retry"

    def _forget(self, key: str) -> None:
        """Remove this attempt's file; a left-over costs storage, not correctness."""
        with contextlib.suppress(M2daoError):
            self._store.delete(key)

    def _render(self, claim: Claim, lease: Lease, video_key: str) -> dict[str, Any]:
        request = claim.job.request
        started = time.monotonic()
        self._load.left(str(claim.job.id), request["audio_seconds"])
        lease.tell("loading")
        with scratch_folder(SCRATCH) as work:
            self._store.get_file(request["audio_key"], work / "speech.wav")
            waveform = _read_pcm16(work / "speech.wav")
            with self._talkers.lease(ModelRef.parse(request["ref"])) as talker:
                loaded = time.monotonic()
                background = self._background(request["background"], work)
                num_frames = self._write_video(claim, lease, talker, waveform, background, work / "video.mp4")
                size = talker.size
                frame_rate = float(talker.frame_rate)
            lease.tell("storing", 0.99)
            video = work / "video.mp4"
            digest, num_bytes = file_sha256(video), video.stat().st_size
            self._store.put_file(video_key, video, content_type="video/mp4")
        seconds = num_frames / frame_rate
        render_seconds = time.monotonic() - started
        self._load.measured((render_seconds - (loaded - started)) / seconds)
        figures = {
            "num_frames": num_frames,
            "seconds": round(seconds, 3),
            "render_seconds": round(render_seconds, 3),
            "real_time_factor": round(render_seconds / seconds, 4),
            "load_seconds": round(loaded - started, 3),
            "width": size,
            "height": size,
        }
        return {"key": video_key, "num_bytes": num_bytes, "sha256": digest, "figures": figures}

    def _write_video(self, claim: Claim, lease: Lease, talker: Any, waveform: Any, background: Any, path: Path) -> int:
        num_expected = num_frames_for_samples(len(waveform))
        num_frames = 0
        frames: Generator[Any, None, None] = talker.frames(waveform, background=background)
        with (
            contextlib.closing(frames),
            VideoWriter(path, width=talker.size, height=talker.size, waveform=waveform) as writer,
        ):
            for frame in frames:
                writer.write(frame)
                num_frames += 1
                share = min(1.0, num_frames / num_expected)
                self._load.left(str(claim.job.id), (1.0 - share) * claim.job.request["audio_seconds"])
                lease.tell("rendering", 0.98 * share)
        return num_frames

    def _background(self, background: dict[str, Any], work: Path) -> Any:
        """What the talker puts behind the person: "plate", an (r, g, b) or a picture, uint8 [H, W, 3]."""
        if background["kind"] == "color":
            return tuple(bytes.fromhex(background["value"].removeprefix("#")))
        if background["kind"] == "image":
            self._store.get_file(background["key"], work / "background.png")
            return _read_picture(work / "background.png")
        return "plate"


def _read_picture(path: Path) -> Any:
    """The normalised background picture, uint8 [H, W, 3]."""
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB"))


def _read_pcm16(path: Path) -> Any:
    """The normalised speech as float32 [S] in -1..1."""
    import numpy as np

    with wave.open(str(path), "rb") as speech:
        if (speech.getnchannels(), speech.getsampwidth(), speech.getframerate()) != (1, 2, SAMPLE_RATE):
            raise ObjectCorrupt(str(path.name), "16 kHz mono PCM16", "something else")
        return np.frombuffer(speech.readframes(speech.getnframes()), "<i2").astype(np.float32) / 32767.0
