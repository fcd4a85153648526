"""`m2dao bench quality`: ours against the published design, on the same recordings in the same time."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m2dao.commands.shared import Commands, add_command, add_fit_arguments
from m2dao.files import whole_file
from m2dao.progress import showing

if TYPE_CHECKING:
    from m2dao.comparison.ablation import AblationRow
    from m2dao.comparison.runs import ComparisonConfig

EXAMPLES = """examples:
  m2dao bench quality --clip anna.mp4 --size 256 --minutes 10 --json
  m2dao bench quality --clip anna.mp4 --clip ben.mp4 --minutes 5 --rows talking_gaussian,talking_gaussian_plus,m2dao
  m2dao bench quality --clip anna.mp4 --minutes 5 --rows m2dao          (one row by itself)
  m2dao bench quality --clip anna.mp4 --minutes 2 --minutes 5 --minutes 15 --steps 6000 --json
  m2dao bench quality --presenters 10 --minutes 5 --rows talking_gaussian,talking_gaussian_plus,m2dao --json

Every row is a fit with the same capture, split, minutes, threads, seed and backend. It is evaluated on the validation
part of the recording (the last but one of eleven) and, under protocol `cross`, on the lips it makes to another person's
speech: that of --audio, or a text-to-speech voice of ours. --split test is for figures that you report: choose nothing
by it. A presenter's truth is used if it lies beside the recording. Rows lead from the published design to ours a step
at a time; the last are ours without one of the steps. Results are kept under --work and not made again; delete a row's
folder there to repeat it.

A baseline has no torso of its own: `paper` shows it over the recorded one, `portrait` over that of the training frame
nearest in pose. Two rows may be made at once by two commands with --threads 1 each.

