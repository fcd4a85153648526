"""`m2dao bench audio`: how well audio features predict the lips of a recording, and what they cost."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from m2dao.commands.shared import Commands, add_command
from m2dao.errors import InputError

if TYPE_CHECKING:
    import numpy as np

DEFAULT_SETS = "logmel,phones,logmel+phones"
EXAMPLES = """examples:
  m2dao bench audio captures/anna captures/ben --json
  m2dao bench audio anna.mp4 ben.mp4 --features phones,whisper,phones+whisper

Give several recordings of different people: the default feature must also carry over to voices it was not fitted on.

figures, all correlations of lip opening without its slow part:
  within    predicted by ridge regression fitted on the other four fifths of the same recording, mean over recordings
  across    predicted by the regression of another recording, mean over all pairs
  lookahead_s            sound needed after the end of a frame
  seconds_per_minute     processor time for one minute of sound, on all threads together

--json prints {"clips": {name: {num_frames}}, "features": {name: {dim, rate_hz, lookahead_s, seconds_per_minute,
within, across, within_by_clip}}, "default": name}; across is null with one recording.
"""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands, "audio", run, summary="compare audio features by the lips they predict", examples=EXAMPLES
    )
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP", help="capture folder or video")
    parser.add_argument(
        "--features",
        default=DEFAULT_SETS,
        help=f"names separated by commas, parts joined by + (default {DEFAULT_SETS})",
    )


def run(args: argparse.Namespace) -> dict:
    from m2dao.audio.features import DEFAULT_FEATURES, get_extractor
    from m2dao.progress import counted

    names = [name.strip() for name in args.features.split(",") if name.strip()]
    extractors = {name: get_extractor(name) for name in names}  # unknown names are refused before the long work
    clips = {}
    for path in args.clips:
        label = path.name if path.name not in clips else str(path)
        clips[label] = _read_clip(path)
    features = {}
    for name, extractor in counted(extractors.items(), "audio", total=len(extractors), unit="features"):
        features[name] = _measure(extractor, clips)
    result = {
        "clips": {label: {"num_frames": len(opening)} for label, (_, opening) in clips.items()},
        "features": features,
        "default": DEFAULT_FEATURES,
    }
    if not args.json:
        _print_table(result)
    return result


def _measure(extractor, clips: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict:
    from m2dao.audio.lipsync import SyncProbe, held_out_correlation
    from m2dao.timeline import SAMPLE_RATE

    extractor.extract(next(iter(clips.values()))[0][:SAMPLE_RATE])  # first-call costs are no running costs
    rows = {}
    start_s = time.process_time()
    for label, (waveform, _) in clips.items():
        rows[label] = extractor.extract(waveform)
    used_s = time.process_time() - start_s
    num_seconds = sum(len(waveform) for waveform, _ in clips.values()) / SAMPLE_RATE
    within = {label: held_out_correlation(rows[label], opening) for label, (_, opening) in clips.items()}
    across = []
    for label, (_, opening) in clips.items():
        probe = SyncProbe.fit(rows[label], opening)
        others = (other for other in clips if other != label)
        across += [probe.score(rows[other], clips[other][1]) for other in others]
    return {
        "dim": extractor.dim,
        "rate_hz": extractor.rate_hz,
        "lookahead_s": round(extractor.lookahead_s, 4),
        "seconds_per_minute": round(used_s / num_seconds * 60, 3),
        "within": round(statistics.fmean(within.values()), 4),
        "across": round(statistics.fmean(across), 4) if across else None,
        "within_by_clip": {label: round(value, 4) for label, value in within.items()},
    }


def _read_clip(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Waveform [T * 640] and lip opening [T] of a capture folder or a video."""
    if path.is_dir():
        from m2dao.capture.dataset import Capture

        capture = Capture.open(path)
        return capture.waveform, capture.lip_opening
    if not path.exists():
        raise InputError(str(path), "a capture folder or a video", "nothing there", "check the path")
    return _track(path)


def _track(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    from m2dao.capture.faces.signals import measure_signals
    from m2dao.capture.faces.tracker import FaceTracker
    from m2dao.media.audio import read_audio
    from m2dao.media.video import read_frames
    from m2dao.progress import counted
    from m2dao.timeline import SAMPLES_PER_FRAME

    tracker = FaceTracker()
    seen = [tracker.track(frame.rgb) for frame in counted(read_frames(path), path.name)]
    found = {index: face for index, face in enumerate(seen) if face is not None}
    if not found:
        raise InputError(str(path), "a face", "none in any frame", "use a recording of a person speaking")
    opening = np.full(len(seen), np.nan, np.float32)
    opening[list(found)] = measure_signals(
        np.stack([face.landmarks for face in found.values()]), np.stack([face.blendshapes for face in found.values()])
    ).lip_opening
    waveform = read_audio(path)
    num_frames = min(len(opening), len(waveform) // SAMPLES_PER_FRAME)
    return waveform[: num_frames * SAMPLES_PER_FRAME], opening[:num_frames]


def _print_table(result: dict) -> None:
    print(f"{'features':<22}{'within':>8}{'across':>8}{'look-ahead':>12}{'s/minute':>10}{'F':>6}")
    for name, row in result["features"].items():
        across = "-" if row["across"] is None else f"{row['across']:.3f}"
        marker = "  <- default" if name == result["default"] else ""
        print(
            f"{name:<22}{row['within']:>8.3f}{across:>8}{row['lookahead_s']:>10.3f} s{row['seconds_per_minute']:>10.2f}"
            f"{row['dim']:>6}{marker}"
        )
