"""Fits several recipes to one recording in the same budget, and evaluates them alike.

Everything is kept, so that a comparison goes on where it was interrupted and a row may be made by itself:

    WORK/captures/CLIP-HASH-GENERATION/        the capture, made once
    WORK/CLIP-HASH-256px-5min/ROW/identity/    what was fitted
                              /ROW/row.json    how, and its figures under each protocol
                              /ROW/PROTOCOL/   side-by-side video and plots
                              /comparison.png, comparison.mp4, comparison.json
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from m2dao.capture.dataset import Capture
from m2dao.capture.prepare import prepare
from m2dao.comparison.ablation import AblationRow
from m2dao.evaluation.evaluate import evaluate
from m2dao.files import file_sha256, whole_file
from m2dao.formats import CAPTURE, CAPTURE_GENERATION, ENGINE_VERSION, EVALUATION_VERSION
from m2dao.training.fit import fit
from m2dao.training.recipes import Recipe
from m2dao.training.universal import UniversalMotion

PROTOCOLS, CROSS = ("paper", "portrait"), "cross"
FIGURES = (
    "psnr_db",
    "ssim",
    "st_lpips",
    "lmd_px",
    "neck_psnr_db",
    "edge_psnr_db",
    "flicker",
    "sync_offset_frames",
    "sync_confidence",
    "jitter_silence",
    "closure_mbp",
    "head_psnr_db",
    "change",
    "recording_change",
    "recording_sync_offset_frames",
    "recording_sync_confidence",
    "recording_jitter_silence",
    "recording_closure_mbp",
    "opening_silence",
    "recording_opening_silence",
    "held_vowel_jitter",
    "recording_held_vowel_jitter",
    "lip_correlation",
)
Progress = Callable[[str, float], None]  # what is done, and the share of it


@dataclass(frozen=True, kw_only=True)
class ComparisonConfig:
    """What every row of a comparison shares.

    Args:
        size: pixels.
        minutes, steps: budget of each fit, one of them; minutes include everything.
        seed: of each fit.
        num_threads: of each fit; all cores if None.
        backend: render backend; the best of this machine if None.
    """

    size: int = 256
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    num_threads: int | None = None
    backend: str | None = None

    @property
    def budget(self) -> str:
        """As a word."""
        return f"{self.minutes:g}min" if self.steps is None else f"{self.steps}steps"


class Comparison:
    """The fits of one recording.

    Args:
        clip: the recording.
        work: folder for everything that is kept.
        config: what the rows share.
        on_progress: told what is being done.
        voice: sound of somebody else, for protocol ``cross``; without it, that is left out.
    """

    def __init__(
        self,
        clip: Path,
        work: Path,
        config: ComparisonConfig,
        on_progress: Progress | None = None,
        *,
        voice: Path | None = None,
    ):
        self.clip, self.config, self.voice = Path(clip), config, voice
        self._tell = on_progress or (lambda what, share: None)
        name = f"{self.clip.stem}-{file_sha256(self.clip)[:8]}"
        self.capture_dir = (
            Path(work) / "captures" / f"{name}-{CAPTURE_GENERATION}"
        )  # one prepared otherwise is made again
        self.folder = Path(work) / f"{name}-{config.size}px-{config.budget}"

    def run(self, rows: tuple[AblationRow, ...]) -> list[dict]:
        """Make the rows that are missing.

        Returns:
            One entry for each row and protocol: name, what, protocol, the figures, steps and seconds of the fit.

        Raises:
            MediaError, CaptureRejected: the recording will not do.
        """
        entries: list[dict] = []
        for row in rows:
            made = self._row(row)
            named = {"name": row.name, "what": row.what}
            entries.extend({**named, "protocol": name, **made[name], **made["fit"]} for name in self._voices)
        return entries

    @functools.cached_property
    def _voices(self) -> dict[str, str | None]:
        """Content hash of the voice that each protocol hears; None hears the recording's own."""
        return dict.fromkeys(PROTOCOLS) | ({CROSS: file_sha256(self.voice)} if self.voice else {})

    @functools.cached_property
    def capture_sha256(self) -> str:
        """Content hash of the capture, which is made if it is missing."""
        if not (self.capture_dir / CAPTURE.manifest).is_file():
            self.capture_dir.parent.mkdir(parents=True, exist_ok=True)
            prepare(
                self.clip, self.capture_dir, on_progress=lambda stage, share: self._tell(f"prepare: {stage}", share)
            )
        return Capture.open(self.capture_dir).content_sha256

    def _row(self, row: AblationRow) -> dict:
        """The stored row if it was made under the same conditions, else a new one."""
        recipe = row.recipe(self.config.size)
        config = self.config if row.minutes is None else replace(self.config, minutes=row.minutes, steps=None)
        how = {
            "engine": ENGINE_VERSION,
            "capture": self.capture_sha256,
            "recipe": asdict(recipe),
            "universal": row.universal.sha256 if row.universal else None,
            **asdict(config),
        }
        key = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()
        folder = self.folder / row.name
        stored = folder / "row.json"
        made = json.loads(stored.read_text()) if stored.is_file() else {}
        if made.get("key") != key:
            made = {"key": key, "fit": self._fit(row.name, recipe, folder, config, row.universal)}
        conditions = {protocol: [EVALUATION_VERSION, voice] for protocol, voice in self._voices.items()}
        before = made.get("evaluated", {})
        missing = [protocol for protocol in conditions if before.get(protocol) != conditions[protocol]]
        if not missing:
            return made
        made |= {protocol: self._figures(row.name, protocol, folder) for protocol in missing}
        made["evaluated"] = before | conditions
        with whole_file(stored) as aside:
            aside.write_text(json.dumps(made, indent=2) + "\n")
        return made

    def _figures(self, name: str, protocol: str, folder: Path) -> dict:
        """What an identity reaches under a protocol."""
        figures = evaluate(
            folder / "identity",
            self.capture_dir,
            protocol,
            audio=self.voice if protocol == CROSS else None,
            out_dir=folder / protocol,
            backend=self.config.backend,
            on_progress=lambda share: self._tell(f"{name}: protocol {protocol}", share),
        ).as_dict()
        return {figure: figures[figure] for figure in FIGURES}

    def _fit(
        self, name: str, recipe: Recipe, folder: Path, config: ComparisonConfig, universal: UniversalMotion | None
    ) -> dict:
        """Steps and seconds of the fit."""
        result = fit(
            self.capture_dir,
            folder / "identity",
            recipe=recipe,
            minutes=config.minutes,
            steps=config.steps,
            seed=config.seed,
            num_threads=config.num_threads,
            backend=config.backend,
            universal=universal,
            on_progress=lambda report: self._tell(f"{name}: {report.describe()}", report.progress),
        )
        num_bytes = sum(file.stat().st_size for file in (folder / "identity").iterdir())
        return {"steps": result.steps, "fit_seconds": round(result.seconds, 1), "bytes": num_bytes}


