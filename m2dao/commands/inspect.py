"""`m2dao inspect`: is this a video of somebody speaking, and are lips and sound in time?"""

from __future__ import annotations

import argparse
from pathlib import Path

from m2dao.commands.shared import Commands, add_command

EXAMPLES = """examples:
  m2dao inspect anna-speaks.mp4
  m2dao inspect anna-speaks.mp4 --json

Looks at every frame with the face tracker. --json prints {num_frames, seconds, num_frames_without_face, lip_motion,
sync_offset_frames, sync_confidence, closure_mbp}. lip_motion is the standard deviation of the lip opening, as a share
of the distance between the eyes. A positive offset means that the sound comes late. Good recordings have a
confidence of 0.4 to 0.6. What cannot be told is null.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "inspect", run, summary="look for face, speech and lip sync in a video", examples=EXAMPLES
    )
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a video with sound")


def run(args: argparse.Namespace) -> dict:
    import numpy as np

    from m2dao.audio.features import get_extractor
    from m2dao.capture.faces.tracker import FaceTracker
    from m2dao.errors import CaptureRejected
    from m2dao.evaluation.mouth import LipTrack, measure_mouth
    from m2dao.media.audio import read_audio
    from m2dao.media.video import read_frames
    from m2dao.progress import counted
    from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME

    waveform = read_audio(args.video)  # first: a video without sound is refused at once
    track, num_frames = LipTrack(FaceTracker()), 0
    for frame in counted(read_frames(args.video), "following the face"):
        track.add(frame.rgb)
        num_frames += 1
    if track.num_missed == num_frames:
        raise CaptureRejected(str(args.video), "a face", f"none in {num_frames} frames")
    lips = track.finish()
    samples = np.zeros(num_frames * SAMPLES_PER_FRAME, np.float32)
    samples[: len(waveform)] = waveform[: len(samples)]
    found = measure_mouth(get_extractor("phones").extract(samples), lips)
    offset, confidence = found.sync_offset_frames, found.sync_confidence
    result = {
        "num_frames": num_frames,
        "seconds": num_frames / FRAME_RATE,
        "num_frames_without_face": track.num_missed,
        "lip_motion": round(float(np.std(lips.lip_opening)), 4),
        "sync_offset_frames": None if offset is None else round(offset, 2),
        "sync_confidence": None if confidence is None else round(confidence, 4),
        "closure_mbp": found.closure_mbp,
    }
    if not args.json:
        for name, value in result.items():
            print(f"{name:<24} {'unknown' if value is None else value}")
    return result
