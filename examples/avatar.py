"""A video and a consent become an avatar that speaks, over the API.

python -m examples.avatar anna anna.mp4 "signed by Anna, 2026-12-01, contract 4711" speech.wav anna-speaks.mp4
"""

import sys
from pathlib import Path
from typing import Any

from m2dao_client import Client


def make_avatar(api: Client, person: str, video: str, consent: str, speech: str, out: str, **how: Any) -> Path:
    """Upload, fit, speak; returns the video that was made."""
    recording = api.recordings.upload(video, on_progress=lambda sent: print(f"{sent.num_bytes} bytes are there"))
    api.recordings.wait(recording.id)
    fit = api.fits.create(identity=person, recording=recording.id, consent=consent, promote=True, **how)
    done = api.fits.wait(fit.id, on_progress=lambda now: print(f"{now.stage} {now.progress:.0%} {now.detail}"))
    assert done.result is not None
    print(f"{person}@{done.result.version}, promoted: {done.result.promoted} {done.result.detail}")
    render = api.renders.create(f"{person}@{done.result.version}", speech)
    api.renders.wait(render.id)
    return api.renders.download(render.id, out)


if __name__ == "__main__":
    with Client() as service:  # M2DAO_API_URL, M2DAO_API_KEY
        print(make_avatar(service, *sys.argv[1:6]))
