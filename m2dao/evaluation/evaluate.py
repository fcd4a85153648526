"""Evaluates an identity on frames it never saw, by one of three protocols.

    paper     face and mouth over the recording's own torso and background (TalkingGaussian's protocol); what the head
              hides of them is filled in, by the identity's own torso if it has one
    portrait  everything generated; pose and expression from the recording; an identity without a torso gets that of the
              training frame nearest in pose, which is what deploying it would come to
    cross     another voice, synthesised pose: lip sync alone

Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from m2dao.audio.features import get_extractor
from m2dao.capture.cameras.frame_poses import with_poses
from m2dao.capture.dataset import Capture
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.errors import ConfigError, InputError
from m2dao.evaluation.closures import (
    LipTruth,
    compare_lips,
    compare_with_lip_truth,
    read_lip_truth,
    speech_frames,
)
from m2dao.evaluation.mouth import Lips, LipTrack, compare_faces, measure_mouth, track_lips
from m2dao.evaluation.nearest_torso import NearestTorso
from m2dao.evaluation.paste import HeadAlone, paste_head
from m2dao.evaluation.picture_metrics import PictureMetrics
from m2dao.evaluation.report import SideBySide, write_result
from m2dao.evaluation.result import EvaluateResult, FaceFigures, LipFigures, PictureFigures, TruthFigures
from m2dao.identity.talker import Talker
from m2dao.kernels.threads import one_torch_thread
from m2dao.media.audio import read_audio
from m2dao.motion.poses import pose_differences, pose_features, slow_differences
from m2dao.motion.talking_head import FrameConditions
from m2dao.timeline import FRAME_RATE, JUDGED_PARTS, SAMPLES_PER_FRAME, num_frames_for_samples, split_recording
from m2dao.training.frames.targets import TrainingFrames, decode_frames

PROTOCOLS = ("paper", "portrait", "cross")
_MIN_SYNC_FRAMES = 60
_Told = Callable[[float], None]  # told the share done


class _Judged(NamedTuple):
    """What of a recording is looked at."""

    split: str
    part: range


def evaluate(
    identity_dir: Path | str,
    capture_dir: Path | str,
    protocol: str = "paper",
    *,
    split: str = "validation",
    audio: Path | None = None,
    truth: Path | None = None,
    out_dir: Path | None = None,
    max_frames: int | None = None,
    backend: str | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> EvaluateResult:
    """Measure an identity on a part of its capture it was not trained on.

    Args:
        identity_dir, capture_dir: the identity and the capture it was fitted to.
        protocol: ``paper``, ``portrait`` or ``cross``.
        split: ``validation``, on which choices are made, or ``test``, which is for figures that are reported.
        audio: another voice, for ``cross``.
        truth: ``NAME.truth.safetensors`` beside the recording of a synthetic presenter.
        out_dir: where a side-by-side video, plots and the result go, if given.
        max_frames: only the first so many.
        backend: render backend.
        on_progress: told the share done.

    Raises:
        ConfigError: the protocol does not fit the arguments or the identity.
        CaptureCorrupt, CheckpointCorrupt: capture or identity cannot be read.
        InputError: the identity was fitted to another capture, or to frames of this part.
    """
    if split not in JUDGED_PARTS:
        raise ConfigError(f"split {split!r}", f"one of {', '.join(JUDGED_PARTS)}")
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {protocol!r}", f"one of {', '.join(PROTOCOLS)}")
    if (protocol == "cross") != (audio is not None):
        raise ConfigError(f"protocol {protocol}", "--audio with cross and only with it", f"audio={audio}")
    talker = Talker.load(identity_dir, backend=backend)
    capture = with_poses(Capture.open(capture_dir), talker.manifest.poses)
    told = on_progress or (lambda share: None)
    part: range = getattr(split_recording(capture.num_frames), split)
    judged = _Judged(split, part[:max_frames] if audio is None and max_frames else part)
    if audio is not None:
        return _evaluate_cross(talker, capture, judged, cross_audio(Path(audio), max_frames), out_dir, told)
    if talker.manifest.capture_sha256 != capture.content_sha256:
        raise InputError(
            str(capture_dir),
            f"the capture {identity_dir} was fitted to",
            "another one",
            "what it has not seen is not known; use protocol cross",
        )
    _check_unseen(Path(identity_dir), talker.manifest.fit["num_train"], judged)
    lip_truth = read_lip_truth(Path(truth), capture.num_frames).part(judged.part) if truth else None
    return _evaluate_pictures(talker, capture, protocol, judged, lip_truth, out_dir, told)


def _check_unseen(identity_dir: Path, num_train: int, judged: _Judged) -> None:
    """Refuses an identity that was trained on what it is judged by."""
    if num_train > judged.part.start:
        raise InputError(
            f"identity {identity_dir}",
            f"one that has not seen the {judged.split} part, frames {judged.part.start} to {judged.part.stop}",
            f"one trained on the first {num_train} frames",
            "fit it again, or evaluate it with --split test",
        )


@one_torch_thread()
def _evaluate_pictures(
    talker: Talker,
    capture: Capture,
    protocol: str,
    judged: _Judged,
    truth: LipTruth | None,
    out_dir: Path | None,
    told: _Told,
) -> EvaluateResult:
    part = judged.part
    frames = decode_frames(capture, talker.size, part, plate=talker.plate, soft_masks=talker.manifest.soft_masks)
    metrics, lips = PictureMetrics(talker.size), LipTrack(FaceTracker())
    speech = speech_frames(capture.waveform)[part.start : part.stop]
    sound = capture.waveform[part.start * SAMPLES_PER_FRAME : part.stop * SAMPLES_PER_FRAME]
    with _film(out_dir, talker.size, sound, has_recording=True) as film:
        for position, (index, picture) in enumerate(_rendered(talker, capture, frames, protocol)):
            metrics.add(frames.rgb(index), picture, frames.soft_masks(index))
            lips.add(picture)
            if film:
                film.add(frames.rgb(index), picture)
            told(position / len(part))
    rendered, recorded = lips.finish(), _recorded_lips(capture, part, talker.size / capture.size)
    phone_rows = _rows_of(capture.feature("phones"), capture.num_frames, part)
    result = EvaluateResult(
        protocol=protocol,
        split=judged.split,
        pictures=metrics.figures(),
        face=compare_faces(rendered, recorded),
        lips=compare_lips(rendered.lip_opening, recorded.lip_opening, speech),
        truth=compare_with_lip_truth(rendered.lip_opening, truth) if truth else TruthFigures(),
        rendered=measure_mouth(phone_rows, rendered, change=metrics.rendered_change),
        recorded=measure_mouth(phone_rows, recorded, change=metrics.recorded_change),
        num_frames=len(part),
        num_frames_without_face=lips.num_missed,
    )
    if out_dir:
        write_result(Path(out_dir), result.as_dict(), recorded, rendered)
    return result


def _film(
    out_dir: Path | None, size: int, sound: np.ndarray, *, has_recording: bool
) -> AbstractContextManager[SideBySide | None]:
    """The side-by-side video, if it is wanted."""
    return SideBySide(Path(out_dir), size, sound, has_recording=has_recording) if out_dir else nullcontext()


def _recorded_lips(capture: Capture, part: range, scale: float) -> Lips:
    return track_lips(capture.landmarks[part.start : part.stop] * scale, capture.blendshapes[part.start : part.stop])


def _rows_of(rows: np.ndarray, num_frames: int, part: range) -> np.ndarray:
    """Feature rows of a part of the frames."""
    per_frame = len(rows) // num_frames
    return rows[part.start * per_frame : part.stop * per_frame]


def _rendered(
    talker: Talker, capture: Capture, frames: TrainingFrames, protocol: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of the judged part, [S, S, 3] uint8, under the recording's own pose, expression and sound."""
    behind = _backdrops(talker, capture, frames, protocol)
    head_alone = HeadAlone(talker) if protocol == "paper" else None
    for index, conditions in zip(frames.indices, _conditions(talker, capture, frames.indices), strict=True):
        output = talker.render_conditions(conditions)
        picture = talker.picture(output, 255 * behind(index))
        if head_alone:
            alone = head_alone.render(conditions)
            picture = paste_head(picture, output, alone, frames.masks(index), frames.rgb(index))
        yield index, picture


