"""One short recording of each presenter, and what our own tracker sees in it, for this folder."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import load_file

from m2dao.presenter import make_recording, persons

SECONDS, SIZE = 4.0, 320
SENTENCE = "Papa and Mama are far away, I imagine, at a big yellow farm in Panama."


@dataclass(frozen=True)
class Filmed:
    """A recording, its truth, and its decoded frames u8 [T, H, W, 3]."""

    result: object
    progress: list
    truth: dict
    document: dict
    frames: np.ndarray


@pytest.fixture(scope="session")
def filmed(tmp_path_factory) -> dict[str, Filmed]:
    from m2dao.media.video import read_frames

    folder = tmp_path_factory.mktemp("presenters")
    made = {}
    for name in persons():
        progress = []
        result = make_recording(
            folder, person=name, seconds=SECONDS, size=SIZE, sentence=SENTENCE, on_progress=progress.append
        )
        made[name] = Filmed(
            result=result,
            progress=progress,
            truth=load_file(result.truth),
            document=json.loads(result.truth_description.read_text(encoding="utf-8")),
            frames=np.stack([frame.rgb for frame in read_frames(result.video)]),
        )
    return made


@pytest.fixture(scope="session")
def tracked(filmed) -> dict[str, list]:
    """What the face tracker says about every frame."""
    from m2dao.capture.faces.tracker import FaceTracker

    tracks = {}
    for name, film in filmed.items():
        tracker = FaceTracker()
        tracks[name] = [tracker.track(frame) for frame in film.frames]
    return tracks
