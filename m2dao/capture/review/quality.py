"""Judges whether a recording will do, and says why not.

Two kinds of findings: what makes a capture impossible raises `CaptureRejected` with the place in the recording and the
remedy; what only costs quality becomes a sentence in the list of problems. Thresholds are in one table, `QualityRules`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from m2dao.capture.crop import Crop
from m2dao.capture.faces.tracking import Tracks
from m2dao.capture.review.cuts import find_cuts
from m2dao.errors import CaptureRejected
from m2dao.regions import CHIN, FOREHEAD, LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME, runs_of

SILENCE_DBFS = -50.0


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Where a recording stops being good, and where usable; heights are of the tracked face."""

    min_seconds: float = 5.0
    good_seconds: float = 20.0
    max_gap_frames: int = 5
    max_outside: float = 0.08  # of the face's height beyond the picture's edge
    min_face_px: float = 96.0
    max_enlargement: float = 1.34
    max_roll_deg: float = 40.0
    max_jumps_per_minute: float = 6.0
    several_faces_share: float = 0.05  # of the counts
    good_yaw_deg: float = 35.0
    good_pose_jitter_deg: float = 0.1
    good_turn_deg_per_s: float = 75.0  # of all but a twentieth of the frames
    max_covered_share: float = 0.1  # of the face, in one piece
    min_sharpness: float = 25.0
    min_distinct_rate: float = 18.0  # different pictures per second
    max_still_s: float = 0.3
    good_speech_share: float = 0.3
    good_speech_range_db: float = 15.0
    min_lip_motion: float = 0.012  # standard deviation of the lip opening


@dataclass(frozen=True, kw_only=True)
class SoundMeasures:
    """Levels of a recording's sound over frames of 40 ms, dB of full scale."""

    speech_dbfs: float  # 95th percentile
    floor_dbfs: float  # 10th percentile
    speech_share: float  # of the frames, at least halfway (in dB) from floor to speech level
    clipped_share: float  # of the samples


def check_sound(waveform: np.ndarray, name: str) -> SoundMeasures:
    """Measure float32 [S] at 16 kHz.

    Raises:
        CaptureRejected: silence.
    """
    num_frames = len(waveform) // SAMPLES_PER_FRAME
    if num_frames == 0:
        raise CaptureRejected(
            f"sound of {name}", "speech", "less than 40 ms of sound", "record picture and sound together"
        )
    blocks = waveform[: num_frames * SAMPLES_PER_FRAME].reshape(num_frames, SAMPLES_PER_FRAME).astype(np.float64)
    blocks -= blocks.mean(1, keepdims=True)
    level = 10 * np.log10(np.square(blocks).mean(1) + 1e-12)
    speech, floor = np.percentile(level, 95), np.percentile(level, 10)
    if speech < SILENCE_DBFS:
        raise CaptureRejected(
            f"sound of {name}",
            f"speech above {SILENCE_DBFS:.0f} dBFS",
            f"silence ({speech:.0f} dBFS at its loudest)",
            "check the microphone: the mouth is learnt from speech",
        )
    active = level > max((speech + floor) / 2, speech - 25)
    return SoundMeasures(
        speech_dbfs=float(speech),
        floor_dbfs=float(max(floor, -120.0)),
        speech_share=float(active.mean()),
        clipped_share=float((np.abs(waveform) > 0.999).mean()),
    )


def sound_problems(sound: SoundMeasures, rules: QualityRules) -> list[str]:
    """What the sound costs."""
    problems = []
    if sound.speech_share < rules.good_speech_share:
        problems.append(f"speech in only {sound.speech_share:.0%} of the recording: talk all the time")
    if sound.speech_dbfs - sound.floor_dbfs < rules.good_speech_range_db:
        problems.append(
            f"speech stands only {sound.speech_dbfs - sound.floor_dbfs:.0f} dB above the noise: record in a quiet room"
        )
    if sound.clipped_share > 1e-3:
        problems.append(f"the sound is overdriven ({sound.clipped_share:.1%} of it at full scale): lower the gain")
    return problems


