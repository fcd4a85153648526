"""`m2dao bench capture`: captures against the truth, and quality reports of your recordings."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from m2dao.commands.shared import Commands, add_command
from m2dao.figures import rounded
from m2dao.progress import Show, showing

EXAMPLES = """examples:
  m2dao bench capture --json
  m2dao bench capture --seconds 20 --size 512 --video anna.mp4 --video ben.mp4

Synthetic presenters are filmed and prepared as any recording is. The captures are compared with the truth that is
written beside the recordings: head rotation, lips, lids, masks. Recordings given by --video have no truth, so their
quality report is shown. The noise of their poses is how far two independent halves of the head's texture disagree.

--json prints {presenters: [{person, seconds, real_time_factor, verdict, sync_offset_frames, rotation_error_deg,
rotation_noise_deg, rotation_range_deg, lip_correlation, lip_error, lip_opening_when_closed, blink_correlation,
gaze_across_correlation, facial_iou, oral_iou, head_iou, torso_iou, person_iou}],
recordings: [{video, seconds, real_time_factor, verdict, problems, pose_jitter_deg, poses_on_picture_share,
reprojection_px}]}.
"""
_TOLD = (
    "seconds",
    "real_time_factor",
    "verdict",
    "problems",
    "pose_jitter_deg",
    "poses_on_picture_share",
    "reprojection_px",
)


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "capture", run, summary="captures against the truth", examples=EXAMPLES)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the presenters' recordings (default 10)")
    parser.add_argument("--size", type=int, default=512, help="pixels of recordings and captures (default 512)")
    parser.add_argument(
        "--video", type=Path, action="append", default=[], help="a recording; may be given several times"
    )


def run(args: argparse.Namespace) -> dict:
    from m2dao.presenter import persons

    with tempfile.TemporaryDirectory(prefix="m2dao-bench-capture-") as folder, showing("capture") as show:
        presenters = [_presenter(person, Path(folder), args, show) for person in persons()]
        recordings = [
            _recording(video, Path(folder) / f"recording-{number}", args.size, show)
            for number, video in enumerate(args.video)
        ]
    for row in (*presenters, *recordings):
        print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    return {"presenters": presenters, "recordings": recordings}


def _recording(video: Path, out: Path, size: int, show: Show) -> dict:
    from m2dao.capture.prepare import prepare
    from m2dao.errors import CaptureRejected

    try:
        result = prepare(video, out, size=size, on_progress=lambda stage, share: show(f"{video.name}: {stage}", share))
    except CaptureRejected as error:  # says what is wrong with this one; the others are measured all the same
        return {"video": video.name, "verdict": "rejected", "problems": [str(error)]}
    return {"video": video.name} | {name: rounded(getattr(result, name)) for name in _TOLD}


def _presenter(person: str, folder: Path, args: argparse.Namespace, show: Show) -> dict:
    from safetensors.numpy import load_file

    from m2dao.capture.dataset import Capture
    from m2dao.capture.prepare import prepare
    from m2dao.capture.review.truth import compare_with_truth
    from m2dao.presenter import make_recording

    show(f"{person}: filming", 0.0)
    film = make_recording(folder, person=person, seconds=args.seconds, size=args.size)
    out = folder / f"{person}-capture"
    result = prepare(
        film.video, out, size=args.size, on_progress=lambda stage, share: show(f"{person}: {stage}", share)
    )
    found = compare_with_truth(Capture.open(out), load_file(film.truth))
    return {
        "person": person,
        "seconds": result.seconds,
        "real_time_factor": rounded(result.real_time_factor),
        "verdict": result.verdict,
        "sync_offset_frames": result.sync_offset_frames,
        **found.as_dict(),
    }
