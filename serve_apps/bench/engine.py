"""Bare renders: the engine alone, in a process of its own, without any of the service.

    python -m serve_apps.bench.engine IDENTITY-FOLDER SPEECH.wav NUM_RENDERS

prints one JSON list, the seconds that each render took from waveform to closed file. One render before them is not
counted: it compiles kernels and fills caches, as a replica has done when it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from m2dao.errors import ServiceError

SMALL = (64, 600)  # pixels, Gaussians: a render so short that all the rest shows
LARGE = (256, 13_500)  # as `m2dao bench live` takes by default


def make_identity(folder: Path, size_and_gaussians: tuple[int, int], *, seed: int = 0) -> Path:
    """Write a specimen as an identity checkpoint."""
    from m2dao.identity.checkpoint import save_identity
    from m2dao.identity.specimen import make_specimen

    size, num_gaussians = size_and_gaussians
    save_identity(folder, make_specimen(size=size, num_gaussians=num_gaussians, seed=seed))
    return folder


def make_speech(seconds: float, *, seed: int = 0) -> bytes:
    """A WAV file of babble."""
    import io

    from m2dao.identity.specimen import babble
    from m2dao.media.audio import write_wav

    data = io.BytesIO()
    write_wav(data, babble(seconds, seed))
    return data.getvalue()


def bare_renders(identity: Path, speech: bytes, num_renders: int, *, num_threads: int) -> list[float]:
    """Seconds of each of some renders by the engine alone.

    Raises:
        ServiceError: they failed.
    """
    with tempfile.TemporaryDirectory(prefix="m2dao-bare-") as folder:
        sound = Path(folder) / "speech.wav"
        sound.write_bytes(speech)
        # The same threads as a replica has (serve_apps/app.py).
        threads = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": str(num_threads)}
        ran = subprocess.run(
            [sys.executable, "-m", "serve_apps.bench.engine", str(identity), str(sound), str(num_renders)],
            env={**os.environ, **threads},
            capture_output=True,
            text=True,
        )
    if ran.returncode:
        raise ServiceError("bare renders", "to succeed", ran.stderr[-2000:])
    return [float(seconds) for seconds in json.loads(ran.stdout)]


def _main() -> None:
    from m2dao.identity.talker import Talker
    from m2dao.media.audio import read_audio
    from m2dao.media.mux import VideoWriter

    identity, sound, num_renders = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    talker, waveform = Talker.load(identity), read_audio(sound)
    taken_s = []
    for _ in range(1 + num_renders):
        began = time.perf_counter()
        with VideoWriter(
            sound.with_name("video.mp4"), width=talker.size, height=talker.size, waveform=waveform
        ) as writer:
            for frame in talker.frames(waveform):
                writer.write(frame)
        taken_s.append(time.perf_counter() - began)
    print(json.dumps(taken_s[1:]))


if __name__ == "__main__":
    _main()
