"""Times a whole talker from sound to H.264, stage by stage: part of `m2dao bench render`."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from pathlib import Path

from m2dao.timeline import FRAME_RATE

WARM_UP_FRAMES = 25


def measure_talker(talker, *, seconds: float, num_streams: int = 1) -> dict:
    """Let talkers speak into mp4 files and clock them.

    Args:
        talker: from `m2dao.identity.talker`; all streams share it.
        seconds: of sound, warm-up not counted.
        num_streams: how many speak at once.

    Returns:
        stages_ms (mean for a frame), frame_ms_p50, frame_ms_p99, talker_fps, talker_real_time_factor, streams (how many
        of 25 frames a second that is), measured_streams, pairs_per_frame.
    """
    import numpy as np

    from m2dao.kernels.threads import one_torch_thread
    from m2dao.stages import clocked

    times: list[list[float]] = [[] for _ in range(num_streams)]
    ready = threading.Barrier(num_streams + 1)
    failures: list[BaseException] = []
    with tempfile.TemporaryDirectory(prefix="m2dao-bench-") as folder, one_torch_thread(), clocked() as clock:
        paths = [Path(folder) / f"{number}.mp4" for number in range(num_streams)]
        threads = [
            threading.Thread(target=_speak, args=(talker, path, seconds, number, times[number], ready, failures))
            for number, path in enumerate(paths)
        ]
        for thread in threads:
            thread.start()
        with contextlib.suppress(threading.BrokenBarrierError):
            ready.wait()  # every stream is warm
        clock.reset()
        began = time.perf_counter()
        for thread in threads:
            thread.join()
        elapsed_s = time.perf_counter() - began
    if failures:
        raise failures[0]
    frame_ms = 1000 * np.concatenate([np.asarray(each) for each in times])
    fps = len(frame_ms) / elapsed_s
    return {
        "stages_ms": {name: round(1000 * value / len(frame_ms), 3) for name, value in clock.seconds.items()},
        "frame_ms_p50": round(float(np.percentile(frame_ms, 50)), 3),
        "frame_ms_p99": round(float(np.percentile(frame_ms, 99)), 3),
        "streams": int(fps / FRAME_RATE),
        "talker_fps": round(fps, 2),
        "talker_real_time_factor": round(num_streams * FRAME_RATE / fps, 4),
        "measured_streams": num_streams,
        "pairs_per_frame": round(clock.pairs / len(frame_ms)),
    }


def _speak(talker, path: Path, seconds: float, seed: int, times: list[float], ready, failures: list) -> None:
    """One stream; the times of its frames after the warm-up are appended."""
    from m2dao.identity.specimen import babble
    from m2dao.media.mux import VideoWriter

    try:
        sound = babble(seconds + WARM_UP_FRAMES / FRAME_RATE, seed)
        frames = talker.frames(sound, seed=seed)
        with VideoWriter(path, width=talker.size, height=talker.size, waveform=sound) as writer:
            for _ in range(WARM_UP_FRAMES):
                writer.write(next(frames))
            ready.wait()
            while True:
                began = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                writer.write(frame)
                times.append(time.perf_counter() - began)
    except BaseException as error:
        failures.append(error)
        ready.abort()
