"""Plans all a presenter does while speaking: head, eyes, lids, brows, breath and mouth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from m2dao.presenter import scene
from m2dao.presenter.expressions import CONTROLS
from m2dao.presenter.visemes import MOUTH, mouth_track
from m2dao.timeline import FRAME_RATE
from m2dao.tts import Phone

_PIVOT = np.array([0.0, 0.085, 0.050])  # top of the neck, about which the head turns
_WAIST = np.array([0.0, 0.450, 0.060])
_BLINK = np.array([0.35, 0.90, 1.0, 0.85, 0.45, 0.15])  # lid closure over consecutive frames


def _drift(num_frames: int, rng: np.random.Generator, periods_s: tuple[float, float], count: int = 5) -> np.ndarray:
    """Smooth wandering of about unit amplitude: sines of random period and phase."""
    t = np.arange(num_frames) / FRAME_RATE
    waves = np.zeros(num_frames)
    for period in np.geomspace(*periods_s, count):
        period *= rng.uniform(0.8, 1.25)
        waves += np.sin(2 * np.pi * (t / period + rng.uniform())) * (period / periods_s[1]) ** 0.35
    return waves / np.abs(waves).max()


def _bumps(times_s: list[float], num_frames: int, rise_s: float, fall_s: float) -> np.ndarray:
    """Sum of smooth bumps of height 1 that begin at ``times_s``."""
    t = np.arange(num_frames) / FRAME_RATE
    total = np.zeros(num_frames)
    for start in times_s:
        up = np.clip((t - start) / rise_s, 0, 1)
        down = np.clip((start + rise_s + fall_s - t) / fall_s, 0, 1)
        total += (up * up * (3 - 2 * up)) * (down * down * (3 - 2 * down))
    return total


def _smooth(track: np.ndarray) -> np.ndarray:
    padded = np.pad(track, 2, mode="edge")
    return np.convolve(padded, np.array([1, 4, 6, 4, 1]) / 16.0, mode="valid")


def blink_track(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Lid closure 0..1 with a blink every 1.6 to 4.4 s, f64 [T]."""
    closure = np.zeros(num_frames)
    start = int(rng.uniform(0.8, 1.6) * FRAME_RATE)
    while start < num_frames:
        part = _BLINK[: num_frames - start]
        closure[start : start + len(part)] = np.maximum(closure[start : start + len(part)], part)
        start += int(rng.uniform(1.6, 4.4) * FRAME_RATE)
    return closure


def perform(phones: tuple[Phone, ...], num_frames: int, *, seed: int) -> list[scene.FrameState]:
    """Act out ``phones`` over ``num_frames`` video frames."""
    rng = np.random.default_rng([seed, 23])
    mouth = dict(zip(MOUTH, mouth_track(phones, num_frames).T, strict=True))
    stresses = [p.start_s for p in phones if p.stressed]
    phrases = [b.start_s for a, b in pairwise(phones) if not a.symbol and b.symbol and a.end_s - a.start_s > 0.12]
    nods = [s - 0.06 for s in stresses if rng.uniform() < 0.35]
    raised = [s - 0.12 for s in phrases if rng.uniform() < 0.8] + [s - 0.05 for s in stresses if rng.uniform() < 0.08]
    degree = np.pi / 180.0
    yaw = degree * (6.2 * _drift(num_frames, rng, (2.4, 9.0)) + 1.6 * _drift(num_frames, rng, (0.9, 2.0)))
    pitch = degree * (
        2.8 * _drift(num_frames, rng, (2.0, 8.0)) + 3.0 * _smooth(_bumps(nods, num_frames, 0.16, 0.34)) - 0.6
    )
    roll = degree * (2.6 * _drift(num_frames, rng, (2.6, 9.0)))
    sway = np.stack(
        [
            0.0060 * _drift(num_frames, rng, (3.0, 10.0)),
            0.0025 * _drift(num_frames, rng, (3.0, 9.0)),
            0.008 * _drift(num_frames, rng, (4.0, 11.0)),
        ],
        -1,
    )
    breath = np.sin(2 * np.pi * (np.arange(num_frames) / FRAME_RATE / 3.9 + rng.uniform()))
    controls = _face_track(mouth, num_frames, raised, rng)
    gaze = _gaze_track(num_frames, rng)
    states = []
    for t in range(num_frames):
        head, torso = _poses(yaw[t], pitch[t], roll[t], sway[t], breath[t])
        eyes = (gaze[t, 0] - 0.95 * yaw[t], gaze[t, 1] - 0.95 * (pitch[t]))
        states.append(
            scene.FrameState(controls=controls[t], tongue=float(mouth["tongue"][t]), gaze=eyes, head=head, torso=torso)
        )
    return states


def _face_track(mouth: dict, num_frames: int, raised: list[float], rng: np.random.Generator) -> np.ndarray:
    """Weights of all face controls, f32 [T, K]."""
    named = {name: np.zeros(num_frames) for name in CONTROLS}
    for name in MOUTH:
        if name in named:
            named[name] = mouth[name]
    talking = _smooth(np.clip(mouth["jaw"] * 3.0, 0, 1))
    brow = _smooth(np.clip(_bumps(raised, num_frames, 0.18, 0.55), 0, 1))
    lean = 0.18 * _drift(num_frames, rng, (3.0, 9.0))
    named["brow_left"] = np.clip(0.75 * brow + lean, -0.4, 1.0)
    named["brow_right"] = np.clip(0.75 * brow - 0.6 * lean, -0.4, 1.0)
    named["frown"] = np.clip(0.35 * _drift(num_frames, rng, (2.5, 8.0)) - 0.4 * brow, 0.0, 1.0)
    named["smile"] = np.clip(0.16 + 0.14 * _drift(num_frames, rng, (4.0, 10.0)) + 0.08 * (1 - talking), 0.0, 1.0)
    named["smile"] = named["smile"] * (1 - 0.8 * mouth["pucker"])
    named["cheek"] = 0.6 * named["smile"]
    blink = blink_track(num_frames, rng)
    wide_open = 1.0 + 0.10 * brow - 0.10 * named["frown"]
    named["lids_left"] = np.clip((1.0 - blink) * wide_open, 0.0, 1.12)
    named["lids_right"] = named["lids_left"].copy()
    return np.stack([named[name] for name in CONTROLS], -1).astype(np.float32)


def _gaze_track(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Where the eyes look besides the camera: small jumps every half to two seconds, f64 [T, 2] radians."""
    gaze = np.zeros((num_frames, 2))
    start = 0
    while start < num_frames:
        length = int(rng.uniform(0.5, 2.0) * FRAME_RATE)
        away = rng.uniform() < 0.2
        gaze[start : start + length] = rng.normal(0.0, (0.09, 0.045) if away else (0.018, 0.010), 2)
        start += length
    return gaze


def _poses(yaw, pitch, roll, sway, breath):
    """Head and trunk motions, f64 [4, 4] each, head space to camera."""
    rest = scene.rest_viewmat()

    def about(pivot, rotation, shift):
        motion = np.eye(4)
        motion[:3, :3] = rotation
        motion[:3, 3] = pivot - rotation @ pivot + shift
        return motion

    lean = scene.rotation(0.10 * pitch - 0.004 * breath, 0.16 * yaw, 0.22 * roll)
    torso = about(_WAIST, lean, sway * np.array([0.5, 0.35, 0.5]) + np.array([0.0, -0.0012 * breath, -0.0010 * breath]))
    head = torso @ about(_PIVOT, lean.T @ scene.rotation(pitch, yaw, roll), 0.5 * sway)
    return rest @ head, rest @ torso
