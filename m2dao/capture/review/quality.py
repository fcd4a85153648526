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
from m2dao.capture.review.cuts import Cuts
from m2dao.capture.review.findings import Finding, clock, clocks
from m2dao.errors import CaptureRejected
from m2dao.regions import CHIN, FOREHEAD, INNER_LIP_PAIRS, LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from m2dao.timeline import FRAME_RATE, runs_of


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
    several_faces_share: float = 0.05  # of the frames
    passing_s: float = 0.5  # somebody who passes by is seen for so long in any recording
    good_yaw_deg: float = 35.0
    good_pose_jitter_deg: float = 0.1
    good_turn_deg_per_s: float = 75.0  # of all but a twentieth of the frames
    max_covered_share: float = 0.085  # of the face, in one piece
    max_glare_share: float = 0.04  # of the face, before the eyes
    min_moving_share: float = 0.01  # of the face's height: a face that stays within less is a picture of one
    min_moving_lips: float = 0.004  # range of the lip opening of anybody who is no picture
    max_repeated_share: float = 0.05  # of the pictures
    min_sharpness: float = 25.0
    min_distinct_rate: float = 18.0  # different pictures per second
    max_still_s: float = 0.3
    min_lip_motion: float = 0.012  # standard deviation of the lip opening


def check_length(num_frames: int, name: str, rules: QualityRules) -> list[Finding]:
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
        text = f"only {seconds:.0f} s long: {rules.good_seconds:g} s and more teach more mouth shapes"
        return [Finding("short", text)]
    return []


def check_faces(tracks: Tracks, cuts: Cuts, name: str, rules: QualityRules) -> list[Finding]:
    """Problems of the tracked face.

    Raises:
        CaptureRejected: several faces, gaps, a face that leaves the picture, is too small or lies on its side, cuts.
    """
    problems = []
    counts = held_counts(tracks.num_faces)
    refuse_several_faces(counts, tracks.num_frames, name, rules)
    if (counts > 1).any():
        problems.append(Finding("other face", f"another face at {clock(int(np.argmax(counts > 1)))}"))
    refuse_cuts(cuts, tracks.num_frames, name, rules)
    if cuts.jumps:
        number = f"{len(cuts.jumps)} jump cut{'s' if len(cuts.jumps) > 1 else ''}"
        problems.append(Finding("jump cut", f"{number}, at {clocks(cuts.jumps)}: the head leaps there"))
    _check_still(tracks, name, rules)
    _check_gaps(tracks, name, rules)
    missing = int((~tracks.valid).sum())
    if missing:
        begins = [start for start, _ in runs_of(~tracks.valid)]
        problems.append(Finding("gap", f"no face in {missing} frames, at {clocks(begins)}: interpolated"))
    _check_place_and_size(tracks, name, rules)
    return problems


def held_counts(num_faces: np.ndarray) -> np.ndarray:
    """Faces in each frame [T] as last counted, from counts that are not positive where nobody counted."""
    last = np.maximum.accumulate(np.where(num_faces > 0, np.arange(len(num_faces)), 0))
    return np.maximum(num_faces[last], 0)


def refuse_several_faces(counts: np.ndarray, num_frames: int, name: str, rules: QualityRules) -> None:
    """Refuse a recording of several people.

    Args:
        counts: faces in the first frames, of `held_counts`.
        num_frames: of the whole recording.
        name: of the recording.
        rules: how long others may be seen.

    Raises:
        CaptureRejected: they are seen for longer.
    """
    several = counts > 1
    if several.sum() <= max(rules.several_faces_share * num_frames, rules.passing_s * FRAME_RATE):
        return
    raise CaptureRejected(
        name,
        "one face",
        f"{counts.max()} faces, from {clock(int(np.argmax(several)))} on",
        "crop the recording to one person",
    )


def refuse_cuts(cuts: Cuts, num_frames: int, name: str, rules: QualityRules) -> None:
    """Refuse a recording of several shots, or one with too many jumps for its length.

    Raises:
        CaptureRejected: it is one.
    """
    if cuts.scenes or len(cuts.jumps) > rules.max_jumps_per_minute * max(num_frames / FRAME_RATE / 60, 1):
        found = sorted(cuts.scenes + cuts.jumps)
        raise CaptureRejected(
            name,
            "one continuous shot",
            f"{len(found)} cut{'s' if len(found) > 1 else ''} at {clocks(found)}",
            "give the longest part between two cuts",
        )


def _check_still(tracks: Tracks, name: str, rules: QualityRules) -> None:
    """Refuse a picture of a face: nothing in it moves, so nothing can be learnt."""
    points = tracks.landmarks[tracks.valid]
    height = face_height_px(tracks)
    moving = np.ptp(np.percentile(points[..., :2].mean(1), [5, 95], axis=0), axis=0).max() / max(height, 1.0)
    lips = points[:, INNER_LIP_PAIRS[0][1], :2] - points[:, INNER_LIP_PAIRS[0][0], :2]
    opening = np.ptp(np.percentile(np.linalg.norm(lips, axis=-1), [5, 95])) / max(height, 1.0)
    if moving < rules.min_moving_share and opening < rules.min_moving_lips:
        raise CaptureRejected(
            name, "a person who moves and speaks", "a still picture", "film the person: from a photo nothing is learnt"
        )


def _check_gaps(tracks: Tracks, name: str, rules: QualityRules) -> None:
    for what, bad in (
        ("no face in the picture", ~tracks.valid),
        ("a face that leaves the picture", frames_outside(tracks, rules)),
    ):
        start, end = max(runs_of(bad), key=lambda run: run[1] - run[0], default=(0, 0))
        if end - start > rules.max_gap_frames:
            raise gap(name, rules, f"{what} from {clock(start)} to {clock(end)}")