def _conditions(talker: Talker, capture: Capture, indices: list[int]) -> Iterator[FrameConditions]:
    """The recording's own pose, expression and sound."""
    poses = pose_differences(capture.viewmats, talker.reference_viewmat.numpy())
    pose_rows = pose_features(poses, slow_differences(poses, capture.shots))
    with torch.no_grad():
        features = capture.feature(talker.speech.config.features)
        embeddings = talker.speech(talker.speech.windows(features, capture.num_frames))
    for index in indices:
        yield FrameConditions(
            viewmat=torch.from_numpy(capture.viewmats[index]),
            pose=pose_rows[index],
            audio=embeddings[index],
            expression=torch.from_numpy(capture.expression[index]),
        )


def _backdrops(talker: Talker, capture: Capture, frames: TrainingFrames, protocol: str) -> Callable[[int], np.ndarray]:
    """What stands behind the generated part of a frame: a function from its index to [S, S, 3] float 0..1."""
    if protocol == "portrait" and talker.head.torso is None:
        manifest = talker.manifest
        torso = NearestTorso(capture, talker.size, manifest.fit["num_train"], soft_masks=manifest.soft_masks)
        return lambda index: torso.behind(index, talker.plate)
    if protocol == "portrait":
        return frames.plate
    return lambda index: frames.target(index, generate_torso=False).behind.numpy()


