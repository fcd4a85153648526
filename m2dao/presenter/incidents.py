"""What may go wrong in a recording, made on purpose: hands, microphones, glare, cuts, other voices.

An incident changes a planned take (what the presenter does, and the sound) or the pictures of it, and knows in which
frames. Lengths in pictures are in distances of the outer eye corners, which the presenter's landmarks give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from m2dao.errors import ConfigError
from m2dao.presenter import expressions, scene
from m2dao.presenter.people import Person
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME

Span = tuple[int, int]  # first frame, and the frame after the last
_LIDS = [expressions.CONTROLS.index(name) for name in ("lids_left", "lids_right")]


@dataclass
class Take:
    """A performance before it is drawn. States [T], waveform float32 [S]; incidents change both."""

    states: list[scene.FrameState]
    waveform: np.ndarray
    other_voice: np.ndarray  # float32 [S], somebody else's speech
    rng: np.random.Generator
    spans: dict[str, list[Span]] = field(default_factory=dict)

    def span(self, name: str, begin_share: float, length_s: float) -> Span:
        """Note that an incident happens, from a share of the take on."""
        begin = round(begin_share * len(self.states))
        span = begin, min(begin + round(length_s * FRAME_RATE), len(self.states))
        self.spans.setdefault(name, []).append(span)
        return span


@dataclass(frozen=True, kw_only=True)
class Incident:
    """One kind of thing that may go wrong.

    Attributes:
        finding: kind of the finding that a quality report owes; None where it owes none.
        act: changes a take before it is drawn.
        draw: changes a picture uint8 [H, W, 3] in place, in the frames of the spans that ``act`` noted. It is given the
            frame's landmarks by name, and how far the incident is, 0..1 over its span.
        person: changes who is filmed.
    """

    finding: str | None
    act: Callable[[Take], None] | None = None
    draw: Callable[[np.ndarray, dict[str, np.ndarray], float], None] | None = None
    person: Callable[[Person], Person] | None = None


def get_incident(name: str) -> Incident:
    """The incident called ``name``.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in INCIDENTS:
        raise ConfigError(f"incident {name!r}", f"one of {', '.join(INCIDENTS)}", "an unknown name")
    return INCIDENTS[name]


def draw_incidents(
    names: Sequence[str], spans: dict[str, list[Span]], index: int, rgb: np.ndarray, landmarks: np.ndarray
) -> None:
    """Draw into frame ``index`` whatever happens in it."""
    named = dict(zip(scene.Scene.LANDMARKS, landmarks.astype(np.float64), strict=True))
    for name in names:
        draw = get_incident(name).draw
        for begin, end in spans.get(name, []) if draw else []:
            if draw and begin <= index < end:
                draw(rgb, named, (index - begin + 0.5) / (end - begin))


# ------------------------------------------------------------------ what the presenter does
def _turned(states: list[scene.FrameState], begin: int, yaw_rad: np.ndarray) -> None:
    """Turn the head in the frames from ``begin`` on by so much more."""
    for offset, yaw in enumerate(yaw_rad[: len(states) - begin]):
        state = states[begin + offset]
        head = state.head.copy()
        head[:3, :3] = scene.rotation(0.0, float(yaw), 0.0) @ head[:3, :3]
        states[begin + offset] = dataclasses.replace(state, head=head)


def _profile(take: Take) -> None:
    begin, end = take.span("profile", 0.3, 4.0)
    ramp = np.clip(np.minimum(np.arange(end - begin), np.arange(end - begin)[::-1]) / 32.0, 0, 1)
    _turned(take.states, begin, np.radians(52.0) * ramp * ramp * (3 - 2 * ramp))


def _quick_turn(take: Take) -> None:
    begin, end = take.span("quick turn", 0.5, 1.2)
    rise = np.clip(np.arange(1, end - begin + 1) / 5.0, 0, 1)  # to the side within a fifth of a second, and back
    fall = np.clip(np.arange(end - begin)[::-1] / 5.0, 0, 1)
    ramp = np.minimum(rise, fall)
    _turned(take.states, begin, np.radians(24.0) * ramp * ramp * (3 - 2 * ramp))


