"""Does one render from claim to stored video, in a thread of a replica or of a test.

A worker's word on a job is fenced (``cluster/state/jobs.py``), so everything here may happen twice. A worker that was
only slow writes its video under a name of its own attempt, and learns at its next heartbeat that it is not wanted.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import wave
from collections.abc import Callable, Collection, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from cluster.faults import Backoff, times_to_put_off
from cluster.ids import ModelRef, RenderId, TenantId
from cluster.scratch import scratch_folder
from cluster.settings import ServeConfig
from cluster.state.jobs import Jobs
from cluster.state.lease import Lease
from cluster.state.records import Claim, JobRecord
from cluster.storage import ObjectStore
from cluster.telemetry.traces import spans
from m2dao.errors import InputError, LeaseLost, M2daoError, NotFound, ObjectCorrupt, ServiceError, ServiceUnavailable
from m2dao.files import file_sha256
from m2dao.media.mux import VideoWriter
from m2dao.media.sound.storing import read_stored
from m2dao.stages import clocked_here
from m2dao.timeline import SAMPLE_RATE, num_frames_for_samples
from serve_apps.identities.talker_cache import TalkerCache
from serve_apps.parallel import do_all
from serve_apps.problems import stored_problem
from serve_apps.rendering.health import Health
from serve_apps.rendering.load import Load
from serve_apps.tickets import PUT_OFF, SERVED, SOUND, SPEECH, RenderTicket, render_prefix

log = logging.getLogger(__name__)
SCRATCH = "render-"  # what the names of its temporary folders begin with
_PERMANENT = (InputError, NotFound, ObjectCorrupt)  # trying again would end the same way
_FILES = 3  # that a render may need: speech, the sound as it was sent, a background
MAX_DODGES = 5  # times a render is left to other replicas: there may be no other


class OnDone(Protocol):
    """Called with a finished render: its job when the work began, seconds of video, time by stage."""

    def __call__(self, job: JobRecord, *, seconds: float, stages: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Watchers:
    """Who is told of renders.

    Args:
        load: what there is to do, for the autoscaler.
        health: how renders end, for whoever replaces a broken replica.
        on_done: what finished, for people who watch.
    """

    load: Load
    health: Health
    on_done: OnDone = lambda job, *, seconds, stages: None


class RenderWorker:
    """Does renders.

    Args:
        jobs: where the job's state is kept.
        store: where uploads are and results go.
        talkers: where identities come from.
        config: lease and limits.
        watchers: who is told of them.
        name: who does them, for people who read messages.
        backoff: the waits while the state store does not take an answer.
        serves: the formats that it knows.
    """

    def __init__(
        self,
        *,
        jobs: Jobs,
        store: ObjectStore,
        talkers: TalkerCache,
        config: ServeConfig,
        watchers: Watchers,
        name: str,
        backoff: Backoff,
        serves: Collection[str] = SERVED,
    ):
        self._jobs = jobs
        self._store = store
        self._talkers = talkers
        self._config = config
        self._load, self._health, self._on_done = watchers.load, watchers.health, watchers.on_done
        self._name = name
        self._backoff = backoff
        self._serves = serves
        self._threads = ThreadPoolExecutor(_FILES * config.render_concurrency, thread_name_prefix="fetch")
        self._stopping = threading.Event()
        self._claims: dict[str, Claim] = {}  # of renders under way, by their job ids

    def run(self, ticket: RenderTicket, ref: str, on_begun: Callable[[], None] = lambda: None) -> str:
        """Do one claimed render and record how it ended.

        Args:
            ticket: which one.
            ref: the model id the request was routed by; must be the ref that the render is pinned to.
            on_begun: called once this worker has the claim and keeps it alive.

        Returns:
            "done", "failed", "retry" (queued again), "lost" (cancelled, or taken over by another worker), or
            "put off CODE" (an outage or a fault of ours; the code of the error).

        Raises:
            StateUnavailable: the render was never begun.
        """
        tenant, render_id = TenantId.parse(ticket.tenant), RenderId.parse(ticket.job_id)
        try:
            claim = self._jobs.begin(tenant, render_id, ticket.fence, worker=self._name, lease_s=self._config.lease_s)
        except LeaseLost:
            return "lost"
        on_begun()
        self._claims[ticket.job_id] = claim
        try:
            with (
                claim.job.worked_on(),
                spans.span("attempt", kind="CONSUMER", attempt=claim.job.attempt, worker=self._name) as attempt,
                Lease(self._jobs, claim, lease_s=self._config.lease_s, is_fresh=True) as lease,
            ):
                outcome = self._do(claim, lease, ref, attempt)
                attempt.set(outcome=outcome)
                return outcome
        finally:
            del self._claims[ticket.job_id]
            self._load.over(ticket.job_id)

    def give_up(self) -> None:
        """Give back, uncounted, what is under way: this process is about to be ended."""
        self._stopping.set()
        for claim in list(self._claims.values()):
            with contextlib.suppress(LeaseLost, ServiceUnavailable):
                self._jobs.release(claim)

    def _do(self, claim: Claim, lease: Lease, ref: str, attempt: spans.Span) -> str:
        job = claim.job
        note = {"ref": job.request["ref"], "attempt": job.attempt}
        if unknown := [need for need in job.needs if need not in self._serves]:
            log.info("render left to another release", extra={**note, "needs": unknown})
            return self._tell(claim, "retry", lambda: self._jobs.dodge(claim))
        if self._name in job.failed_on and job.num_dodged < MAX_DODGES:
            log.info("render left to another replica: it failed here before", extra=note)
            return self._tell(claim, "retry", lambda: self._jobs.dodge(claim))
        video_key = f"{render_prefix(job.tenant, RenderId.parse(str(job.id)))}video-{claim.fence}.mp4"
        try:
            if ref != job.request["ref"]:
                raise ServiceError(f"render {job.id}", f"to be routed as {job.request['ref']}", repr(ref))
            result, stages = self._render(claim, lease, video_key)
            lease.tell("storing")
        except LeaseLost as error:
            log.info("render given up: cancelled or taken over", extra=note)
            attempt.fail(error)
            self._forget(video_key)
            return "lost"
        except Exception as error:  # whatever it is, the job must not stay open
            log.exception("render failed", extra=note)
            attempt.fail(error)
            self._forget(video_key)
            return self._fail(claim, error)
        # Once this is sent, only a refusal makes it safe to delete the video.
        with spans.span("commit"):
            outcome = self._tell(claim, "done", lambda: self._jobs.finish(claim, result))
        if outcome == "lost":
            log.info("render finished too late: cancelled or taken over", extra=note)
            self._forget(video_key)
        else:
            self._health.succeeded()
            self._on_done(job, seconds=result["figures"]["seconds"], stages=stages)
            log.info("render finished", extra={**note, "outcome": outcome, **result["figures"]})
        return outcome

    def _fail(self, claim: Claim, error: Exception) -> str:
        self._health.failed(error)
        problem, most = stored_problem(error), times_to_put_off(error)
        failed_on = "" if isinstance(error, ServiceUnavailable) else self._name  # an outage is no fault of this one
        if most:
            code = error.code if isinstance(error, M2daoError) else problem.code

            def put_off() -> JobRecord:
                return self._jobs.put_off(claim, problem, most=most, failed_on=failed_on)

            return self._tell(claim, f"{PUT_OFF} {code}", put_off)
        retry = not isinstance(error, _PERMANENT)
        return self._tell(
            claim, "retry", lambda: self._jobs.fail(claim, problem, retry=retry, failed_on=failed_on if retry else "")
        )

    def _tell(self, claim: Claim, outcome: str, say: Callable[[], JobRecord]) -> str:
        """Record how the render ended, however long the store is away; every word can be said twice."""
        for num_before in itertools.count():
            try:
                job = say()
            except LeaseLost:
                return "lost"
            except ServiceUnavailable as error:
                log.warning("an outcome waits for the store", extra={"error": str(error)})
                if self._stopping.wait(self._backoff.wait_s(num_before)):
                    return "retry"  # the lease will run out, and somebody takes over
            else:
                return job.status if job.finished else outcome
        raise AssertionError("unreachable")

    def _forget(self, key: str) -> None:
        """Remove this attempt's file; a left-over costs storage, not correctness."""
        with contextlib.suppress(M2daoError):
            self._store.delete(key)

    def _render(self, claim: Claim, lease: Lease, video_key: str) -> tuple[dict[str, Any], dict[str, float]]:
        """Render and store; returns the result of the job, and the seconds that each stage took."""
        request = claim.job.request
        started = time.monotonic()
        self._load.left(str(claim.job.id), request["audio_seconds"])
        lease.tell("loading")
        with scratch_folder(SCRATCH) as work:
            with spans.span("fetch"):
                sound = self._fetch(claim, work)
                waveform = _read_pcm16(work / SPEECH)
            with contextlib.ExitStack() as leased:
                with spans.span("identity", ref=request["ref"]):
                    talker = leased.enter_context(self._talkers.lease(ModelRef.parse(request["ref"])))
                loaded = time.monotonic()
                background = self._background(request["background"], work)
                num_frames = self._write_video(claim, lease, talker, waveform, background, sound)
                size = talker.size
                frame_rate = float(talker.frame_rate)
            lease.tell("storing", 0.99)
            rendered = time.monotonic()
            video = work / "video.mp4"
            with spans.span("store"):
                digest, num_bytes = file_sha256(video), video.stat().st_size
                self._store.put_file(video_key, video, content_type="video/mp4")
        seconds = num_frames / frame_rate
        stored = time.monotonic()
        render_seconds = stored - started
        figures = {
            "num_frames": num_frames,
            "seconds": round(seconds, 3),
            "render_seconds": round(render_seconds, 3),
            "real_time_factor": round(render_seconds / seconds, 4),
            "load_seconds": round(loaded - started, 3),
            "width": size,
            "height": size,
        }
        stages = {"loading": loaded - started, "rendering": rendered - loaded, "storing": stored - rendered}
        return {"key": video_key, "num_bytes": num_bytes, "sha256": digest, "figures": figures}, stages

    def _fetch(self, claim: Claim, work: Path) -> Path:
        """Fetch what a render needs, all at the same time; returns the sound that its video carries."""
        request, wanted = claim.job.request, {}
        if "kept_files" in request:
            for name, content in self._jobs.files(claim).items():
                if name in (SPEECH, SOUND):
                    work.joinpath(name).write_bytes(content)
        else:
            wanted = {SPEECH: request["audio_key"]}
            # Sound that came as the speech is stored is not stored twice. Nor was any by an older release.
            if request.get("sound_key", request["audio_key"]) != request["audio_key"]:
                wanted[SOUND] = request["sound_key"]
        if request["background"]["kind"] == "image":
            wanted["background.png"] = request["background"]["key"]
        do_all(self._threads, [partial(self._store.get_file, key, work / name) for name, key in wanted.items()])
        return work / (SOUND if (work / SOUND).exists() else SPEECH)

    def _write_video(self, claim: Claim, lease: Lease, talker: Any, waveform: Any, background: Any, sound: Path) -> int:
        num_expected = num_frames_for_samples(len(waveform))
        num_frames = 0
        frames: Generator[Any, None, None] = talker.frames(waveform, background=background)
        format_sent, sent = read_stored(sound)
        phases = spans.Phases()
        with (
            clocked_here(("audio",)) as clock,
            contextlib.closing(frames),
            VideoWriter(
                sound.with_name("video.mp4"),
                width=talker.size,
                height=talker.size,
                waveform=sent,
                sound=format_sent,
            ) as writer,
        ):
            for frame in phases.each("render", frames):
                with phases.phase("encode"):
                    writer.write(frame)
                num_frames += 1
                share = min(1.0, num_frames / num_expected)
                self._load.left(str(claim.job.id), (1.0 - share) * claim.job.request["audio_seconds"])
                lease.tell("rendering", 0.98 * share)
            ending = time.perf_counter()
        phases.add("encode", ending)  # what was still on its way
        phases.part("speech", of="render", busy_s=clock.seconds["audio"])
        phases.record()
        return num_frames

    def _background(self, background: dict[str, Any], work: Path) -> Any:
        """What the talker puts behind the person: "plate", an (r, g, b) or a picture, uint8 [H, W, 3]."""
        if background["kind"] == "color":
            return tuple(bytes.fromhex(background["value"].removeprefix("#")))
        if background["kind"] == "image":
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
