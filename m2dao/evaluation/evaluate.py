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

import numpy as np
import torch

from m2dao.audio.features import get_extractor
from m2dao.capture.cameras.frame_poses import with_poses
from m2dao.capture.dataset import Capture
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.errors import ConfigError, InputError
from m2dao.evaluation.mouth import Lips, LipTrack, compare_faces, measure_mouth, track_lips
from m2dao.evaluation.nearest_torso import NearestTorso
from m2dao.evaluation.picture_metrics import PictureMetrics
from m2dao.evaluation.report import SideBySide, write_result
from m2dao.evaluation.result import EvaluateResult, FaceFigures, PictureFigures
from m2dao.identity.talker import Talker
from m2dao.kernels.threads import one_torch_thread
from m2dao.media.audio import read_audio
from m2dao.motion.poses import pose_differences, pose_features, slow_differences
from m2dao.motion.talking_head import FrameDrive
from m2dao.regions import WHOLE_HEAD
from m2dao.render.types import RenderOutput
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME, num_frames_for_samples, train_test_split
from m2dao.training.frames.behind import head_taken
from m2dao.training.frames.targets import TrainingFrames, decode_frames

PROTOCOLS = ("paper", "portrait", "cross")
_MIN_SYNC_FRAMES = 60
_Told = Callable[[float], None]  # told the share done


def evaluate(
    identity_dir: Path | str,
    capture_dir: Path | str,
    protocol: str = "paper",
    *,
    audio: Path | None = None,
    out_dir: Path | None = None,
    max_frames: int | None = None,
    backend: str | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> EvaluateResult:
    """Measure an identity on the part of its capture it was not trained on.

    Args:
        identity_dir, capture_dir: the identity and the capture it was fitted to.
        protocol: ``paper``, ``portrait`` or ``cross``.
        audio: another voice, for ``cross``.
        out_dir: where a side-by-side video, plots and the result go, if given.
        max_frames: only the first so many.
        backend: render backend.
        on_progress: told the share done.

    Raises:
        ConfigError: the protocol does not fit the arguments or the identity.
        CaptureCorrupt, CheckpointCorrupt: capture or identity cannot be read.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {protocol!r}", f"one of {', '.join(PROTOCOLS)}")
    if (protocol == "cross") != (audio is not None):
        raise ConfigError(f"protocol {protocol}", "--audio with cross and only with it", f"audio={audio}")
    talker = Talker.load(identity_dir, backend=backend)
    capture = with_poses(Capture.open(capture_dir), talker.manifest.poses)
    told = on_progress or (lambda share: None)
    if audio is not None:
        return _evaluate_cross(talker, capture, Path(audio), out_dir, max_frames, told)
    if talker.manifest.capture_sha256 != capture.content_sha256:
        raise InputError(
            str(capture_dir),
            f"the capture {identity_dir} was fitted to",
            "another one",
            "its test part would not be unseen; use protocol cross",
        )
    return _evaluate_pictures(talker, capture, protocol, out_dir, max_frames, told)


@one_torch_thread()
def _evaluate_pictures(
    talker: Talker, capture: Capture, protocol: str, out_dir: Path | None, max_frames: int | None, told: _Told
) -> EvaluateResult:
    _, test = train_test_split(capture.num_frames)
    test = test[:max_frames] if max_frames else test
    frames = decode_frames(capture, talker.size, test, plate=talker.plate, soft_masks=talker.manifest.soft_masks)
    metrics, lips = PictureMetrics(talker.size), LipTrack(FaceTracker())
    sound = capture.waveform[test.start * SAMPLES_PER_FRAME : test.stop * SAMPLES_PER_FRAME]
    with _film(out_dir, talker.size, sound, has_recording=True) as film:
        for position, (index, picture) in enumerate(_rendered(talker, capture, frames, protocol)):
            metrics.add(frames.rgb(index), picture, frames.soft_masks(index))
            lips.add(picture)
            if film:
                film.add(frames.rgb(index), picture)
            told(position / len(test))
    rendered, recorded = lips.finish(), _recorded_lips(capture, test, talker.size / capture.size)
    phone_rows = _rows_of(capture.feature("phones"), capture.num_frames, test)
    result = EvaluateResult(
        protocol=protocol,
        pictures=metrics.figures(),
        face=compare_faces(rendered, recorded),
        rendered=measure_mouth(phone_rows, rendered, change=metrics.rendered_change),
        recorded=measure_mouth(phone_rows, recorded, change=metrics.recorded_change),
        num_frames=len(test),
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
    """Frames of the test part, [S, S, 3] uint8, under the recording's own pose, expression and sound."""
    poses = pose_differences(capture.viewmats, talker.reference_viewmat.numpy())
    pose_rows = pose_features(poses, slow_differences(poses))
    with torch.no_grad():
        features = capture.feature(talker.speech.config.features)
        embeddings = talker.speech(talker.speech.windows(features, capture.num_frames))
    behind = _backdrops(talker, capture, frames, protocol)
    for index in frames.indices:
        drive = FrameDrive(
            viewmat=torch.from_numpy(capture.viewmats[index]),
            pose=pose_rows[index],
            audio=embeddings[index],
            expression=torch.from_numpy(capture.expression[index]),
        )
        output = talker.render_drive(drive)
        picture = talker.picture(output, 255 * behind(index))
        yield index, _over_recording(picture, talker, output, frames, index) if protocol == "paper" else picture


def _over_recording(
    picture: np.ndarray, talker: Talker, output: RenderOutput, frames: TrainingFrames, index: int
) -> np.ndarray:
    """Protocol `paper`, [S, S, 3] uint8: the recording with the generated head in it.

    Where the recording shows the head, ``picture`` stands: nobody knows what lies behind. Elsewhere the head covers the
    recorded torso and background. A soft mask says how much head a recorded pixel already holds; only what goes beyond
    that covers it.
    """
    masks, recorded = frames.masks(index), frames.rgb(index)
    has_torso = talker.head.torso is not None
    coverage = (output.colors[0, ..., 3] if has_torso else output.alphas[0, ..., 0]).cpu().numpy()
    held = masks[..., WHOLE_HEAD].sum(-1)
    beyond = np.clip((coverage - held) / np.maximum(1 - held, 1e-6), 0, 1)
    if not has_torso:  # the recording shines through the picture already
        beyond = beyond / np.maximum(coverage, 1e-6)
    share = np.where(head_taken(masks), 1, beyond)[..., None]
    return np.round(share * picture + (1 - share) * recorded).astype(np.uint8)


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
    talker: Talker, capture: Capture, audio: Path, out_dir: Path | None, max_frames: int | None, told: _Told
) -> EvaluateResult:
    sound = cross_audio(audio, max_frames)
    total = num_frames_for_samples(len(sound))
    lips = LipTrack(FaceTracker())
    with _film(out_dir, talker.size, sound, has_recording=False) as film:
        for index, picture in enumerate(talker.frames(sound)):
            lips.add(picture)
            if film:
                film.add(None, picture)
            told(index / total)
    rendered = lips.finish()
    _, test = train_test_split(capture.num_frames)
    recorded = _recorded_lips(capture, test, 1.0)
    result = EvaluateResult(
        protocol="cross",
        pictures=PictureFigures(),
        face=FaceFigures(),
        rendered=measure_mouth(get_extractor("phones").extract(sound), rendered),
        recorded=measure_mouth(_rows_of(capture.feature("phones"), capture.num_frames, test), recorded),
        num_frames=total,
        num_frames_without_face=lips.num_missed,
    )
    if out_dir:
        write_result(Path(out_dir), result.as_dict(), None, rendered)
    return result
