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
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from m2dao.audio.features import get_extractor
from m2dao.capture.cameras.frame_poses import with_poses
from m2dao.capture.dataset import Capture
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.errors import ConfigError, InputError
from m2dao.evaluation.mouth import Lips, LipTrack, lip_sync, mouth_discipline, track_lips
from m2dao.evaluation.nearest_torso import NearestTorso
from m2dao.evaluation.picture_metrics import PictureMetrics
from m2dao.evaluation.report import SideBySide, write_result
from m2dao.figures import rounded
from m2dao.identity.talker import Talker
from m2dao.kernels.threads import one_torch_thread
from m2dao.media.audio import read_audio
from m2dao.motion.poses import pose_differences, slow_differences, viewmat_from_difference
from m2dao.motion.talking_head import FrameDrive
from m2dao.render.types import RenderOutput
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME, num_frames_for_samples, train_test_split
from m2dao.training.frames.behind import head_taken
from m2dao.training.frames.targets import TrainingFrames, decode_frames

PROTOCOLS = ("paper", "portrait", "cross")
_MIN_SYNC_FRAMES = 60


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """The JSON of `m2dao evaluate`; None where a protocol cannot say."""

    protocol: str
    psnr_db: float | None = None
    ssim: float | None = None
    st_lpips: float | None = None
    lmd_px: float | None = None
    neck_psnr_db: float | None = None
    edge_psnr_db: float | None = None
    flicker: float | None = None
    change: float | None = None
    recording_change: float | None = None
    sync_offset_frames: float | None = None
    sync_confidence: float | None = None
    sync_sure: bool | None = None
    num_frames: int = 0
    head_psnr_db: float | None = None
    lower_blendshape_error: float | None = None
    upper_blendshape_error: float | None = None
    recording_sync_offset_frames: float | None = None
    recording_sync_confidence: float | None = None
    recording_sync_sure: bool | None = None
    lip_correlation: float | None = None
    lip_change: float | None = None
    recording_lip_change: float | None = None
    jitter_silence: float | None = None
    recording_jitter_silence: float | None = None
    opening_silence: float | None = None
    recording_opening_silence: float | None = None
    held_vowel_jitter: float | None = None
    recording_held_vowel_jitter: float | None = None
    closure_mbp: float | None = None
    recording_closure_mbp: float | None = None
    num_frames_without_face: int = 0

    def as_dict(self) -> dict:
        return rounded(asdict(self))


def evaluate(
    identity_dir: Path,
    capture_dir: Path,
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
    if protocol == "cross":
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
def _evaluate_pictures(talker, capture, protocol: str, out_dir, max_frames, told) -> EvaluateResult:
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
        **metrics.finish(),
        **rendered.compared_with(recorded),
        **_mouth_figures(phone_rows, rendered),
        **{f"recording_{name}": value for name, value in _mouth_figures(phone_rows, recorded).items()},
        num_frames=len(test),
        num_frames_without_face=lips.num_missed,
    )
    if out_dir:
        write_result(Path(out_dir), result.as_dict(), recorded, rendered)
    return result


def _film(out_dir, size: int, sound: np.ndarray, *, has_recording: bool):
    return SideBySide(Path(out_dir), size, sound, has_recording=has_recording) if out_dir else nullcontext()


def _recorded_lips(capture: Capture, part: range, scale: float) -> Lips:
    return track_lips(capture.landmarks[part.start : part.stop] * scale, capture.blendshapes[part.start : part.stop])


def _rows_of(rows: np.ndarray, num_frames: int, part: range) -> np.ndarray:
    """Feature rows of a part of the frames."""
    per_frame = len(rows) // num_frames
    return rows[part.start * per_frame : part.stop * per_frame]


def _mouth_figures(phone_rows: np.ndarray, lips: Lips) -> dict[str, float | None]:
    sync = lip_sync(phone_rows, lips.lip_opening)
    return {
        "sync_offset_frames": sync.offset_frames if sync else None,
        "sync_confidence": sync.confidence if sync else None,
        "sync_sure": sync.sure if sync else None,
        **mouth_discipline(phone_rows, lips.lip_opening),
    }


def _rendered(
    talker: Talker, capture: Capture, frames: TrainingFrames, protocol: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of the test part, [S, S, 3] uint8, under the recording's own pose, expression and sound."""
    reference = talker.reference_viewmat
    slow = slow_differences(pose_differences(capture.viewmats, reference.numpy()))
    with torch.no_grad():
        features = capture.feature(talker.speech.config.features)
        embeddings = talker.speech(talker.speech.windows(features, capture.num_frames))
    behind = _backdrops(talker, capture, frames, protocol)
    for index in frames.indices:
        drive = FrameDrive(
            viewmat=torch.from_numpy(capture.viewmats[index]),
            slow_viewmat=viewmat_from_difference(slow[index], reference),
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

    Where the recording shows the head, ``picture`` stands: what lies behind is unknown. Elsewhere the head covers the recorded torso
    and background as far as it goes beyond what a soft mask says that the recorded pixel holds of it already.
    """
    masks, recorded = frames.masks(index), frames.rgb(index)
    has_torso = talker.head.torso is not None
    coverage = (output.colors[0, ..., 3] if has_torso else output.alphas[0, ..., 0]).cpu().numpy()
    held = masks[..., :3].sum(-1)
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
def _evaluate_cross(talker, capture, audio: Path, out_dir, max_frames, told) -> EvaluateResult:
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
    recorded = _mouth_figures(
        _rows_of(capture.feature("phones"), capture.num_frames, test), _recorded_lips(capture, test, 1.0)
    )
    result = EvaluateResult(
        protocol="cross",
        **_mouth_figures(get_extractor("phones").extract(sound), rendered),
        **{f"recording_{name}": value for name, value in recorded.items()},
        num_frames=total,
        num_frames_without_face=lips.num_missed,
    )
    if out_dir:
        write_result(Path(out_dir), result.as_dict(), None, rendered)
    return result