def mean_rows(comparisons: list[list[dict]]) -> list[dict]:
    """Rows averaged over recordings; a figure that one of them lacks is averaged over the others."""
    out = []
    for entries in zip(*comparisons, strict=True):
        mean = {key: entries[0][key] for key in ("name", "what", "protocol")}
        for figure in (*FIGURES, "steps", "fit_seconds"):
            known = [entry[figure] for entry in entries if entry[figure] is not None]
            mean[figure] = round(sum(known) / len(known), 4) if known else None
        out.append(mean)
    return out


def shortfalls(rows: list[dict], *, of: str = "m2dao") -> list[dict]:
    """How far other rows stay behind one: {name, protocol, psnr_db, head_psnr_db}, negative where they are better."""
    best = {row["protocol"]: row for row in rows if row["name"] == of}
    return [
        {"name": row["name"], "protocol": row["protocol"]}
        | {figure: round(best[row["protocol"]][figure] - row[figure], 3) for figure in ("psnr_db", "head_psnr_db")}
        for row in rows
        if row["name"] != of
    ]


def gains(rows: list[dict], *, ours: str = "m2dao") -> list[dict]:
    """PSNR of ours over each baseline: {over, protocol, psnr_db, head_psnr_db, edge_psnr_db}."""
    by_key = {(row["name"], row["protocol"]): row for row in rows}
    out = []
    for (name, protocol), row in by_key.items():
        mine = by_key.get((ours, protocol))
        if mine is None or protocol == CROSS or not name.startswith("talking_gaussian"):
            continue
        gained = {
            figure: None if None in (mine[figure], row[figure]) else round(mine[figure] - row[figure], 3)
            for figure in ("psnr_db", "head_psnr_db", "edge_psnr_db")
        }
        out.append({"over": name, "protocol": protocol, **gained})
    return out
