"""Did behaviour change between two commits? Runs both on this machine and compares what they make.

Each commit films a synthetic presenter, prepares a capture of it, fits an identity by each recipe (seed 0, one thread),
lets it speak 50 frames and more, and measures it. Everything goes through the command line, so it does not matter where
a commit keeps its files.

examples:
  python -m benchmarks.compare_commits main HEAD
  python -m benchmarks.compare_commits main HEAD --recipes m2dao --steps 100      a first look, in a third of the time
  python -m benchmarks.compare_commits main $(git stash create)                   with what is not committed yet
  python -m benchmarks.compare_commits main HEAD --isolate                        which stage is it that changed?
  python -m benchmarks.compare_commits HEAD HEAD --fresh                          does one commit make the same twice?

How to read the result:
  A pure move makes the same bytes: every row is equal.
  A change in the order of calculations may differ. Then frames should stay within 1 grey level and PSNR within 0.05 dB.
  Stages feed each other, so read the first row that differs. With --isolate, NEW works on what OLD has made before each
  stage, and every row is the doing of its own stage.
  A fit magnifies: last bits of a few opacities became 35 grey levels in the worst pixel after 300 steps.

What a commit has made is kept in --work and used again, for the same processor, packages and options.
Exit codes: 0 equal, 1 different, 2 bad usage, 3 a command of a commit failed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.differences import Comparison, compare

PRESENTER, SPEAKER = "mira", "omar"
SENTENCE = "Nobody has ever met me."  # 59 frames
PROTOCOLS = ("paper", "portrait")
BACKEND = ("--backend", "cpu")
MAX_GREY_LEVELS, MAX_DB = 1.0, 0.05  # what a change in the order of calculations may cost
MAX_FILES_SHOWN = 6
# Results depend on them; on others of our packages they should not.
CALCULATING = (
    "ai-edge-litert",
    "av",
    "ctranslate2",
    "gsplat",
    "librosa",
    "llvmlite",
    "matplotlib",
    "numba",
    "numpy",
    "onnxruntime",
    "opencv-python",
    "pillow",
    "safetensors",
    "scikit-learn",
    "scipy",
    "torch",
)
# Runs the command line of the checkout on PYTHONPATH, though an editable install offers a package of the same name.
START = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
import m2dao
assert m2dao.__file__.startswith(sys.argv[1]), m2dao.__file__
del sys.argv[1]
runpy.run_module("m2dao.cli", run_name="__main__", alter_sys=True)
"""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class CommandFailed(Exception):
    """A command of one of the commits ended with an error."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What each commit does; sizes are small, because all that is compared is whether it does the same."""

    recipes: tuple[str, ...]
    steps: int = 300
    seconds: float = 8.0
    film_size: int = 256
    size: int = 128

    def stages(self, inputs: Path) -> dict[str, list[str | Path]]:
        """The command of each stage in order, run where ``STAGE/`` is the place for what it makes.

        Args:
            inputs: folder of the run whose results the stages start from.
        """
        film = ["--person", PRESENTER, "--seconds", self.seconds, "--size", self.film_size, "--seed", 0]
        capture, speech = inputs / "capture", inputs / "speech" / f"{SPEAKER}.wav"
        stages = {
            "recording": ["presenter", "--out", "recording", *film],
            "speech": ["presenter", "--out", "speech", "--person", SPEAKER, "--speech-only", "--sentence", SENTENCE],
            "capture": [
                "prepare",
                inputs / "recording" / f"{PRESENTER}.mp4",
                "--out",
                "capture",
                "--size",
                self.film_size,
            ],
        }
        for recipe in self.recipes:
            fit, identity = f"{recipe}/fit", inputs / recipe / "fit" / "identity"
            budget = ["--recipe", recipe, "--size", self.size, "--steps", self.steps, "--seed", 0, "--threads", 1]
            places = ["--out", f"{fit}/identity", "--work-dir", f"{fit}/progress"]
            speak = ["render", identity, "--audio", speech, "--seed", 0, *BACKEND, "--out"]
            stages[fit] = ["fit", capture, *places, *budget, *BACKEND]
            stages[f"{recipe}/frames"] = [*speak, f"{recipe}/frames", "--background", "transparent"]
            stages[f"{recipe}/video"] = [*speak, f"{recipe}/video/video.mp4"]
            for protocol in PROTOCOLS:
                stages[f"{recipe}/{protocol}"] = ["evaluate", identity, capture, "--protocol", protocol, *BACKEND]
        return stages