def check_length(num_frames: int, name: str, rules: QualityRules) -> list[str]:
    """Problems of the length.

    Raises:
        CaptureRejected: too short.
    """
    seconds = num_frames / FRAME_RATE
    if seconds < rules.min_seconds:
        raise CaptureRejected(
            name,
            f"at least {rules.min_seconds:g} s with picture and sound",
            f"{seconds:.1f} s",
            "record for a minute or two",
        )
    if seconds < rules.good_seconds:
        return [f"only {seconds:.0f} s long: {rules.good_seconds:g} s and more teach more mouth shapes"]
    return []


def check_faces(tracks: Tracks, name: str, rules: QualityRules) -> list[str]:
    """Problems of the tracked face.

    Raises:
        CaptureRejected: several faces, gaps, a face that leaves the picture, is too small or lies on its side, cuts.
    """
    problems = []
    counted = tracks.num_faces[tracks.num_faces > 0]
    several = counted > 1
    if several.sum() >= 2 and several.mean() > rules.several_faces_share:
        where = np.flatnonzero(tracks.num_faces > 1)
        raise CaptureRejected(
            name,
            "one face",
            f"{counted.max()} faces, from {_clock(where[0])} on",
            "crop the recording to one person",
        )
    if several.any():
        problems.append(f"another face at {_clock(np.flatnonzero(tracks.num_faces > 1)[0])}")
    cuts = find_cuts(tracks)
    if cuts.scenes or len(cuts.jumps) > rules.max_jumps_per_minute * max(tracks.num_frames / FRAME_RATE / 60, 1):
        found = sorted(cuts.scenes + cuts.jumps)
        raise CaptureRejected(
            name,
            "one continuous shot",
            f"{len(found)} cut{'s' if len(found) > 1 else ''} at {_clocks(found)}",
            "give the longest part between two cuts",
        )
    if cuts.jumps:
        problems.append(f"{len(cuts.jumps)} jump cuts, at {_clocks(cuts.jumps)}: the head leaps there")
    _check_gaps(tracks, name, rules)
    missing = int((~tracks.valid).sum())
    if missing:
        problems.append(
            f"no face in {missing} frames, at {_clocks([start for start, _ in runs_of(~tracks.valid)])}: interpolated"
        )
    _check_place_and_size(tracks, name, rules)
    return problems


def _check_gaps(tracks: Tracks, name: str, rules: QualityRules) -> None:
    for what, bad in (
        ("no face in the picture", ~tracks.valid),
        ("a face that leaves the picture", _outside(tracks, rules)),
    ):
        start, end = max(runs_of(bad), key=lambda run: run[1] - run[0], default=(0, 0))
        if end - start > rules.max_gap_frames:
            raise CaptureRejected(
                name,
                f"the whole face in every frame (gaps of up to {rules.max_gap_frames} frames are bridged)",
                f"{what} from {_clock(start)} to {_clock(end)}",
                "cut this part away, or record again with the face inside the picture",
            )


def _outside(tracks: Tracks, rules: QualityRules) -> np.ndarray:
    """bool [T]: the face reaches beyond the picture's edge."""
    points = tracks.landmarks[:, :, :2]
    low, high = points.min(1), points.max(1)
    room = rules.max_outside * (high[:, 1] - low[:, 1])
    return (
        (low[:, 0] < -room)
        | (low[:, 1] < -room)
        | (high[:, 0] > tracks.width + room)
        | (high[:, 1] > tracks.height + room)
    )


def _check_place_and_size(tracks: Tracks, name: str, rules: QualityRules) -> None:
    height = face_height_px(tracks)
    if height < rules.min_face_px:
        raise CaptureRejected(
            name,
            f"a face at least {rules.min_face_px:.0f} px high",
            f"{height:.0f} px",
            "move closer to the camera or record at a higher resolution",
        )
    line = tracks.landmarks[tracks.valid, LEFT_EYE_OUTER, :2] - tracks.landmarks[tracks.valid, RIGHT_EYE_OUTER, :2]
    roll = float(np.degrees(np.arctan2(np.median(line[:, 1]), np.median(line[:, 0]))))
    if abs(roll) > rules.max_roll_deg:
        raise CaptureRejected(name, "an upright face", f"one turned by {roll:.0f} degrees", "rotate the video")


