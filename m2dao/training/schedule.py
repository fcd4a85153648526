"""The schedule of a fit, as data: until when which parameters are trained.

Progress runs from 0 to 1 over a fit, whether its budget is steps or minutes. Within a span the phases follow
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
class Phase:
    """What is trained in one block of steps; ``colors`` stands for the colours of all groups only."""

    name: str
    trainables: tuple[str, ...]

    def __post_init__(self):
        unknown = [name for name in self.trainables if name not in TRAINABLES]
        if unknown or not self.trainables:
            raise ConfigError(f"phase {self.name!r}", f"trainables among {', '.join(TRAINABLES)}", str(self.trainables))


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of the fit's progress.

    Args:
        until: progress at which the span ends.
        phases: taken one after another, again and again, if more than one.
        block_steps: steps before the next phase.
        moving: whether non-rigid motion is on.
        densify: whether Gaussians grow and are pruned.
    """

    until: float
    phases: tuple[Phase, ...]
    block_steps: int = 20
    moving: bool = True
    densify: bool = False

    def phase_at(self, step: int) -> Phase:
        """The phase of a step."""
        return self.phases[(step // self.block_steps) % len(self.phases)]

    def trains(self, group: str) -> bool:
        """Whether a phase of this span trains the Gaussians of a group: only these may grow or be pruned."""
        return any(f"{group}.gaussians" in phase.trainables for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Spans in order; the last ends at 1."""

    spans: tuple[Span, ...]

    def __post_init__(self):
        ends = [span.until for span in self.spans]
        if not ends or ends != sorted(ends) or ends[-1] != 1.0:
            raise ConfigError("schedule", "spans with rising ends, the last at 1.0", str(ends))

    def span_at(self, progress: float) -> Span:
        """The span in force."""
        return next(span for span in self.spans if progress < span.until or span is self.spans[-1])


_ALL_GAUSSIANS = ("facial.gaussians", "oral.gaussians", "torso.gaussians")
_TORSO = ("torso.gaussians", "torso.field")
_FACIAL = ("facial.gaussians", "facial.field")
_ORAL = ("oral.gaussians", "oral.field")
_PHASES = (Phase(name="facial", trainables=(*_FACIAL, *_TORSO)), Phase(name="oral", trainables=(*_ORAL, *_TORSO)))


_STATIC = Span(until=0.08, phases=(Phase(name="static", trainables=_ALL_GAUSSIANS),), moving=False)
_COLORS = Span(until=1.0, phases=(Phase(name="color", trainables=("colors",)),))


def alternating_schedule() -> Schedule:
    """M2DAO-Talker's: a static warm-up, alternating motion with the torso, colours."""
    return Schedule(
        spans=(_STATIC, Span(until=0.65, phases=_PHASES, densify=True), Span(until=0.9, phases=_PHASES), _COLORS)
    )


def refining_schedule() -> Schedule:
    """Ours: all motion together while Gaussians grow, alternating to refine, together to the end.

    A phase leaves half of the motion's parameters where they are: alternating from the start costs a fit of minutes
    half of its steps. Once the Gaussians have their places, it refines as well as anything else. Colours by themselves
    at the end overfit to the frames seen last; with face and mouth going on, frames never seen come out better. The
    torso is done when Gaussians have grown: beyond that it overfits to how shoulders happened to sit.
    """
    growing = Span(until=0.65, phases=(Phase(name="joint", trainables=(*_FACIAL, *_ORAL, *_TORSO)),), densify=True)
    phases = (Phase(name="facial", trainables=_FACIAL), Phase(name="oral", trainables=_ORAL))
    together = (Phase(name="face", trainables=(*_FACIAL, *_ORAL)),)
    return Schedule(spans=(_STATIC, growing, Span(until=0.85, phases=phases), Span(until=1.0, phases=together)))


def sequential_schedule() -> Schedule:
    """TalkingGaussian's: a static warm-up, the whole mouth, the whole face, then colours on the composite.

    The shares are the paper's: 50k steps each for mouth and face, 3k of them static, and 10k for colours. A torso goes
    along, which the paper does not have.
    """
    mouth = Phase(name="mouth", trainables=(*_ORAL, *_TORSO))
    face = Phase(name="face", trainables=(*_FACIAL, *_TORSO))
    static = Phase(name="static", trainables=_ALL_GAUSSIANS)
    return Schedule(
        spans=(
            Span(until=0.055, phases=(static,), moving=False),
            Span(until=0.48, phases=(mouth,), densify=True),
            Span(until=0.91, phases=(face,), densify=True),
            _COLORS,
        )
    )
