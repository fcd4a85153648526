"""Learns universal motion from captures of several people.

The audio encoders are learned first, from everybody's lips at once. Then the fields, in rounds: everybody's fit goes on
from the shared motion for some steps with Gaussians of its own, and the results are averaged. Nobody's pictures are
needed where another's are worked on. So the rounds run in one process or on as many workers as there are people.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from m2dao.capture.dataset import Capture
from m2dao.errors import ConfigError, InputError
from m2dao.figures import rounded
from m2dao.files import whole_file
from m2dao.identity.tensors import save_tensors
from m2dao.kernels.threads import one_torch_thread, set_num_threads
from m2dao.motion.facial import choose_eye_probes
from m2dao.motion.initialization import initialized_by
from m2dao.motion.oral import choose_lip_probes
from m2dao.motion.talking_head import TalkingHead
from m2dao.regions import AROUND_MOUTH
from m2dao.render.api import default_backend
from m2dao.timeline import split_recording
from m2dao.training.budget import FitBudget
from m2dao.training.checkpoint import save_checkpoint
from m2dao.training.loop import take_steps
from m2dao.training.recipes import Recipe, get_recipe
from m2dao.training.setup import set_up_fit
from m2dao.training.speech.articulation import find_articulation_basis, mouth_shapes
from m2dao.training.speech.fit_driver import SpeechStart, fit_speech_driver, speech_config, spoken_recording
from m2dao.training.state import Fit, FitConfig
from m2dao.training.universal import (
    UniversalMotion,
    average_motion,
    install_motion,
    save_universal,
    shared_motion,
)

# Around the landmarks [2, 3] lie hair, ears and throat, and teeth behind the lips; metres, y down, z back.
_HEAD_MARGIN_M = ((-0.05, -0.10, -0.03), (0.05, 0.04, 0.12))
_MOUTH_MARGIN_M = ((-0.02, -0.02, -0.02), (0.02, 0.02, 0.03))
_ROUND_NAME = "round.safetensors"
Progress = Callable[[str, float], None]  # what is being done, and the share of everything done


@dataclass(frozen=True, kw_only=True)
class UniversalConfig:
    """How universal motion is learned.

    Args:
        size: pixels of the pictures it is learned from.
        rounds: how often everybody's motion is averaged.
        steps_per_round: of everybody's fit.
        speech_steps: batches the voice is learned from, at most.
        seed: of everything random.
        backend: render backend; the best of the machine if None.
    """

    size: int = 128
    rounds: int = 12
    steps_per_round: int = 250
    speech_steps: int = 1500
    seed: int = 0
    backend: str | None = None

    def __post_init__(self):
        for name in ("rounds", "steps_per_round", "speech_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"universal {name}", "at least 1", str(getattr(self, name)))

    @property
    def recipe(self) -> Recipe:
        return get_recipe("m2dao", self.size)


@dataclass(frozen=True, kw_only=True)
class UniversalResult:
    """How it went; the JSON of `m2dao universal`."""

    captures: int
    rounds: int
    steps: int
    seconds: float
    speech_held_out_r: float
    psnr_train_db: list[float]  # of everybody's fit at the end, in the order given
    num_bytes: int

    def as_dict(self) -> dict:
        return rounded(asdict(self))


class Learned(NamedTuple):
    """What one person's fit made of a round."""

    motion: dict[str, Tensor]
    psnr_train_db: float


class Learner:
    """One person's part in the rounds, see :func:`make_learner`."""

    def __init__(self, run: Fit, steps_per_round: int):
        self._run, self._steps_per_round = run, steps_per_round

    def learn(self, motion: dict[str, Tensor], round_number: int) -> Learned:
        """Go on from shared motion to the end of a round, also from within one that was interrupted."""
        start = round_number * self._steps_per_round
        if self._run.step <= start:
            install_motion(self._run.head, motion)
            self._run.runner.new_phase()
        with one_torch_thread():
            take_steps(self._run, start + self._steps_per_round)
        save_checkpoint(self._run)
        return Learned(shared_motion(self._run.head), self._run.recent_psnr_db)


def make_learner(capture_dir: Path, work_dir: Path, config: UniversalConfig, universal: UniversalMotion) -> Learner:
    """Set up the fit of one person.

    Args:
        capture_dir: that person's capture.
        work_dir: for step checkpoints; a learner stopped before goes on from there.
        config: of the whole.
        universal: the start.
    """
    asked = FitConfig(
        capture_dir=Path(capture_dir),
        recipe=config.recipe,
        budget=FitBudget(steps=config.rounds * config.steps_per_round),
        seed=config.seed,
        work_dir=work_dir,
        backend=config.backend or default_backend(),
        universal=universal,
    )
    with one_torch_thread():
        return Learner(set_up_fit(asked), config.steps_per_round)


class Learners(Protocol):
    """Everybody, wherever they are."""

    def learn(self, motion: dict[str, Tensor], round_number: int) -> Iterator[Learned]:
        """Everybody's part of a round, in the order of the captures, each as soon as it is there."""


@contextmanager
def learners_here(
    captures: list[Path], work_dir: Path, config: UniversalConfig, universal: UniversalMotion
) -> Iterator[Learners]:
    """All learners in this process, one after the other."""
    made = [make_learner(path, work_dir / f"{number}", config, universal) for number, path in enumerate(captures)]

    class Here:
        def learn(self, motion: dict[str, Tensor], round_number: int) -> Iterator[Learned]:
            return (learner.learn(motion, round_number) for learner in made)

    yield Here()


