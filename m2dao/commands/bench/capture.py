"""`m2dao bench capture`: captures against the truth, and quality reports of your recordings."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from m2dao.commands.shared import Commands, add_command, rss_in_mib
from m2dao.errors import CaptureRejected, InputError, SystemFault
from m2dao.figures import rounded
from m2dao.progress import Show, showing

EXAMPLES = """examples:
  m2dao bench capture --json
  m2dao bench capture --seconds 20 --size 512 --video anna.mp4 --video ben.mp4
  m2dao bench capture --person mira --seconds 20 --seconds 45

Synthetic presenters are filmed and prepared as any recording is. The captures are compared with the truth that is
written beside the recordings: head rotation, lips, lids, masks. Recordings given by --video have no truth, so their
quality report is shown. The noise of their poses is how far two independent halves of the head's texture disagree.

Each is prepared by `m2dao prepare` in a process of its own. real_time_factor is the time of its work as a share of the
recording's length, cpu_s and peak_rss_mb are those of the process, with its start. The first process of a machine also
compiles kernels: run `m2dao assets compile` before. Two lengths tell whether memory is flat.

--json prints {presenters: [{person, seconds, real_time_factor, cpu_s, peak_rss_mb, verdict, pose_jitter_deg,
poses_on_picture_share, sync_offset_frames, rotation_error_deg,
rotation_noise_deg, rotation_range_deg, lip_correlation, lip_error, lip_opening_when_closed, blink_correlation,
gaze_across_correlation, facial_iou, oral_iou, head_iou, torso_iou, person_iou}],
recordings: [{video, seconds, real_time_factor, cpu_s, peak_rss_mb, verdict, problems, pose_jitter_deg,
poses_on_picture_share, reprojection_px}]}.
"""
_TOLD = (
    "seconds",
    "real_time_factor",
    "cpu_s",
    "peak_rss_mb",
    "verdict",
    "problems",
    "pose_jitter_deg",
    "poses_on_picture_share",
    "reprojection_px",
)


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "capture", run, summary="captures against the truth", examples=EXAMPLES)
    parser.add_argument("--person", action="append", default=[], help="a presenter (default: all)")
    parser.add_argument(
        "--seconds", type=float, action="append", default=[], help="length of the presenters' recordings (default 10)"
    )
    parser.add_argument("--size", type=int, default=512, help="pixels of recordings and captures (default 512)")
    parser.add_argument(
        "--video", type=Path, action="append", default=[], help="a recording; may be given several times"
    )


def run(args: argparse.Namespace) -> dict:
    from m2dao.presenter import persons

    with tempfile.TemporaryDirectory(prefix="m2dao-bench-capture-") as folder, showing("capture") as show:
        presenters = [
            _presenter(person, seconds, Path(folder) / f"{person}-{seconds:g}s", args.size, show)
            for person in args.person or persons()
            for seconds in args.seconds or [10.0]
        ]
        recordings = [
            _recording(video, Path(folder) / f"recording-{number}", args.size, show)
            for number, video in enumerate(args.video)
        ]
    for row in (*presenters, *recordings):
        print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    return {"presenters": presenters, "recordings": recordings}


def _recording(video: Path, out: Path, size: int, show: Show) -> dict:
    try:
        found = _prepared(video, out, size, show)
    except CaptureRejected as error:  # says what is wrong with this one; the others are measured all the same
        return {"video": video.name, "verdict": "rejected", "problems": [str(error)]}
    return {"video": video.name} | {name: rounded(found[name]) for name in _TOLD}


def _presenter(person: str, seconds: float, folder: Path, size: int, show: Show) -> dict:
    from safetensors.numpy import load_file

    from m2dao.capture.dataset import Capture
    from m2dao.capture.review.truth import compare_with_truth
    from m2dao.presenter import make_recording

    show(f"{person}: filming {seconds:g} s", 0.0)
    film = make_recording(folder, person=person, seconds=seconds, size=size)
    found = _prepared(film.video, folder / "capture", size, show)
    compared = compare_with_truth(Capture.open(folder / "capture"), load_file(film.truth))
    told = (*_TOLD[:5], "pose_jitter_deg", "poses_on_picture_share", "sync_offset_frames")
    return {"person": person} | {name: rounded(found[name]) for name in told} | compared.as_dict()


def _prepared(video: Path, out: Path, size: int, show: Show) -> dict:
    """What `m2dao prepare` tells of a recording, with what its process took.

    Raises:
        CaptureRejected: it cannot become a capture.
        InputError: it cannot be read.
        SystemFault: the process ended otherwise.
    """
    show(f"{video.name}: preparing", 0.5)
    command = [sys.executable, "-P", "-m", "m2dao.cli", "prepare", str(video.resolve()), "--out", str(out), "--json"]
    with subprocess.Popen([*command, "--size", str(size)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    told = json.loads(printed) if printed else {"error": "", "detail": f"exit code {process.returncode}"}
    if "error" not in told:
        return told | {"cpu_s": used.ru_utime + used.ru_stime, "peak_rss_mb": rss_in_mib(used.ru_maxrss)}
    kind = CaptureRejected if told["error"] == CaptureRejected.code else InputError
    raise (kind if process.returncode == InputError.exit_code else SystemFault)(told["detail"])
