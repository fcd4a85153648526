"""Drives identities by other people's sound, and compares lip sync with that of their own.

Shapes: T frames.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from m2dao.capture.dataset import Capture
from m2dao.comparison.report import cell
from m2dao.evaluation.evaluate import evaluate
from m2dao.evaluation.result import VideoFigures
from m2dao.figures import rounded
from m2dao.media.audio import write_wav
from m2dao.plots import as_png, new_plot

OWN_VOICE = "(its own)"
MAX_OFFSET_FRAMES, LEAST_CONFIDENCE_RATIO = 1.0, 0.8


@dataclass(frozen=True, kw_only=True)
class VoiceRow:
    """One identity driven by one voice, head motion synthesised.

    Attributes:
        identity: name of the folder of its capture.
        voice: name of the sound file, or OWN_VOICE for the sound of the whole recording.
        sync_offset_frames, sync_confidence: None where nobody speaks or the sound is too short.
        sync_sure: whether the confidence could hardly come about by chance in so many frames.
        offset_from_own: frames, against the same identity's own voice; None where that one's sync is not sure.
        confidence_ratio: to that of its own voice; None likewise.
        jitter_silence: root mean square change of the lip opening between silent frames, in outer-eye distances.
        lip_change: the same over all frames.
        closure_mbp: share of m, b and p with closed lips.
        num_frames: T.
    """

    identity: str
    voice: str
    sync_offset_frames: float | None
    sync_confidence: float | None
    sync_sure: bool | None
    offset_from_own: float | None
    confidence_ratio: float | None
    jitter_silence: float | None
    lip_change: float | None
    closure_mbp: float | None
    num_frames: int


def drive_with_voices(
    identity: Path,
    capture: Path,
    voices: list[Path],
    *,
    out_dir: Path,
    backend: str | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> list[VoiceRow]:
    """Drive one identity with its own voice and with others.

    Args:
        identity, capture: the identity and the recording it was fitted to.
        voices: sound files.
        out_dir: videos and plots, a folder for each voice.
        backend: render backend.
        on_progress: told what is being done and the share done of it.

    Raises:
        CaptureCorrupt, CheckpointCorrupt: capture or identity cannot be read.
        InputError: a sound is too short.
    """
    tell = on_progress or (lambda what, share: None)
    name = capture.resolve().name
    rows: list[VoiceRow] = []
    measure: VideoFigures | None = None  # its own voice, where that can be told
    with tempfile.TemporaryDirectory(prefix="m2dao-voices-") as folder:
        own = Path(folder) / "own.wav"
        write_wav(own, Capture.open(capture).waveform)
        for path, voice in ((own, OWN_VOICE), *((path, path.stem) for path in voices)):
            result = evaluate(
                identity,
                capture,
                "cross",
                audio=path,
                out_dir=out_dir / (path.stem if voice != OWN_VOICE else "own"),
                backend=backend,
                on_progress=functools.partial(tell, f"{name} speaks {voice}"),
            )
            spoken = result.rendered
            if voice == OWN_VOICE and spoken.sync_sure:
                measure = spoken
            rows.append(
                VoiceRow(
                    identity=name,
                    voice=voice,
                    sync_offset_frames=spoken.sync_offset_frames,
                    sync_confidence=spoken.sync_confidence,
                    sync_sure=spoken.sync_sure,
                    offset_from_own=_offset_from(measure, spoken),
                    confidence_ratio=_confidence_ratio(measure, spoken),
                    jitter_silence=spoken.jitter_silence,
                    lip_change=spoken.lip_change,
                    closure_mbp=spoken.closure_mbp,
                    num_frames=result.num_frames,
                )
            )
    return rows


def _offset_from(own: VideoFigures | None, spoken: VideoFigures) -> float | None:
    """Frames by which lips are later than with the identity's own voice."""
    if own is None or own.sync_offset_frames is None or spoken.sync_offset_frames is None:
        return None
    return spoken.sync_offset_frames - own.sync_offset_frames