def learn_universal(
    captures: list[Path],
    out_dir: Path,
    config: UniversalConfig,
    *,
    work_dir: Path | None = None,
    num_threads: int | None = None,
    gather: Callable = learners_here,
    on_progress: Progress | None = None,
) -> UniversalResult:
    """Learn universal motion and write it.

    Args:
        captures: folders made by ``prepare``, of different people.
        out_dir: where the universal motion goes.
        config: how.
        work_dir: for what is needed to go on after an interruption; ``<out_dir>.learn`` if None.
        num_threads: all cores if None.
        gather: makes the learners: a context manager with the arguments of :func:`learners_here`.
        on_progress: told what is being done.

    Raises:
        InputError: fewer than two captures, or one of them twice.
        CaptureCorrupt, CaptureRejected: a capture cannot be used.
    """
    started, tell = time.monotonic(), on_progress or (lambda what, share: None)
    set_num_threads(num_threads)
    work_dir = Path(work_dir) if work_dir else Path(out_dir).with_name(Path(out_dir).name + ".learn")
    work_dir.mkdir(parents=True, exist_ok=True)
    opened = [Capture.open(path) for path in captures]
    _check_different(captures, opened)
    with one_torch_thread():
        universal, held_out_r = _begin(opened, config, lambda share: tell("learning the voice", 0.2 * share))
    done, motion = _restore(work_dir, universal)
    psnr_db = [math.nan] * len(opened)
    with gather([Path(path) for path in captures], work_dir, config, universal) as learners:
        for number in range(done, config.rounds):
            learned = []
            for part in learners.learn(motion, number):
                learned.append(part)
                share = (number + len(learned) / len(opened)) / config.rounds
                tell(f"round {number + 1} of {config.rounds}", 0.2 + 0.8 * share)
            motion = average_motion([part.motion for part in learned])
            psnr_db = [part.psnr_train_db for part in learned]
            _save_round(work_dir, number + 1, motion, universal)
    universal = universal._replace(motion=motion)
    save_universal(out_dir, universal)
    return UniversalResult(
        captures=len(opened),
        rounds=config.rounds,
        steps=config.rounds * config.steps_per_round,
        seconds=time.monotonic() - started,
        speech_held_out_r=held_out_r,
        psnr_train_db=psnr_db,
        num_bytes=sum(file.stat().st_size for file in Path(out_dir).iterdir()),
    )


def _check_different(paths: list[Path], captures: list[Capture]) -> None:
    if len(captures) < 2:
        raise InputError(
            "universal motion", "captures of two people or more", str(len(captures)), "prepare more recordings"
        )
    seen: dict[str, Path] = {}
    for path, capture in zip(paths, captures, strict=True):
        if (other := seen.get(capture.content_sha256)) is not None:
            raise InputError(str(path), "every capture once", f"the same as {other}", "name it once")
        seen[capture.content_sha256] = path


def _begin(
    captures: list[Capture], config: UniversalConfig, tell: Callable[[float], None]
) -> tuple[UniversalMotion, float]:
    """A voice learned from all of them, and motion at rest; and how well the voice predicts held-out lips."""
    recipe = config.recipe
    num_train = [len(split_recording(capture.num_frames).train) for capture in captures]
    speech = speech_config(captures[0], recipe)
    shapes = [mouth_shapes(capture)[:num] for capture, num in zip(captures, num_train, strict=True)]
    basis = find_articulation_basis(shapes, speech.embedding_size)
    recordings = [
        spoken_recording(capture, speech, num, basis) for capture, num in zip(captures, num_train, strict=True)
    ]
    voice = fit_speech_driver(speech, recordings, seed=config.seed, num_steps=config.speech_steps, on_progress=tell)
    template = torch.stack([torch.from_numpy(capture.canonical_landmarks).float() for capture in captures]).mean(0)
    boxes = {
        "head": _around(template, _HEAD_MARGIN_M),
        "mouth": _around(template[list(AROUND_MOUTH)], _MOUTH_MARGIN_M),
    }
    with initialized_by(config.seed):
        at_rest = TalkingHead(
            recipe.model,
            {},
            head_box=boxes["head"],
            mouth_box=boxes["mouth"],
            torso_box=boxes["head"],
            lip_probes=choose_lip_probes(template),
            eye_probes=choose_eye_probes(template),
            reference_viewmat=torch.eye(4),
        )
    sources = [capture.content_sha256 for capture in captures]
    start = SpeechStart(voice.driver, basis)
    return UniversalMotion(recipe.model, start, template, boxes, shared_motion(at_rest), sources), voice.held_out_r


def _around(points: Tensor, margin_m: tuple) -> Tensor:
    return torch.stack([points.amin(0), points.amax(0)]) + torch.tensor(margin_m)


def _save_round(work_dir: Path, number: int, motion: dict[str, Tensor], universal: UniversalMotion) -> None:
    """Keep the shared motion after a round; the former one stays until it is whole."""
    with whole_file(work_dir / _ROUND_NAME) as aside:
        save_tensors(motion, aside, metadata={"round": json.dumps({"number": number, "start": universal.sha256})})


def _restore(work_dir: Path, universal: UniversalMotion) -> tuple[int, dict[str, Tensor]]:
    """Rounds done before, and the shared motion after them; none where they began otherwise."""
    path = work_dir / _ROUND_NAME
    if path.is_file():
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("round", "{}"))
        if meta.get("start") == universal.sha256:
            return int(meta["number"]), load_file(path)
    return 0, universal.motion