--json prints {clip, size, seconds_per_fit, rows: [{name, protocol, psnr_db, ssim, st_lpips, lmd_px, neck_psnr_db,
edge_psnr_db, flicker, sync_offset_frames, sync_confidence, jitter_silence, closure_mbp, head_psnr_db, closure_ratio,
opening_ratio, ..., ci95}], gains: [{over, protocol, psnr_db, head_psnr_db, edge_psnr_db, ci95}], split, seeds}. Rows
are means over --seeds; with several clips, over the means of the clips, each of which stands under "clips". ci95 holds
half the width of each 95 % interval: over clips if there are several, else over seeds. Gains are taken within each clip
and seed. seconds_per_fit is null with --steps. shares says how much of the gain over talking_gaussian is capture and
how much is method: {protocol, total_db, capture_db, method_db}. With several budgets the first is printed so, and all
of them stand under "budgets".
"""

_SENTENCES = (
    "My brother bought a blue piano from a farmer. Maybe we will move it above the pub before the summer. "
    "Who would have thought that five people could carry it? Pause for a moment, and imagine the music."
)


def add_parser(commands: Commands) -> None:
    parser = add_command(commands, "quality", run, summary="compare recipes on recordings", examples=EXAMPLES)
    parser.add_argument(
        "--clip", type=Path, action="append", default=[], help="a recording; may be given several times"
    )
    parser.add_argument(
        "--presenters", type=int, default=0, metavar="N", help="film so many synthetic people, at most 10, with truth"
    )
    parser.add_argument(
        "--presenter-seconds", type=float, default=20.0, metavar="S", help="length of their films (default 20)"
    )
    parser.add_argument("--minutes", type=float, action="append", help="budget of each fit (10); may be repeated")
    parser.add_argument(
        "--steps", type=int, action="append", help="budget in steps, for comparisons without regard to speed"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from --seed on (default 1)")
    parser.add_argument(
        "--split", choices=("validation", "test"), default="validation", help="part to judge by (validation)"
    )
    parser.add_argument("--rows", help="names separated by commas (default: all)")
    parser.add_argument(
        "--audio", type=Path, help="another person's speech, for protocol cross (default: a synthetic voice)"
    )
    add_fit_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    from m2dao.comparison.ablation import choose_rows
    from m2dao.errors import ConfigError
    from m2dao.evaluation.evaluate import cross_audio

    if args.seeds < 1:
        raise ConfigError("bench quality --seeds", "at least 1", str(args.seeds))
    rows = choose_rows(args.rows.split(",") if args.rows else None)
    voice = args.audio or synthetic_voice(args.work)
    cross_audio(voice)  # refused now, not after the first fit
    clips = [*args.clip, *_presenters(args)]
    if not clips:
        raise ConfigError("bench quality", "--clip or --presenters", "neither")
    budgets = [(minutes, None) for minutes in args.minutes or ()] + [(None, steps) for steps in args.steps or ()]
    results = [_under_budget(clips, rows, voice, args, *budget) for budget in budgets or [(10.0, None)]]
    return results[0] if len(results) == 1 else results[0] | {"budgets": results}


def _presenters(args: argparse.Namespace) -> list[Path]:
    """Films of synthetic people, which are made if they are missing."""
    if not args.presenters:
        return []
    from m2dao.commands.bench.cast import film_cast

    with showing("presenters") as show:
        return film_cast(
            args.work / "presenters", args.presenters, seconds=args.presenter_seconds, size=512, on_progress=show
        )


def _under_budget(
    clips: list[Path],
    rows: tuple[AblationRow, ...],
    voice: Path,
    args: argparse.Namespace,
    minutes: float | None,
    steps: int | None,
) -> dict:
    """The comparison on all recordings under one budget."""
    from m2dao.comparison.statistics import mean_gains, mean_rows, shares_of_gain

    config = _config(args, minutes, steps)
    results = [_of_recording(clip, rows, voice, args, config) for clip in clips]
    if len(results) == 1:
        return results[0]
    units = [result["rows"] for result in results]
    mean = results[0] | {
        "clip": f"mean of {len(results)} recordings",
        "rows": mean_rows(units),
        "gains": (gained := mean_gains(units)),
        "shares": shares_of_gain(gained),
    }
    _report(mean, args.work / f"mean-of-{len(results)}-{args.size}px-{config.budget}", config.budget)
    return mean | {"clips": results}


def _config(args: argparse.Namespace, minutes: float | None, steps: int | None) -> ComparisonConfig:
    from m2dao.comparison.runs import ComparisonConfig

    return ComparisonConfig(
        size=args.size,
        minutes=minutes,
        steps=steps,
        seed=args.seed,
        num_threads=args.threads,
        backend=args.backend,
        split=args.split,
    )


def _of_recording(
    clip: Path, rows: tuple[AblationRow, ...], voice: Path, args: argparse.Namespace, config: ComparisonConfig
) -> dict:
    """The comparison on one recording, over all seeds."""
    from m2dao.comparison.report import side_by_side
    from m2dao.comparison.runs import Comparison
    from m2dao.comparison.statistics import mean_gains, mean_rows, shares_of_gain

    seeds = range(args.seed, args.seed + args.seeds)
    with showing(clip.name) as show:
        comparisons = [Comparison(clip, args.work, replace(config, seed=seed), show, voice=voice) for seed in seeds]
        units = [comparison.run(rows) for comparison in comparisons]
    first, minutes = comparisons[0], comparisons[0].config.minutes
    result = {
        "clip": clip.name,
        "size": args.size,
        "seconds_per_fit": None if minutes is None else 60 * minutes,
        "split": args.split,
        "seeds": list(seeds),
        "rows": mean_rows(units),
        "gains": (gained := mean_gains(units)),
        "shares": shares_of_gain(gained),
    }
    _report(result, first.folder / "comparison", first.config.budget)
    side_by_side({row.name: first.film(row.name, "portrait") for row in rows}, first.folder / "comparison.mp4")
    return result


def synthetic_voice(work: Path) -> Path:
    """A presenter's voice saying what brings lips far apart, together and round: a file that is kept."""
    from m2dao.presenter.voices import speak

    path = work / "voice.wav"
    if not path.is_file():
        with whole_file(path) as aside:
            speak(_SENTENCES, "omar", aside)
    return path


def _report(result: dict, place: Path, budget: str) -> None:
    """Leave a comparison as JSON and as a plot, and show it as a table."""
    from m2dao.comparison.report import bars, gains_table, shares_table, table

    title = f"{result['clip']}, {result['split']} part, {result['size']} px, {budget} for each fit"
    place.with_name(place.name + ".json").write_text(json.dumps(result, indent=2) + "\n")
    place.with_name(place.name + ".png").write_bytes(bars(result["rows"], title))
    tables = table(result["rows"]), gains_table(result["gains"]), shares_table(result["shares"])
    print(f"\n{title} ({place.parent})", *tables, sep="\n", file=sys.stderr)