def face_height_px(tracks: Tracks) -> float:
    """Median distance from hairline to chin, px of the shown picture."""
    points = tracks.landmarks[tracks.valid]
    return float(np.median(np.linalg.norm(points[:, CHIN, :2] - points[:, FOREHEAD, :2], axis=-1)))


def picture_problems(tracks: Tracks, crop: Crop, rules: QualityRules) -> list[str]:
    """What the pictures cost."""
    problems = []
    if crop.scale > rules.max_enlargement:
        problems.append(
            f"the face is small: a square of {crop.side:.0f} px is enlarged to {crop.size}; record closer, or use "
            f"--size {int(crop.side) // 64 * 64 or 64}"
        )
    if np.nanmedian(tracks.sharpness) < rules.min_sharpness:
        problems.append("the face is blurred: focus on it, and use more light")
    dark, middle, bright = np.nanmedian(tracks.brightness, axis=0)
    if middle < 50 or bright < 80:
        problems.append("the face is dark: use more light")
    if dark > 190 or bright > 252:
        problems.append("parts of the face are overexposed: use less or softer light")
    looked = np.flatnonzero(np.isfinite(tracks.covered))
    begins = [looked[start] for start, _ in runs_of(tracks.covered[looked] > rules.max_covered_share)]
    if begins:
        problems.append(
            f"something covers the face (a hand, a microphone, a glare), at {_clocks(begins)}: keep it free"
        )
    times = np.unique(tracks.source_times_s)
    if len(times) > 1:
        rate = (len(times) - 1) / (times[-1] - times[0])
        if rate < rules.min_distinct_rate:
            problems.append(f"only {rate:.0f} different pictures per second: record at 25 or more")
        still = np.diff(times)
        if still.max() > rules.max_still_s and rate >= rules.min_distinct_rate:
            problems.append(f"the picture stands still for {still.max():.2f} s at {times[np.argmax(still)]:.1f} s")
    return problems


def motion_problems(
    viewmats: np.ndarray, lip_opening: np.ndarray, pose_jitter_deg: float, rules: QualityRules
) -> list[str]:
    """What the motion costs; viewmats [T, 4, 4], lip_opening [T]."""
    problems = []
    forward = viewmats[:, :3, 2]  # the head's z axis seen from the camera
    yaw = np.degrees(np.arctan2(forward[:, 0], forward[:, 2]))
    turned = np.abs(yaw - np.median(yaw)) > rules.good_yaw_deg
    if turned.mean() > 0.02:
        problems.append(f"the head is turned far to the side in {turned.mean():.0%} of the frames")
    speed = np.degrees(Rotation.from_matrix(viewmats[1:, :3, :3] @ viewmats[:-1, :3, :3].swapaxes(1, 2)).magnitude())
    quick = np.percentile(speed * FRAME_RATE, 95)
    if quick > rules.good_turn_deg_per_s:
        problems.append(f"the head turns by up to {quick:.0f} degrees a second: quick turns blur, and hair lags behind")
    if pose_jitter_deg > rules.good_pose_jitter_deg:
        problems.append(
            f"head poses jitter by {pose_jitter_deg:.2f} degrees (good: below {rules.good_pose_jitter_deg:g})"
        )
    if np.std(lip_opening) < rules.min_lip_motion:
        problems.append("the lips hardly move: is this the person who speaks?")
    return problems


def _clock(frame: int) -> str:
    seconds = frame / FRAME_RATE
    return f"{int(seconds // 60)}:{seconds % 60:05.2f}"


def _clocks(frames: list[int]) -> str:
    shown = ", ".join(_clock(frame) for frame in frames[:5])
    return f"{shown}, ..." if len(frames) > 5 else shown
