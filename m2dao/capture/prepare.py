"""Makes a capture of a recording: two passes over the video, one over the sound.

1. The sound is read, checked, and turned into features in a thread of its own.
2. First pass: the face is tracked in every frame; what rules the recording out is found here.
3. A square is chosen from all tracks; second pass: it is cut out, divided into regions and stored.
4. Head poses are solved on the stored pictures, signals measured, the lag between sound and lips estimated.
5. The manifest with the hash of every file completes the folder, which only then gets its name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from m2dao.assets import read_lock
from m2dao.audio.features import feature_version
from m2dao.capture.cameras.solve import CameraSolution, solve_cameras
from m2dao.capture.crop import Crop, choose_crop
from m2dao.capture.cutting import cut_and_store
from m2dao.capture.faces.signals import measure_signals
from m2dao.capture.faces.tracker import FaceTracker
from m2dao.capture.faces.tracking import TRACKING_SIDE, Tracks, track_recording
from m2dao.capture.measurements import Measurements, write_measurements
from m2dao.capture.needs import MODELS
from m2dao.capture.review.cuts import find_cuts
from m2dao.capture.review.early import EarlyReview, LostFace
from m2dao.capture.review.findings import Finding, told_by_reader
from m2dao.capture.review.quality import (
    QualityRules,
    check_faces,
    check_length,
    motion_findings,
    picture_findings,
)
from m2dao.capture.review.sound import measure_sound, other_voices, sound_findings
from m2dao.capture.review.sync import find_sync, shift_sound
from m2dao.capture.writer import CaptureWriter
from m2dao.errors import CaptureRejected, ConfigError
from m2dao.files import file_sha256
from m2dao.formats import CAPTURE, CAPTURE_GENERATION
from m2dao.media.audio import SoundChoice, as_16_bit, read_audio
from m2dao.media.container import MediaLimits
from m2dao.media.picture.still import refuse_still
from m2dao.media.video import VideoInfo, probe_video
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME, num_samples_for_frames

MIN_SIZE, MAX_SIZE = 64, 1024
# A capture keeps tracks and sound of the whole recording in memory: 20 minutes are about 400 MB.
LIMITS = MediaLimits(max_duration_s=20 * 60.0, min_sample_rate=8000)
STORED_FEATURES = ("logmel", "phones")
SYNC_FEATURE = "phones"
NUM_TRACKERS = 2
COUNT_EVERY = 6  # of a tracker's frames, between two looks for further faces
MAX_SOUND_MISSING_S = 0.5

# Share of the whole work after which a stage begins, as measured.
STAGES = {
    "reading the sound": 0.0,
    "following the face": 0.02,
    "cutting out regions": 0.42,
    "finding head poses": 0.80,
    "writing the report": 0.97,
}


@dataclass(frozen=True, kw_only=True)
class PrepareResult:
    """What `m2dao prepare` answers.

    Attributes:
        num_frames, seconds, fps: of the capture.
        pose_jitter_deg: noise of the head poses: standard deviation of its second difference, from two independent
            halves of the face's texture (see cameras).
        second_difference_deg: the same of the poses themselves, which counts the head's real accelerations as well.
        poses_on_picture_share: of the frames, those whose pose was refined on the picture.
        sync_offset_frames: by how many frames the recording's sound comes late against the lips (negative: early).
        verdict: "good", or "usable" when there are problems.
        problems: what costs quality, in words for the person who made the recording.
        kinds: of the problems, in words for programs.
        sync_confidence: how sure the offset is; sync_corrected_frames: by how much the stored sound was moved for it.
        elapsed_s, real_time_factor: time this took, also as a share of the recording's length.
        content_sha256: the capture's hash.
    """

    num_frames: int
    seconds: float
    fps: float
    pose_jitter_deg: float
    sync_offset_frames: int
    verdict: str
    problems: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    second_difference_deg: float = 0.0
    poses_on_picture_share: float = 0.0
    sync_confidence: float = 0.0
    sync_corrected_frames: int = 0
    size: int = 0
    focal_px: float = 0.0
    reprojection_px: float = 0.0
    elapsed_s: float = 0.0
    real_time_factor: float = 0.0
    content_sha256: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


def prepare(
    video: Path | str,
    out: Path | str,
    *,
    size: int = 512,
    features: tuple[str, ...] = STORED_FEATURES,
    audio_track: int | None = None,
    video_track: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[str, float], None] | None = None,
) -> PrepareResult:
    """Make the capture folder `out` from the recording `video`.

    If an earlier call was killed, this one goes on with its work: faces found and frames stored are not made again, and
    the capture is the one it would have been.

    Args:
        size: side of the stored frames, px, even.
        features: audio features to store, names of `m2dao.audio.features`.
        audio_track, video_track: numbers of the tracks to use; those that `m2dao probe` names if None.
        overwrite: replace a capture that is already at `out`.
        on_progress: called with the stage in words and the share of the whole work done, 0..1.

    Raises:
        MediaError: the file cannot be decoded.
        CaptureRejected: the recording cannot become a capture; says what and where.
        ConfigError: `size` is out of range.
        InputError: `out` may not be written.
    """
    if not MIN_SIZE <= size <= MAX_SIZE or size % 2:
        raise ConfigError("--size", f"an even number from {MIN_SIZE} to {MAX_SIZE}", str(size))
    started = time.perf_counter()
    video = Path(video)
    progress = _Progress(on_progress)
    progress.stage("reading the sound")
    info = probe_video(video, LIMITS, track=video_track)
    refuse_still(video, limits=LIMITS, track=info.index)
    source = _source(info) | _chosen(info, audio_track)
    with CaptureWriter(Path(out), overwrite=overwrite, key=_key(source, size, features)) as writer:
        found = _Maker(info, writer, size, features, progress, QualityRules(), audio_track).measure()
        progress.stage("writing the report")
        sha256 = write_measurements(writer, found, source=source)
    elapsed_s = time.perf_counter() - started
    progress.stage("writing the report", 1.0)
    return _result(found, sha256, elapsed_s)


class _Progress:
    """Turns the progress of a stage into that of the whole."""

    def __init__(self, callback: Callable[[str, float], None] | None):
        self._callback = callback or (lambda stage, fraction: None)
        self._names = list(STAGES)

    def stage(self, name: str, share: float = 0.0) -> None:
        begin = STAGES[name]
        following = self._names.index(name) + 1
        end = STAGES[self._names[following]] if following < len(self._names) else 1.0
        self._callback(name, begin + (end - begin) * min(max(share, 0.0), 1.0))


class _Maker:
    """The stages of one `prepare`, in order."""

    def __init__(
        self,
        info: VideoInfo,
        writer: CaptureWriter,
        size: int,
        features: tuple[str, ...],
        progress: _Progress,
        rules: QualityRules,
        audio_track: int | None,
    ):
        self.info, self.video = info, info.path
        self.writer, self.size, self.features = writer, size, features
        self.progress, self.rules, self.audio_track = progress, rules, audio_track
        self.name = self.video.name
        self.problems: list[Finding] = []
        self.jumps: list[int] = []

    def measure(self) -> Measurements:
        """Everything up to the report."""
        if not self.info.has_audio:
            raise CaptureRejected(self.name, "a recording with sound", "none", "record picture and sound together")
        told: list[str] = list(self.info.notes)
        choice = SoundChoice(limits=LIMITS, track=self.audio_track, video_track=self.info.index)
        waveform = read_audio(self.video, choice, notes=told)
        sound = measure_sound(waveform, self.name)
        num_heard = -(-len(waveform) // SAMPLES_PER_FRAME)
        check_length(num_heard, self.name, self.rules)
        tracks = self._track(num_heard, told)
        self.problems += [told_by_reader(note) for note in dict.fromkeys(told)]
        num_frames = self._num_frames(tracks, waveform)
        tracks = tracks.cut_to(num_frames)
        self.problems += check_length(num_frames, self.name, self.rules)
        cuts = find_cuts(tracks)
        self.problems += check_faces(tracks, cuts, self.name, self.rules)
        self.jumps = cuts.jumps
        crop = choose_crop(tracks.landmarks, tracks.valid, width=tracks.width, height=tracks.height, size=self.size)
        landmarks = crop.landmarks(tracks.landmarks)
        stored = as_16_bit(_of_length(waveform, num_samples_for_frames(num_frames)))
        with ThreadPoolExecutor(1, thread_name_prefix="features") as pool:
            # features are those of the samples as stored, to the last one
            extraction = pool.submit(_extract_features, stored, (*self.features, SYNC_FEATURE))
            self._cut_out(tracks, landmarks, crop)
            feature_rows = extraction.result()
        cameras = self._solve(landmarks, tracks)
        signals = measure_signals(landmarks, tracks.blendshapes)
        sync = find_sync(feature_rows[SYNC_FEATURE], signals.lip_opening)
        if sync.corrected_frames:
            stored = shift_sound(stored, sync.corrected_frames)
            feature_rows = _extract_features(stored, self.features)
        self.problems += sound_findings(sound) + other_voices(stored, signals.lip_opening)
        self.problems += picture_findings(tracks, crop, self.rules)
        self.problems += motion_findings(cameras.viewmats, signals.lip_opening, cameras.pose_jitter_deg, self.rules)
        return Measurements(
            name=self.name,
            tracks=tracks,
            crop=crop,
            landmarks=landmarks,
            cameras=cameras,
            signals=signals,
            sync=sync,
            sound=sound,
            waveform=stored,
            features={name: feature_rows[name] for name in self.features},
            jumps=self.jumps,
            problems=self.problems + sync.problems,
        )

    def _track(self, num_heard: int, notes: list[str]) -> Tracks:
        """First pass, which ends early where nothing that follows can help."""
        expected = (self.info.duration_s or 60.0) * FRAME_RATE
        lost_face = LostFace(self.name, num_heard, self.rules)

        def on_frame(done: int, found: bool) -> None:
            lost_face(done - 1, found)
            self.progress.stage("following the face", done / expected)

        trackers = [FaceTracker(count_every=COUNT_EVERY) for _ in range(NUM_TRACKERS)]
        return track_recording(
            self.video,
            self.info,
            trackers,
            journals=self.writer.notes,
            limits=LIMITS,
            on_frame=on_frame,
            on_piece=EarlyReview(self.name, num_heard, self.rules),
            notes=notes,
        )

    def _num_frames(self, tracks: Tracks, waveform: np.ndarray) -> int:
        """Frames that have both picture and sound."""
        missing_s = tracks.num_frames / FRAME_RATE - len(waveform) / (FRAME_RATE * SAMPLES_PER_FRAME)
        if missing_s <= MAX_SOUND_MISSING_S:
            return min(tracks.num_frames, -(-len(waveform) // SAMPLES_PER_FRAME))
        text = f"the sound ends {missing_s:.1f} s before the picture: the rest of the picture is left out"
        self.problems.append(Finding("sound ends", text))
        return len(waveform) // SAMPLES_PER_FRAME

    def _cut_out(self, tracks: Tracks, landmarks: np.ndarray, crop: Crop) -> None:
        """Second pass: frames, masks and plate."""
        plate = cut_and_store(
            self.info,
            tracks,
            landmarks,
            crop,
            self.writer,
            limits=LIMITS,
            on_frame=lambda done: self.progress.stage("cutting out regions", done / tracks.num_frames),
        )
        self.writer.add_png("plate.png", plate)

    def _solve(self, landmarks: np.ndarray, tracks: Tracks) -> CameraSolution:
        self.progress.stage("finding head poses")
        asked = itertools.count(1)

        def frame(index: int) -> np.ndarray:
            self.progress.stage("finding head poses", next(asked) / (tracks.num_frames + 100))
            return self.writer.brightness(index)

        return solve_cameras(landmarks, tracks.valid, self.size, frame, masks=self.writer.masks, jumps=self.jumps)


def _result(found: Measurements, sha256: str, elapsed_s: float) -> PrepareResult:
    cameras, seconds = found.cameras, found.tracks.num_frames / FRAME_RATE
    return PrepareResult(
        num_frames=found.tracks.num_frames,
        seconds=seconds,
        fps=float(FRAME_RATE),
        pose_jitter_deg=float(cameras.pose_jitter_deg),
        second_difference_deg=float(cameras.second_difference_deg),
        poses_on_picture_share=found.poses_on_picture_share,
        sync_offset_frames=found.sync.offset_frames,
        verdict=found.verdict,
        problems=[finding.text for finding in found.problems],
        kinds=[finding.kind for finding in found.problems],
        sync_confidence=found.sync.confidence,
        sync_corrected_frames=found.sync.corrected_frames,
        size=found.crop.size,
        focal_px=float(cameras.K[0, 0]),
        reprojection_px=float(cameras.reprojection_px),
        elapsed_s=elapsed_s,
        real_time_factor=elapsed_s / seconds,
        content_sha256=sha256,
    )


def _extract_features(waveform: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    from m2dao.audio.features import get_extractor

    return {name: get_extractor(name).extract(waveform).astype(np.float32) for name in dict.fromkeys(names)}


def _of_length(values: np.ndarray, length: int) -> np.ndarray:
    """The first `length` values, zeros where there are not so many."""
    return np.pad(values[:length], (0, max(0, length - len(values))))


def _key(source: dict, size: int, features: tuple[str, ...]) -> str:
    """What decides a capture's content, as a word."""
    models = {name: [file.sha256 for file in read_lock()[name].files] for name in MODELS}
    parts = [
        source,
        CAPTURE.version,
        CAPTURE_GENERATION,
        version("m2dao"),
        size,
        {name: feature_version(name) for name in features},
        models,
        [NUM_TRACKERS, COUNT_EVERY, TRACKING_SIDE],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _chosen(info: VideoInfo, audio_track: int | None) -> dict:
    """The tracks that were asked for, where the file leaves a choice."""
    return {} if audio_track is None else {"video_track": info.index, "audio_track": audio_track}


def _source(info: VideoInfo) -> dict:
    return {
        "name": info.path.name,
        "sha256": file_sha256(info.path),
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "rotation_deg": info.rotation_deg,
        "frame_rate": str(info.frame_rate),
        "start_time_s": info.start_time_s,
        "duration_s": info.duration_s,
    }