class WorkFolder:
    """A folder with the files of commits and what they have made.

    Args:
        folder: trees/COMMIT/ files; kernels/COMMIT/ compiled code; runs/COMMIT-CONDITIONS/ results, answers and logs.
        repository: where commits come from.
    """

    def __init__(self, folder: Path, repository: Path):
        self.folder, self.repository = folder.resolve(), repository

    def commit(self, name: str) -> str | None:
        """The full name of a commit, or None if there is none of this name."""
        found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return found.stdout.decode().strip() or None

    def run(self, commit: str, plan: Plan, *, fresh: bool = False, inputs: Path | None = None) -> Path:
        """The folder with what a commit makes; only stages that are not there yet are run.

        Args:
            commit: full name.
            plan: what is made.
            fresh: make all of it anew.
            inputs: the run of another commit; each stage starts from what that one has made before it.

        Raises:
            CommandFailed: with the last lines of what the command said.
        """
        conditions = conditions_of(plan)
        key = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:12]
        run = self.folder / "runs" / (f"{commit[:12]}-{key}" + (f"-from-{inputs.name}" if inputs else ""))
        run.mkdir(parents=True, exist_ok=True)
        tree = self._checkout(commit)
        who = commit[:12] + (f" from what {inputs.name[:12]} has made" if inputs else "")
        with _only_one(run):
            (run / "conditions.json").write_text(json.dumps(conditions, indent=1) + "\n")
            for stage, command in plan.stages(inputs or run).items():
                answer = run / "answers" / f"{stage}.json"
                if fresh or not answer.is_file():
                    seconds = self._make(run, stage, command, tree)
                    _say(f"{who}: {stage}, {seconds:.1f} s")
        return run

    def _checkout(self, commit: str) -> Path:
        """The files of a commit. They are no git worktree, which the repository would have to remember."""
        tree = self.folder / "trees" / commit
        with _only_one(tree.with_name(f"{commit}.lock")):
            if not tree.is_dir():
                archive = self._git("archive", commit)
                aside = tree.with_name(f".{commit}")
                shutil.rmtree(aside, ignore_errors=True)
                with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
                    files.extractall(aside, filter="data")
                aside.rename(tree)
        return tree

    def _git(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", "-C", self.repository, *words], stdout=subprocess.PIPE)

    def _make(self, run: Path, stage: str, command: list[str | Path], tree: Path) -> float:
        """Run the command of a stage and keep its answer, which marks the stage as done; returns seconds."""
        made, answer, log = run / stage, run / "answers" / f"{stage}.json", run / "logs" / f"{stage}.txt"
        shutil.rmtree(made, ignore_errors=True)
        answer.unlink(missing_ok=True)
        for folder in (made, answer.parent, log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        kernels = self.folder / "kernels" / tree.name
        # Hashes of texts differ between processes unless a seed is given, and with them the order of sets.
        environ = (
            os.environ | ONE_THREAD | {"PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(kernels), "PYTHONHASHSEED": "0"}
        )
        began = time.monotonic()
        with log.open("w") as said:
            words = [sys.executable, "-c", START, tree, *map(str, command), "--json"]
            done = subprocess.run(
                words, cwd=run, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True
            )
        if done.returncode:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise CommandFailed(
                f"m2dao {' '.join(map(str, command))}\nof {tree.name} ended with {done.returncode}:\n{last}"
            )
        seconds = time.monotonic() - began
        answer.write_text(
            json.dumps({"seconds": round(seconds, 1), "answer": json.loads(done.stdout)}, indent=1) + "\n"
        )
        return seconds


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage as both commits have done it.

    Attributes:
        psnr_db: of both; NaN where it is not measured.
    """

    stage: str
    found: Comparison
    psnr_db: tuple[float, float]

    @property
    def equal(self) -> bool:
        return not self.found.differences

    @property
    def measures_psnr(self) -> bool:
        return not all(map(math.isnan, self.psnr_db))

    @property
    def within_limits(self) -> bool:
        """Whether what a viewer sees and what is measured of it is as good as the same."""
        if self.stage.endswith("/frames"):
            return self.found.grey_levels is not None and self.found.grey_levels <= MAX_GREY_LEVELS
        return not self.measures_psnr or abs(self.psnr_db[1] - self.psnr_db[0]) <= MAX_DB  # NaN is beyond all limits

    def as_dict(self) -> dict:
        found = {"found": self.found.as_dict(), "psnr_db": self.psnr_db if self.measures_psnr else None}
        return asdict(self) | found | {"equal": self.equal, "within_limits": self.within_limits}

    def lines(self) -> list[str]:
        """For the table: what is in both, then how it differs."""
        old, new = self.found.old_sha256[:12], self.found.new_sha256[:12]
        first = f"{self.stage:<30} {old}  {new}  {'equal' if self.equal else 'DIFFERS'}, {self.found.num_files} files"
        if self.measures_psnr:
            first += f", PSNR {self.psnr_db[0]:.4f} and {self.psnr_db[1]:.4f} dB"
        if self.found.grey_levels and self.stage.endswith("/frames"):
            first += f", by up to {self.found.grey_levels:.3g} grey levels"
        items = list(self.found.differences.items())
        more = [f"    and {len(items) - MAX_FILES_SHOWN} files more"] if len(items) > MAX_FILES_SHOWN else []
        return [first, *(f"    {name}: {difference.text}" for name, difference in items[:MAX_FILES_SHOWN]), *more]


def compare_runs(old: Path, new: Path, plan: Plan) -> list[Row]:
    """What differs between two runs, stage by stage."""
    rows = []
    for stage in plan.stages(old):
        answer = f"answers/{stage}.json"
        found = compare(old, new, [stage, answer], over_grey=stage.endswith("/frames"))
        before, after = (
            json.loads((run / answer).read_text())["answer"].get("psnr_db", math.nan) for run in (old, new)
        )
        rows.append(Row(stage=stage, found=found, psnr_db=(before, after)))
    return rows


def verdict_on(rows: list[Row]) -> str:
    """The result in one line."""
    changed = [row.stage for row in rows if not row.equal]
    if not changed:
        return "EQUAL: both commits make the same bytes"
    beyond = [row.stage for row in rows if not row.within_limits]
    limits = f"{MAX_GREY_LEVELS:g} grey level and {MAX_DB} dB"
    where = f"beyond {limits} in {', '.join(beyond)}" if beyond else f"within {limits}"
    return f"DIFFERENT, {where}; the first stage that differs is {changed[0]}"


def conditions_of(plan: Plan) -> dict:
    """Everything besides the commit that decides what a run makes."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return {
        "plan": asdict(plan) | {"recipes": None},  # recipes do not depend on each other
        "sentence": [SPEAKER, SENTENCE],
        "processor": [platform.machine(), llvm.get_host_cpu_name(), features],
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in CALCULATING},
    }


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Let one process at a time work in a folder, or on what a lock file stands for; others wait."""
    lock = path / ".lock" if path.is_dir() else path
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_commits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", help="commit, branch or tag")
    parser.add_argument("new", help="the one to compare with it")
    parser.add_argument("--recipes", metavar="A,B", help="recipes to fit by (default: all of them)")
    parser.add_argument("--steps", type=int, default=Plan.steps, help=f"steps of each fit (default: {Plan.steps})")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where results are kept (default: out/compare-commits)"
    )
    parser.add_argument("--isolate", action="store_true", help="NEW starts each stage from what OLD has made")
    parser.add_argument("--fresh", action="store_true", help="make everything anew")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Compare two commits; returns the exit code."""
    from m2dao.training.recipes import RECIPES

    parser, repository = _parser(), Path(__file__).parents[1]
    args = parser.parse_args(argv)
    recipes = tuple(args.recipes.split(",")) if args.recipes else tuple(RECIPES)
    if unknown := set(recipes) - set(RECIPES):
        parser.error(f"recipe {min(unknown)!r} is none of {', '.join(RECIPES)}")
    plan = Plan(recipes=recipes, steps=args.steps)
    place = WorkFolder(args.work or repository / "out/compare-commits", repository)
    old, new = place.commit(args.old), place.commit(args.new)
    if not (old and new):
        parser.error(f"there is no commit {args.new if old else args.old!r}")
    try:
        old_run = place.run(old, plan, fresh=args.fresh)
        # A commit compared with itself runs again; a stage that makes the same of the same will do so in a chain too.
        second = old_run if args.isolate or old == new else None
        new_run = place.run(new, plan, fresh=args.fresh, inputs=second)
    except CommandFailed as error:
        _say(str(error))
        return 3
    rows = compare_runs(old_run, new_run, plan)
    verdict, equal = verdict_on(rows), all(row.equal for row in rows)
    if args.json:
        about = {"old": old, "new": new, "equal": equal, "verdict": verdict}
        print(json.dumps(about | {"rows": [row.as_dict() for row in rows]}))
    else:
        print(f"{'stage':<30} {old[:12]}  {new[:12]}")
        print("\n".join(line for row in rows for line in row.lines()))
        print(verdict)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
