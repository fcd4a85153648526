"""`m2dao evaluate`: how good an identity is on frames it has never seen."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_backend_argument, add_command

EXAMPLES = """examples:
  m2dao evaluate identities/anna captures/anna --protocol paper --json
  m2dao evaluate identities/anna captures/anna --protocol portrait --out report/
  m2dao evaluate identities/anna captures/anna --protocol cross --audio other-voice.wav --json

protocols (a part of the recording that was never trained on, see --split):
  paper     face and mouth over the recording's own torso and background
  portrait  everything generated, neck and torso included; head pose and blinks from the recording
  cross     another voice (--audio), synthesised head motion: lip sync only, no pictures to compare with

A fit trains on the first 9/11 of a recording. The next 1/11 is `validation`: choose by it as often as you like. The
last 1/11 is `test`: it is for figures that you report, once.

--json prints {protocol, psnr_db, ssim, st_lpips, lmd_px, neck_psnr_db, flicker, sync_offset_frames, sync_confidence,
sync_sure, num_frames, closure_ratio, opening_ratio, ...}. closure_ratio is the share of recorded lip closures that the
render makes within one frame; opening_ratio is the spread of the lip opening over the recorded one. What a protocol
cannot measure is null. Sync is not sure where so few frames could show as much by chance. With --out: side-by-side
video, plots and the same JSON.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "evaluate", run, summary="measure an identity on the unseen part", examples=EXAMPLES)
    parser.add_argument("identity", type=Path, help="folder made by `m2dao fit`")
    parser.add_argument("capture", type=Path, help="the capture it was fitted to")
    parser.add_argument("--protocol", choices=("paper", "portrait", "cross"), default="paper")
    parser.add_argument(
        "--split", choices=("validation", "test"), default="validation", help="part to look at (validation)"
    )
    parser.add_argument("--truth", type=Path, help="NAME.truth.safetensors beside the recording of a presenter")
    parser.add_argument("--audio", type=Path, help="speech of somebody else, for protocol cross")
    parser.add_argument("--out", type=Path, help="folder for side-by-side video and plots")
    parser.add_argument("--max-frames", type=int, help="evaluate only the first so many frames")
    add_backend_argument(parser)


def run(args: argparse.Namespace) -> dict:
    from m2dao.evaluation.evaluate import evaluate
    from m2dao.progress import showing

    if args.out is not None:
        check_folder(args.out)
    with showing("evaluate") as show:
        result = evaluate(
            args.identity,
            args.capture,
            protocol=args.protocol,
            split=args.split,
            audio=args.audio,
            truth=args.truth,
            out_dir=args.out,
            max_frames=args.max_frames,
            backend=args.backend,
            on_progress=lambda share: show(f"protocol {args.protocol}", share),
        )
    figures = result.as_dict()
    for name, value in figures.items():
        print(f"{name:28} {value}", file=sys.stderr)
    return figures
