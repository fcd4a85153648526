"""`m2dao bench voices`: identities driven by voices that are not theirs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from m2dao.commands.outputs import check_folder
from m2dao.commands.shared import Commands, add_backend_argument, add_command
from m2dao.errors import ConfigError
from m2dao.progress import showing

EXAMPLES = """examples:
  m2dao bench voices --identity identities/anna captures/anna --audio speech/*.wav --json
  m2dao bench voices --identity identities/anna captures/anna --identity identities/ben captures/ben --audio tts.wav

Each identity speaks with the sound of its own recording first, then with every file, which is compared with it. Head
motion is synthesised. Lips are tracked in the pictures and compared with the phones in the sound. Files without speech
have no sync; lip_change says how much the lips move with them, beside that of the identity's own sound. Short pieces
give confidence by chance; sync_sure says whether it is more than that. Where it is not with the identity's own sound,
there is nothing to compare others with. Offsets that are not sure are hollow in the plot and not in the spread.

--json prints {rows: [{identity, voice, sync_offset_frames, sync_confidence, sync_sure, offset_from_own,
confidence_ratio, jitter_silence, lip_change, closure_mbp, num_frames}], spread: [{voice, offset_mean, offset_spread,
confidence_ratio_mean, confidence_ratio_least, num_identities}]}. Videos, voices.json and voices.png stay in --out.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "voices", run, summary="lip sync with other people's voices", examples=EXAMPLES)
    parser.add_argument(
        "--identity",
        type=Path,
        nargs=2,
        action="append",
        required=True,
        metavar=("IDENTITY", "CAPTURE"),
        help="an identity and the capture it was fitted to; may be given several times",
    )
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="sound files")
    parser.add_argument(
        "--out", type=Path, default=Path("bench-voices"), help="folder for videos and plots (bench-voices)"
    )
    add_backend_argument(parser)


def run(args: argparse.Namespace) -> dict:
    from m2dao.comparison.other_speakers import as_dicts, drive_with_voices, spread, table, write_voices
    from m2dao.evaluation.evaluate import cross_audio

    check_folder(args.out)
    _refuse_twins("capture", [capture.resolve().name for _, capture in args.identity])
    _refuse_twins("sound", [path.stem for path in args.audio] + ["own"])
    for path in args.audio:
        cross_audio(path)  # refused now, not after an hour of rendering
    rows = []
    with showing("voices") as show:
        for identity, capture in args.identity:
            out_dir = args.out / capture.resolve().name
            rows += drive_with_voices(
                identity, capture, args.audio, out_dir=out_dir, backend=args.backend, on_progress=show
            )
    result = {"rows": as_dicts(rows), "spread": spread(rows)}
    write_voices(args.out, result, rows)
    print(table(rows), file=sys.stderr)
    return result


def _refuse_twins(what: str, names: list[str]) -> None:
    """Results are told apart by these names."""
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ConfigError(f"bench voices, {what}", "a name of its own for each, and none called own", ", ".join(twins))
