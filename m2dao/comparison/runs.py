"""Fits several recipes to one recording in the same budget, and evaluates them alike.

Everything is kept, so that a comparison goes on where it was interrupted and a row may be made by itself:

    WORK/captures/CLIP-HASH-GENERATION/        the capture, made once
    WORK/CLIP-HASH-256px-5min/ROW/seed-0/identity/         what was fitted
                                        /row.json          how, and its figures on each part under each protocol
                                        /SPLIT/PROTOCOL/   side-by-side video and plots
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
    "closure_ratio",
    "closure_precision",
    "opening_ratio",
    "truth_closure",
    "truth_opening_error",
    "truth_opening_silence",
    "truth_jitter_silence",
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
        split: part of the recording that rows are judged on.
    """

    size: int = 256
    minutes: float | None = None
    steps: int | None = None
    seed: int = 0
    num_threads: int | None = None
    backend: str | None = None
    split: str = "validation"

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

    A presenter's truth is looked for beside its recording, as NAME.truth.safetensors.
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
        self.clip, self.config, self.voice = clip, config, voice
        self._work, self._tell = work, on_progress or (lambda what, share: None)

    @functools.cached_property
    def _name(self) -> str:
        """Of the recording, in all paths."""
        return f"{self.clip.stem}-{file_sha256(self.clip)[:8]}"

    @property
    def capture_dir(self) -> Path:
        """Folder of the capture; one that was prepared in another way is made again."""
        return self._work / "captures" / f"{self._name}-{CAPTURE_GENERATION}"

    @property
    def folder(self) -> Path:
        """Folder of the rows and of what compares them."""
        return self._work / f"{self._name}-{self.config.size}px-{self.config.budget}"

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
            named, figures = {"name": row.name, "what": row.what}, made["figures"][self.config.split]
            entries.extend({**named, "protocol": name, **figures[name], **made["fit"]} for name in self._voices)
        return entries

    @functools.cached_property
    def _voices(self) -> dict[str, str | None]:
        """Content hash of the voice that each protocol hears; None hears the recording's own."""
        return dict.fromkeys(PROTOCOLS) | ({CROSS: file_sha256(self.voice)} if self.voice else {})

    @property
    def _truth(self) -> Path:
        return self.clip.with_suffix(".truth.safetensors")

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
            **{name: value for name, value in asdict(config).items() if name != "split"},
        }
        key = hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()
        folder = self.row_folder(row.name)
        stored = folder / "row.json"
        made = json.loads(stored.read_text()) if stored.is_file() else {}
        if made.get("key") != key:
            made = {"key": key, "fit": self._fit(row.name, recipe, folder, config, row.universal)}
            _write(stored, made)
        split = self.config.split
        evaluated = made.setdefault("evaluated", {}).setdefault(split, {})
        figures = made.setdefault("figures", {}).setdefault(split, {})
        for protocol, voice in self._voices.items():
            condition = [EVALUATION_VERSION, voice]
            if evaluated.get(protocol) != condition:
                figures[protocol] = self._figures(row.name, protocol, folder)
                evaluated[protocol] = condition
                _write(stored, made)
        return made

    def film(self, name: str, protocol: str) -> Path:
        """The side-by-side video of a row."""
        return self.row_folder(name) / self.config.split / protocol / "side_by_side.mp4"

    def row_folder(self, name: str) -> Path:
        """Where a row of this seed is kept."""
        return self.folder / name / f"seed-{self.config.seed}"

    def _figures(self, name: str, protocol: str, folder: Path) -> dict:
        """What an identity reaches under a protocol."""
        figures = evaluate(
            folder / "identity",
            self.capture_dir,
            protocol,
            split=self.config.split,
            audio=self.voice if protocol == CROSS else None,
            truth=self._truth if protocol != CROSS and self._truth.is_file() else None,
            out_dir=folder / self.config.split / protocol,
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


def _write(path: Path, made: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as aside:
        aside.write_text(json.dumps(made, indent=2) + "\n")