def _confidence_ratio(own: VideoFigures | None, spoken: VideoFigures) -> float | None:
    """Of the sync, to that with the identity's own voice."""
    if own is None or own.sync_confidence is None or spoken.sync_confidence is None:
        return None
    return spoken.sync_confidence / own.sync_confidence


def spread(rows: list[VoiceRow]) -> list[dict]:
    """What identities have in common with each voice.

    Only sync that is sure counts in the offsets. An identity whose own sync is not sure has no ratio.

    Returns:
        {voice, offset_mean, offset_spread, confidence_ratio_mean, confidence_ratio_least, num_identities} by voice.
    """
    out = []
    for voice in dict.fromkeys(row.voice for row in rows):
        part = [row for row in rows if row.voice == voice]
        offsets = [row.sync_offset_frames for row in part if row.sync_sure and row.sync_offset_frames is not None]
        ratios = [row.confidence_ratio for row in part if row.confidence_ratio is not None]
        out.append(
            {
                "voice": voice,
                "offset_mean": _rounded(np.mean, offsets),
                "offset_spread": _rounded(np.ptp, offsets),
                "confidence_ratio_mean": _rounded(np.mean, ratios),
                "confidence_ratio_least": _rounded(np.min, ratios),
                "num_identities": len(part),
            }
        )
    return out


def _rounded(what, values: list[float]) -> float | None:
    return round(float(what(values)), 3) if values else None


def as_dicts(rows: list[VoiceRow]) -> list[dict]:
    """Rows for JSON."""
    return [rounded(asdict(row)) for row in rows]


def table(rows: list[VoiceRow]) -> str:
    """Rows as text."""
    columns = (
        ("sync_offset_frames", "sync", 2),
        ("sync_confidence", "conf", 2),
        ("sync_sure", "sure", 0),
        ("confidence_ratio", "ratio", 2),
        ("jitter_silence", "jitter", 4),
        ("lip_change", "change", 4),
        ("closure_mbp", "closure", 2),
    )
    lines = [f"{'identity':<32}{'voice':<32}" + "".join(f"{head:>9}" for _, head, _ in columns)]
    for row in rows:
        cells = "".join(cell(getattr(row, key), digits) for key, _, digits in columns)
        lines.append(f"{row.identity:<32}{row.voice:<32}{cells}")
    return "\n".join(lines)


def plot(rows: list[VoiceRow]) -> bytes:
    """Offset and confidence by voice, as PNG: a mark for each identity, hollow where not sure.

    Good sync keeps within the grey.
    """
    voices = list(dict.fromkeys(row.voice for row in rows))
    figure = new_plot(10, 1.2 + 0.35 * len(voices))
    left, right = figure.subplots(1, 2, sharey=True)
    left.axvspan(-MAX_OFFSET_FRAMES, MAX_OFFSET_FRAMES, color="0.92")
    right.axvline(LEAST_CONFIDENCE_RATIO, color="0.8")
    for identity in dict.fromkeys(row.identity for row in rows):
        part = [row for row in rows if row.identity == identity]
        ratios = right.plot(*_points(part, voices, "confidence_ratio"), "o", alpha=0.7, label=identity)
        for sure in (True, False):
            points = _points([row for row in part if row.sync_sure is sure], voices, "sync_offset_frames")
            left.plot(*points, "o", alpha=0.7, color=ratios[0].get_color(), fillstyle="full" if sure else "none")
    left.set_yticks(range(len(voices)), voices)
    left.invert_yaxis()
    left.set(xlabel="lips behind the sound (frames)")
    right.set(xlabel="confidence, 1 with the identity's own voice")
    right.legend(fontsize=7)
    return as_png(figure)


def _points(rows: list[VoiceRow], voices: list[str], key: str) -> tuple[list[float], list[int]]:
    """What is known of a figure, and the line of its voice."""
    known = [row for row in rows if getattr(row, key) is not None]
    return [getattr(row, key) for row in known], [voices.index(row.voice) for row in known]


def write_voices(out_dir: Path, result: dict, rows: list[VoiceRow]) -> None:
    """`voices.json` and `voices.png`."""
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "voices.json").write_text(json.dumps(result, indent=2) + "\n")
    (out_dir / "voices.png").write_bytes(plot(rows))
