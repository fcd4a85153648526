"""The schedule of a fit, as data: which phase, until when, what is trained.

Progress runs from 0 to 1 over a fit, whether its budget is steps or minutes. Within an alternating row the turns follow
each other in blocks of steps, each with the other's parameters frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2dao.errors import ConfigError

TRAINABLES = (
    "facial.gaussians",
    "facial.field",
    "oral.gaussians",
    "oral.field",
    "torso.gaussians",
    "torso.field",
    "colors",
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What is trained in one block of steps; ``colors`` stands for the colours of all groups only."""

    name: str
    trainables: tuple[str, ...]

    def __post_init__(self):
        unknown = [name for name in self.trainables if name not in TRAINABLES]
        if unknown or not self.trainables:
            raise ConfigError(f"turn {self.name!r}", f"trainables among {', '.join(TRAINABLES)}", str(self.trainables))


@dataclass(frozen=True, kw_only=True)
class PhaseRow:
    """One row of the schedule.

    Args:
        until: progress at which the row ends.
        turns: taken in turns if more than one.
        block_steps: steps of one turn.
        moving: whether non-rigid motion is on.
        densify: whether Gaussians grow and are pruned.
    """

    until: float
    turns: tuple[Turn, ...]
    block_steps: int = 20
    moving: bool = True
    densify: bool = False

    def turn_at(self, step: int) -> Turn:
        """The turn of a step."""
        return self.turns[(step // self.block_steps) % len(self.turns)]

    def trains(self, group: str) -> bool:
        """Whether a turn of this row trains the Gaussians of a group: only these may grow or be pruned."""
        return any(f"{group}.gaussians" in turn.trainables for turn in self.turns)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Rows in order; the last ends at 1."""

    rows: tuple[PhaseRow, ...]

    def __post_init__(self):
        ends = [row.until for row in self.rows]
        if not ends or ends != sorted(ends) or ends[-1] != 1.0:
            raise ConfigError("schedule", "rows with rising ends, the last at 1.0", str(ends))

    def row_at(self, progress: float) -> PhaseRow:
        """The row in force."""
        return next(row for row in self.rows if progress < row.until or row is self.rows[-1])


_ALL_GAUSSIANS = ("facial.gaussians", "oral.gaussians", "torso.gaussians")
_TORSO = ("torso.gaussians", "torso.field")
_FACIAL = ("facial.gaussians", "facial.field")
_ORAL = ("oral.gaussians", "oral.field")
_TURNS = (Turn(name="facial", trainables=(*_FACIAL, *_TORSO)), Turn(name="oral", trainables=(*_ORAL, *_TORSO)))


_STATIC = PhaseRow(until=0.08, turns=(Turn(name="static", trainables=_ALL_GAUSSIANS),), moving=False)
_COLORS = PhaseRow(until=1.0, turns=(Turn(name="color", trainables=("colors",)),))


def alternating_schedule() -> Schedule:
    """M2DAO-Talker's: a static warm-up, facial and oral motion in turns with the torso, then colours."""
    return Schedule(
        rows=(_STATIC, PhaseRow(until=0.65, turns=_TURNS, densify=True), PhaseRow(until=0.9, turns=_TURNS), _COLORS)
    )


def refining_schedule() -> Schedule:
    """Ours: facial and oral motion together while Gaussians grow, in turns to refine, together to the end.

    A turn leaves half of the motion's parameters where they are: turns from the start cost a fit of minutes half of its
    steps. Once the Gaussians have their places, turns refine as well as anything else. Colours by themselves at the end
    overfit to the frames seen last; with face and mouth going on, frames never seen come out better. The torso is done
    when Gaussians have grown: beyond that it overfits to how shoulders happened to sit.
    """
    growing = PhaseRow(until=0.65, turns=(Turn(name="joint", trainables=(*_FACIAL, *_ORAL, *_TORSO)),), densify=True)
    turns = (Turn(name="facial", trainables=_FACIAL), Turn(name="oral", trainables=_ORAL))
    together = (Turn(name="face", trainables=(*_FACIAL, *_ORAL)),)
    return Schedule(rows=(_STATIC, growing, PhaseRow(until=0.85, turns=turns), PhaseRow(until=1.0, turns=together)))


def sequential_schedule() -> Schedule:
    """TalkingGaussian's: a static warm-up, the whole mouth, the whole face, then colours on the composite.

    The shares are the paper's: 50k steps each for mouth and face, 3k of them static, and 10k for colours. A torso goes
    along, which the paper does not have.
    """
    mouth = Turn(name="mouth", trainables=(*_ORAL, *_TORSO))
    face = Turn(name="face", trainables=(*_FACIAL, *_TORSO))
    static = Turn(name="static", trainables=_ALL_GAUSSIANS)
    return Schedule(
        rows=(
            PhaseRow(until=0.055, turns=(static,), moving=False),
            PhaseRow(until=0.48, turns=(mouth,), densify=True),
            PhaseRow(until=0.91, turns=(face,), densify=True),
            _COLORS,
        )
    )