def _quick_turns(take: Take) -> None:
    begin, end = take.span("quick turns", 0.05, 0.9 * len(take.states) / FRAME_RATE)
    t = np.arange(end - begin) / FRAME_RATE
    rest_s = 0.5 * np.floor(2 * 1.6 * t[-1]) / 1.6  # whole half turns, so that the head does not leap at the end
    _turned(take.states, begin, np.radians(13.0) * np.sin(2 * np.pi * 1.6 * t) * (t < rest_s))


def _long_blink(take: Take) -> None:
    for share in (0.3, 0.65):
        begin, end = take.span("long blink", share, 0.9)
        for index in range(begin, end):
            controls = take.states[index].controls.copy()
            controls[_LIDS] = 0.0
            take.states[index] = dataclasses.replace(take.states[index], controls=controls)


def _jump_cut(take: Take) -> None:
    """Take a piece out, so that the head is somewhere else in the next frame."""
    begin = round(0.5 * len(take.states))
    places = np.array([state.head[:3, 3] for state in take.states])
    turns = np.array([state.head[:3, 2] for state in take.states])
    candidates = np.arange(begin + FRAME_RATE, len(take.states) - 2 * FRAME_RATE)
    apart = np.linalg.norm(places[candidates] - places[begin], axis=1) / 0.01
    apart += np.linalg.norm(turns[candidates] - turns[begin], axis=1) / 0.1
    end = int(candidates[np.argmax(apart)])
    del take.states[begin:end]
    take.waveform = np.delete(take.waveform, np.s_[begin * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME])
    take.spans.setdefault("jump cut", []).append((begin, begin + 1))


def _few_pictures(take: Take) -> None:
    take.span("few pictures", 0.0, len(take.states))
    take.states[:] = [take.states[index - index % 3] for index in range(len(take.states))]


def _repeated(take: Take) -> None:
    take.span("repeated pictures", 0.0, len(take.states))
    take.states[:] = [take.states[index - (index % 10 == 9)] for index in range(len(take.states))]


# ------------------------------------------------------------------ what is heard
def _speech_power(take: Take) -> float:
    loud = np.abs(take.waveform) > 0.02
    return float(np.mean(np.square(take.waveform[loud])))


def _mixed(take: Take, sound: np.ndarray, below_db: float) -> None:
    """Add a sound of the take's length, by so much weaker than speech."""
    gain = np.sqrt(_speech_power(take) / max(float(np.mean(np.square(sound))), 1e-12)) * 10 ** (-below_db / 20)
    take.waveform = np.clip(take.waveform + gain * sound, -1, 1).astype(np.float32)


def _noise(take: Take) -> None:
    take.span("noise", 0.0, len(take.states))
    _mixed(take, take.rng.normal(size=len(take.waveform)), 9.0)


def _hiss(take: Take) -> None:
    _mixed(take, take.rng.normal(size=len(take.waveform)), 30.0)


def _hum(take: Take) -> None:
    take.span("hum", 0.0, len(take.states))
    t = np.arange(len(take.waveform)) / SAMPLE_RATE
    harmonics = np.arange(1, 9)[:, None]
    _mixed(take, (np.sin(2 * np.pi * 50 * harmonics * t) / harmonics).sum(axis=0), 8.0)


def _music(take: Take) -> None:
    take.span("music", 0.0, len(take.states))
    t = np.arange(len(take.waveform)) / SAMPLE_RATE
    tune = np.zeros(len(t))
    chords = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))
    for number in range(int(t[-1] / 0.6) + 1):
        part = (t >= 0.6 * number) & (t < 0.6 * (number + 1))
        age = t[part] - 0.6 * number
        for step in chords[number % len(chords)]:
            pitch = 261.6 * 2 ** (step / 12)
            tones = sum(np.sin(2 * np.pi * pitch * k * age) / k**1.5 for k in range(1, 6))
            tune[part] += tones * np.exp(-1.5 * age) * np.minimum(age / 0.01, 1)
    _mixed(take, tune, 20.0)


