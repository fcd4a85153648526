"""`m2dao bench live`: latency of a talker's frames when sound arrives in small pieces."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2dao.commands.shared import Commands, add_backend_argument, add_command, rss_mb
from m2dao.errors import ConfigError
from m2dao.progress import counting
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE

if TYPE_CHECKING:
    from m2dao.identity.checkpoint import StoredIdentity
    from m2dao.identity.talker import Talker

_COLD_STARTS = 7

EXAMPLES = """examples:
  m2dao bench live --size 256 --gaussians 13500 --json
  m2dao bench live --identity identities/anna --seconds 3600        (one hour, as long as it lasts)
  m2dao bench live --streams 2 --seconds 60
  m2dao bench live --streams 60 --talkers 60 --size 512 --gaussians 30000 --backend gsplat

Sound arrives as from a microphone: in pieces of --piece-ms, each when its last sample has been spoken.

latency_ms: from the instant a frame shows, the middle of its 40 ms of sound, until the frame is there. In it are the
look-ahead (lookahead_ms: later sound the features, their window and the encoder need), the wait for the piece to be
full, and the work. first_frame_ms: the same of the first frame. frame_ms: the work alone, from having the sound.
cold_first_frame_ms: from a request for an identity that is not loaded to its first frame (median of 7): reading,
checking hashes, preparing, sound features and rendering. The files were read lately; the sound is in memory.
rss_growth_mb: memory at the end above that after a tenth of the time.

--json prints {backend, size, num_gaussians, streams, talkers, seconds, piece_ms, lookahead_ms, cold_first_frame_ms,
first_frame_ms, latency_ms_p50, latency_ms_p99, frame_ms_p50, frame_ms_p99, rss_growth_mb}.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "live", run, summary="measure latency", examples=EXAMPLES)
    parser.add_argument("--identity", type=Path, help="a fitted identity (default: a specimen)")
    parser.add_argument("--size", type=int, default=256, help="of the specimen in pixels (default 256)")
    parser.add_argument("--gaussians", type=int, default=13500, help="of the specimen (default 13500)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of sound (default 20)")
    parser.add_argument("--piece-ms", type=int, default=80, help="length of a piece of sound (default 80)")
    parser.add_argument("--streams", type=int, default=1, help="how many listen and speak at once (default 1)")
    parser.add_argument(
        "--talkers", type=int, default=1, help="how many specimens the streams are shared among (default 1)"
    )
    add_backend_argument(parser)


class _Microphone:
    """Pieces of sound, each handed over when it would have been spoken."""

    def __init__(self, sound: np.ndarray, piece_samples: int):
        self._sound, self._piece_samples = sound, piece_samples
        self.started_s = self.heard_s = 0.0  # when the sound began, when its latest piece was complete

    def __iter__(self) -> Iterator[np.ndarray]:
        self.started_s = time.perf_counter()
        for begin in range(0, len(self._sound), self._piece_samples):
            piece = self._sound[begin : begin + self._piece_samples]
            due_s = self.started_s + (begin + len(piece)) / SAMPLE_RATE
            time.sleep(max(0.0, due_s - time.perf_counter()))
            self.heard_s = time.perf_counter()
            yield piece