def gap(name: str, rules: QualityRules, got: str) -> CaptureRejected:
    """The refusal of a recording without the whole face in too many frames."""
    return CaptureRejected(
        name,
        f"the whole face in every frame (gaps of up to {rules.max_gap_frames} frames are bridged)",
        got,
        "cut this part away, or record again with the face inside the picture",
    )


def frames_outside(tracks: Tracks, rules: QualityRules) -> np.ndarray:
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


def picture_findings(tracks: Tracks, crop: Crop, rules: QualityRules) -> list[Finding]:
    """What the pictures cost."""
    problems = []
    if crop.scale > rules.max_enlargement:
        text = (
            f"the face is small: a square of {crop.side:.0f} px is enlarged to {crop.size}; record closer, or use "
            f"--size {int(crop.side) // 64 * 64 or 64}"
        )
        problems.append(Finding("small", text))
    if np.nanmedian(tracks.sharpness) < rules.min_sharpness:
        problems.append(Finding("blurred", "the face is blurred: focus on it, and use more light"))
    dark, middle, bright = np.nanmedian(tracks.brightness, axis=0)
    if middle < 50 or bright < 80:
        problems.append(Finding("dark", "the face is dark: use more light"))
    if dark > 190 or bright > 252:
        problems.append(Finding("overexposed", "parts of the face are overexposed: use less or softer light"))
    covered = _begins(tracks.covered, rules.max_covered_share)
    if covered:
        text = f"something covers the face (a hand, a microphone), at {clocks(covered)}: keep it free"
        problems.append(Finding("covered", text))
    glare = _begins(tracks.glare, rules.max_glare_share)
    if glare:
        text = f"light is mirrored before the eyes, at {clocks(glare)}: turn the lamp or tilt the glasses"
        problems.append(Finding("glare", text))
    return problems + _rate_findings(tracks, rules)


def _begins(shares: np.ndarray, most: float) -> list[int]:
    """Where shares [T], NaN in frames that were not looked at, rise beyond the most there may be."""
    looked = np.flatnonzero(np.isfinite(shares))
    return [int(looked[start]) for start, _ in runs_of(shares[looked] > most)]


def _rate_findings(tracks: Tracks, rules: QualityRules) -> list[Finding]:
    """What is said of pictures that do not come one after another."""
    fresh = np.flatnonzero(tracks.fresh)
    if len(fresh) < 2:
        return []
    problems = []
    rate = FRAME_RATE * (len(fresh) - 1) / (fresh[-1] - fresh[0])
    stored = np.unique(tracks.source_times_s)
    stored_rate = (len(stored) - 1) / max(stored[-1] - stored[0], 1e-6)
    if min(rate, stored_rate) < rules.min_distinct_rate:
        text = f"only {min(rate, stored_rate):.0f} different pictures per second: record at 25 or more"
        return [Finding("few pictures", text)]
    longest = int(np.argmax(np.diff(fresh)))
    still_s = (fresh[longest + 1] - fresh[longest]) / FRAME_RATE
    if still_s > rules.max_still_s:
        text = f"the picture stands still for {still_s:.2f} s at {clock(fresh[longest])}"
        problems.append(Finding("standstill", text))
    share = _share_repeated(~tracks.fresh)
    if share > rules.max_repeated_share and stored_rate > FRAME_RATE - 0.5:
        text = f"{share:.0%} of the pictures repeat the one before: export at the rate that it was recorded at"
        problems.append(Finding("repeated pictures", text))
    return problems


def _share_repeated(stale: np.ndarray) -> float:
    """Share of the pictures that were stored twice.

    They stand alone between pictures that move. Of a head that rests, several in a row look like the one before.
    """
    beside = np.pad(stale, 1)
    return float((stale & ~beside[:-2] & ~beside[2:]).mean())


def motion_findings(
    viewmats: np.ndarray, lip_opening: np.ndarray, pose_jitter_deg: float, rules: QualityRules
) -> list[Finding]:
    """What the motion costs; viewmats [T, 4, 4], lip_opening [T]."""
    problems = []
    forward = viewmats[:, :3, 2]  # the head's z axis seen from the camera
    yaw = np.degrees(np.arctan2(forward[:, 0], forward[:, 2]))
    turned = np.abs(yaw - np.median(yaw)) > rules.good_yaw_deg
    if turned.mean() > 0.02:
        text = f"the head is turned far to the side in {turned.mean():.0%} of the frames"
        problems.append(Finding("turned", text))
    speed = np.degrees(Rotation.from_matrix(viewmats[1:, :3, :3] @ viewmats[:-1, :3, :3].swapaxes(1, 2)).magnitude())
    quick = np.percentile(speed * FRAME_RATE, 95)
    if quick > rules.good_turn_deg_per_s:
        text = f"the head turns by up to {quick:.0f} degrees a second: quick turns blur, and hair lags behind"
        problems.append(Finding("quick turns", text))
    if pose_jitter_deg > rules.good_pose_jitter_deg:
        text = f"head poses jitter by {pose_jitter_deg:.2f} degrees (good: below {rules.good_pose_jitter_deg:g})"
        problems.append(Finding("jitter", text))
    if np.std(lip_opening) < rules.min_lip_motion:
        problems.append(Finding("still lips", "the lips hardly move: is this the person who speaks?"))
    return problems