def _second_voice(take: Take) -> None:
    """Somebody behind the camera speaks while the presenter listens with a closed mouth."""
    begin, end = take.span("second voice", 0.45, 2.4)
    mouth = [i for i, name in enumerate(expressions.CONTROLS) if name not in ("brow_left", "brow_right", "frown")]
    mouth = [i for i in mouth if i not in _LIDS]
    for index in range(begin, end):
        controls = take.states[index].controls.copy()
        controls[mouth] = 0.0
        take.states[index] = dataclasses.replace(take.states[index], controls=controls, tongue=0.0)
    part = slice(begin * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME)
    other = np.resize(take.other_voice[SAMPLE_RATE // 2 :], part.stop - part.start)
    take.waveform = take.waveform.copy()
    take.waveform[part] = other


# ------------------------------------------------------------------ what is seen
def _unit_px(marks: dict[str, np.ndarray]) -> float:
    return float(np.linalg.norm(marks["right_eye_outer"] - marks["left_eye_outer"]))


def _blend(rgb: np.ndarray, mask: np.ndarray, colour: np.ndarray, blur_px: float) -> None:
    """Lay a colour [3] or a picture over ``rgb`` where ``mask`` uint8 [H, W] is set, softly."""
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255.0, (0, 0), max(blur_px, 0.3))[..., None]
    rgb[:] = np.clip(rgb + (colour - rgb.astype(np.float32)) * soft, 0, 255).astype(np.uint8)


def _pixels(place: np.ndarray) -> tuple[int, int]:
    x, y = np.round(place).astype(int)
    return int(x), int(y)


def _line(mask: np.ndarray, begin: np.ndarray, end: np.ndarray, width_px: float) -> None:
    cv2.line(mask, _pixels(begin), _pixels(end), 255, max(int(width_px), 1), cv2.LINE_AA)


def _disc(mask: np.ndarray, centre: np.ndarray, half_axes: np.ndarray, *, level: int = 255, width_px: int = -1) -> None:
    """An ellipse, filled unless it has a line of some width."""
    cv2.ellipse(mask, _pixels(centre), _pixels(half_axes), 0, 0, 360, level, width_px, cv2.LINE_AA)


def _hand(rgb: np.ndarray, marks: dict[str, np.ndarray], share: float) -> None:
    """A hand that comes up to the cheek and mouth, stays, and goes."""
    unit = _unit_px(marks)
    up = np.clip(min(share, 1 - share) * 4.0, 0, 1)
    target = marks["mouth_left"] + unit * np.array([0.05, 0.15])
    palm = target + (1 - up) * np.array([-0.4, 2.2]) * unit
    height, width = rgb.shape[:2]
    mask, lines = (np.zeros((height, width), np.uint8) for _ in range(2))
    for number, lean in enumerate((-0.34, -0.12, 0.10, 0.30)):
        tip = palm + unit * np.array([lean * 1.4 + 0.25, -0.85 + 0.08 * abs(number - 1.5)])
        _line(mask, palm + unit * np.array([lean, 0.0]), tip, 0.20 * unit)
        _line(lines, palm + unit * np.array([lean + 0.1, 0.0]), tip + unit * np.array([0.1, 0.1]), 1)
    _disc(mask, palm + unit * np.array([0.0, 0.25]), unit * np.array([0.5, 0.55]))
    wrist = palm + unit * np.array([-0.2, 0.5])
    _line(mask, wrist, wrist + unit * np.array([-0.5, 3.0]), 0.7 * unit)
    x, y = _pixels((marks["right_eye_outer"] + marks["mouth_right"]) / 2)
    cheek = rgb[min(max(y, 0), height - 1), min(max(x, 0), width - 1)].astype(np.float32)
    shade = np.linspace(0.6, 1.0, height, dtype=np.float32)[::-1, None, None] * cheek
    _blend(rgb, mask, np.broadcast_to(shade, rgb.shape), 0.02 * unit)
    _blend(rgb, np.minimum(lines, mask), 0.35 * cheek, 0.01 * unit)


def _held_microphone(
    foam: tuple[float, float, float], rgb: np.ndarray, marks: dict[str, np.ndarray], share: float
) -> None:
    """A microphone in foam of a colour that is held before mouth and chin."""
    unit = _unit_px(marks)
    up = np.clip(min(share, 1 - share) * 4.0, 0, 1)
    head = marks["chin"] + unit * np.array([0.05, -0.20]) + (1 - up) * np.array([0.3, 2.0]) * unit
    mask = np.zeros(rgb.shape[:2], np.uint8)
    _line(mask, head, head + unit * np.array([0.25, 3.0]), 0.26 * unit)
    _blend(rgb, mask, np.array([34.0, 34.0, 38.0], np.float32), 0.02 * unit)
    mask[:] = 0
    _disc(mask, head, unit * np.array([0.42, 0.48]))
    rows, columns = np.indices(mask.shape)
    grain = 0.85 + 0.3 * ((rows + columns) // max(int(0.05 * unit), 1) % 2)
    _blend(rgb, mask, np.stack([level * grain for level in foam], axis=-1), 0.02 * unit)


def _lenses(marks: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Centre and half axes of both lenses."""
    unit = _unit_px(marks)
    sides = (("left_eye_outer", "left_eye_inner"), ("right_eye_outer", "right_eye_inner"))
    return [((marks[a] + marks[b]) / 2 + unit * np.array([0.0, 0.03]), unit * np.array([0.24, 0.19])) for a, b in sides]


def _glasses(rgb: np.ndarray, marks: dict[str, np.ndarray], share: float) -> None:
    """Dark frames."""
    unit = _unit_px(marks)
    mask = np.zeros(rgb.shape[:2], np.uint8)
    (left, half), (right, _) = _lenses(marks)
    width_px = max(int(0.035 * unit), 1)
    for centre in (left, right):
        _disc(mask, centre, half, width_px=width_px)
    inner = np.array([half[0], -0.04 * unit])
    _line(mask, left + inner, right + inner * [-1, 1], width_px)
    for centre, way in ((left, -1.0), (right, 1.0)):
        temple = centre + np.array([way * half[0], -0.05 * unit])
        _line(mask, temple, temple + unit * np.array([0.16 * way, -0.02]), width_px)
    _blend(rgb, mask, np.array([28.0, 26.0, 30.0], np.float32), 0.008 * unit)


def _glare(rgb: np.ndarray, marks: dict[str, np.ndarray], share: float) -> None:
    """A lamp in the lenses."""
    unit = _unit_px(marks)
    mask = np.zeros(rgb.shape[:2], np.uint8)
    for centre, half in _lenses(marks):
        _disc(mask, centre, 0.85 * half, level=235)
    _blend(rgb, mask, np.array([250.0, 252.0, 255.0], np.float32), 0.03 * unit)


def _always(name: str) -> Callable[[Take], None]:
    return lambda take: take.spans.setdefault(name, []).append((0, len(take.states)))


def _twice(name: str, length_s: float) -> Callable[[Take], None]:
    def act(take: Take) -> None:
        for share in (0.3, 0.7):
            take.span(name, share, length_s)

    return act


INCIDENTS: dict[str, Incident] = {
    "hand": Incident(finding="covered", act=_twice("hand", 1.4), draw=_hand),
    "microphone": Incident(
        finding="covered", act=_twice("microphone", 1.6), draw=partial(_held_microphone, (46.0, 62.0, 150.0))
    ),
    "grey microphone": Incident(
        finding="covered", act=_twice("grey microphone", 1.6), draw=partial(_held_microphone, (88.0, 88.0, 90.0))
    ),
    "glasses": Incident(finding=None, act=_always("glasses"), draw=_glasses),
    "glare": Incident(finding="glare", act=_twice("glare", 0.8), draw=_glare),
    "profile": Incident(finding="turned", act=_profile),
    "quick turn": Incident(finding=None, act=_quick_turn),
    "quick turns": Incident(finding="quick turns", act=_quick_turns),
    "long blink": Incident(finding=None, act=_long_blink),
    "jump cut": Incident(finding="jump cut", act=_jump_cut),
    "few pictures": Incident(finding="few pictures", act=_few_pictures),
    "repeated pictures": Incident(finding="repeated pictures", act=_repeated),
    "noise": Incident(finding="noise", act=_noise),
    "hiss": Incident(finding=None, act=_hiss),
    "hum": Incident(finding="noise", act=_hum),
    "music": Incident(finding="music", act=_music),
    "second voice": Incident(finding="second voice", act=_second_voice),
    "busy background": Incident(finding=None, person=lambda who: dataclasses.replace(who, backdrop="garden")),
    "beard": Incident(finding=None, person=lambda who: dataclasses.replace(who, stubble=1.0)),
}