class _Arrivals:
    """When each frame of each stream came, and what it cost."""

    def __init__(self, num_streams: int, num_frames: int):
        self.num_frames = num_frames
        self.latencies_s = np.full((num_streams, num_frames), np.nan)
        self.works_s = np.full((num_streams, num_frames), np.nan)
        self.memory_mb: list[float] = []  # after a tenth of the time, and at the end

    def listen(self, talker: Talker, stream: int, microphone: _Microphone, count: Callable[[int], None]) -> None:
        """Let a talker speak what it hears, and clock it."""
        before_s = 0.0
        for index, _ in enumerate(talker.frames(iter(microphone), seed=stream)):
            now_s = time.perf_counter()
            self.latencies_s[stream, index] = now_s - microphone.started_s - (index + 0.5) / FRAME_RATE
            self.works_s[stream, index] = now_s - max(microphone.heard_s, before_s)
            before_s = now_s
            if stream == 0:
                count(1)
                if index in (self.num_frames // 10, self.num_frames - 1):
                    self.memory_mb.append(rss_mb())


def run(args: argparse.Namespace) -> dict:
    from m2dao.identity.checkpoint import load_identity
    from m2dao.identity.specimen import babble, make_specimen
    from m2dao.identity.talker import Talker

    _check(args)
    if args.identity:
        identities = [load_identity(args.identity)]
    else:
        identities = [
            make_specimen(size=args.size, num_gaussians=args.gaussians, seed=seed) for seed in range(args.talkers)
        ]
    talkers = [Talker(identity, backend=args.backend) for identity in identities]
    for talker in talkers:
        list(talker.frames(babble(1.0)))  # kernels are compiled and caches warm, as in a process that serves
    cold_s = _cold_start_s(identities[0], args.backend, _piece_samples(args))
    arrivals = _measure(args, talkers)
    result = {
        "backend": talkers[0].backend,
        "size": talkers[0].size,
        "num_gaussians": talkers[0].head.num_gaussians,
        "streams": args.streams,
        "talkers": len(talkers),
        "seconds": args.seconds,
        "piece_ms": args.piece_ms,
        "lookahead_ms": round(1000 * talkers[0].lookahead_s, 1),
        "cold_first_frame_ms": _ms(cold_s),
        "first_frame_ms": _ms(arrivals.latencies_s[:, 0].max()),
        "latency_ms_p50": _ms(np.percentile(arrivals.latencies_s, 50)),
        "latency_ms_p99": _ms(np.percentile(arrivals.latencies_s, 99)),
        "frame_ms_p50": _ms(np.percentile(arrivals.works_s, 50)),
        "frame_ms_p99": _ms(np.percentile(arrivals.works_s, 99)),
        "rss_growth_mb": round(arrivals.memory_mb[-1] - arrivals.memory_mb[0], 2),
    }
    for name, value in result.items():
        print(f"{name:22} {value}", file=sys.stderr)
    return result


def _check(args: argparse.Namespace) -> None:
    least = {"seconds": 1.0, "piece_ms": 5, "streams": 1, "talkers": 1, "size": 16, "gaussians": 4}
    for name, value in least.items():
        if getattr(args, name) < value:
            raise ConfigError(f"--{name.replace('_', '-')}", f"at least {value:g}", str(getattr(args, name)))
    if args.identity and args.talkers > 1:
        raise ConfigError("--talkers", "specimens, or one --identity", f"{args.talkers} and {args.identity}")


def _piece_samples(args: argparse.Namespace) -> int:
    return round(args.piece_ms * SAMPLE_RATE / 1000)


def _measure(args: argparse.Namespace, talkers: list[Talker]) -> _Arrivals:
    """Let all streams listen and speak at once, each to sound of its own."""
    from m2dao.identity.specimen import babble
    from m2dao.kernels.threads import one_torch_thread

    arrivals = _Arrivals(args.streams, round(args.seconds * FRAME_RATE))
    failures: list[BaseException] = []

    def listen(stream: int) -> None:
        try:
            microphone = _Microphone(babble(args.seconds, stream), _piece_samples(args))
            arrivals.listen(talkers[stream % len(talkers)], stream, microphone, count)
        except BaseException as error:
            failures.append(error)

    with one_torch_thread(), counting("live", total=arrivals.num_frames) as count:
        # Daemons, so that an interruption does not wait for an hour of sound.
        threads = [threading.Thread(target=listen, args=(stream,), daemon=True) for stream in range(args.streams)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return arrivals


def _cold_start_s(identity: StoredIdentity, backend: str | None, piece_samples: int) -> float:
    """Median seconds from a folder to a first frame."""
    from m2dao.identity.checkpoint import save_identity
    from m2dao.identity.specimen import babble
    from m2dao.identity.talker import Talker
    from m2dao.kernels.threads import one_torch_thread

    sound = babble(1.0)
    taken_s = []
    with tempfile.TemporaryDirectory(prefix="m2dao-cold-") as folder, one_torch_thread():
        save_identity(Path(folder) / "identity", identity)
        for _ in range(_COLD_STARTS):
            started_s = time.perf_counter()
            talker = Talker.load(Path(folder) / "identity", backend=backend)
            next(talker.frames(sound[at : at + piece_samples] for at in range(0, len(sound), piece_samples)))
            taken_s.append(time.perf_counter() - started_s)
    return statistics.median(taken_s)


def _ms(seconds: float) -> float:
    return round(1000 * float(seconds), 2)
