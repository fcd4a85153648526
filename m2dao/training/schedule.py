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
    "sound",
)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What is trained in one block of steps.

    ``colors`` stands for the colours of all groups only, ``sound`` for encoders that are learned with the picture.
    """

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
        rising: share of the span at whose start frames come by how far the mouth is open, closed ones first; then all
            come alike.
    """

    until: float
    phases: tuple[Phase, ...]
    block_steps: int = 20
    moving: bool = True
    densify: bool = False
    rising: float = 0.0

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

    def rise_at(self, progress: float) -> float | None:
        """How far the mouths of the frames to take have risen, 0 to 1; None where all frames are taken alike."""
        span = self.span_at(progress)
        begin = max((other.until for other in self.spans if other.until < span.until), default=0.0)
        rise = (progress - begin) / (span.until - begin)
        return rise / span.rising if rise < span.rising else None


_ALL_GAUSSIANS = ("facial.gaussians", "oral.gaussians", "torso.gaussians")
_TORSO = ("torso.gaussians", "torso.field")
_FACIAL = ("facial.gaussians", "facial.field")
_ORAL = ("oral.gaussians", "oral.field")
_PHASES = (Phase(name="facial", trainables=(*_FACIAL, *_TORSO)), Phase(name="oral", trainables=(*_ORAL, *_TORSO)))


_STATIC = Span(until=0.08, phases=(Phase(name="static", trainables=_ALL_GAUSSIANS),), moving=False)
_RISING = 0.3
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
    along, which the paper does not have. Sound that is learned with the picture is learned with the mouth: the face
    finds it ready, as one encoder serves both. Mouth and face first see frames by how far the mouth is open, from a
    window that rises (the paper's incremental sampling). For how long is our choice, as the paper does not say.
    """
    mouth = Phase(name="mouth", trainables=(*_ORAL, *_TORSO, "sound"))
    face = Phase(name="face", trainables=(*_FACIAL, *_TORSO))
    static = Phase(name="static", trainables=_ALL_GAUSSIANS)
    return Schedule(
        spans=(
            Span(until=0.055, phases=(static,), moving=False),
            Span(until=0.48, phases=(mouth,), densify=True, rising=_RISING),
            Span(until=0.91, phases=(face,), densify=True, rising=_RISING),
            _COLORS,
        )
    )