def cross_audio(path: Path, max_frames: int | None = None) -> np.ndarray:
    """Sound that lip sync can be told from: [S] at 16 kHz, whole frames.

    Raises:
        MediaError: no sound that can be read.
        InputError: too short.
    """
    sound = read_audio(path)
    sound = sound[: max_frames * SAMPLES_PER_FRAME] if max_frames else sound
    total = num_frames_for_samples(len(sound))
    if total < _MIN_SYNC_FRAMES:
        raise InputError(
            f"audio {path}", f"at least {_MIN_SYNC_FRAMES / FRAME_RATE:.1f} s", f"{total / FRAME_RATE:.1f} s"
        )
    return np.pad(sound, (0, total * SAMPLES_PER_FRAME - len(sound)))


@one_torch_thread()
def _evaluate_cross(
    talker: Talker, capture: Capture, judged: _Judged, sound: np.ndarray, out_dir: Path | None, told: _Told
) -> EvaluateResult:
    total = num_frames_for_samples(len(sound))
    lips = LipTrack(FaceTracker())
    with _film(out_dir, talker.size, sound, has_recording=False) as film:
        for index, picture in enumerate(talker.frames(sound)):
            lips.add(picture)
            if film:
                film.add(None, picture)
            told(index / total)
    rendered = lips.finish()
    recorded = _recorded_lips(capture, judged.part, 1.0)
    result = EvaluateResult(
        protocol="cross",
        split=judged.split,
        pictures=PictureFigures(),
        face=FaceFigures(),
        lips=LipFigures(),
        truth=TruthFigures(),
        rendered=measure_mouth(get_extractor("phones").extract(sound), rendered),
        recorded=measure_mouth(_rows_of(capture.feature("phones"), capture.num_frames, judged.part), recorded),
        num_frames=total,
        num_frames_without_face=lips.num_missed,
    )
    if out_dir:
        write_result(Path(out_dir), result.as_dict(), None, rendered)
    return result
