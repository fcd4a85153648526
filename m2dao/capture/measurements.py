"""All that was found out about a recording, and what a capture keeps of it beside frames and masks.

Shapes: T frames, S samples, R feature rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from m2dao.audio.features import feature_version
from m2dao.capture.cameras.solve import CameraSolution
from m2dao.capture.crop import Crop
from m2dao.capture.faces.models import BLENDSHAPE_NAMES
from m2dao.capture.faces.signals import EXPRESSION_NAMES, Signals
from m2dao.capture.faces.tracking import Tracks
from m2dao.capture.review.findings import Finding
from m2dao.capture.review.quality import face_height_px
from m2dao.capture.review.report import PlotData, SheetFrame, contact_sheet, plots
from m2dao.capture.review.sound import SoundMeasures
from m2dao.capture.review.sync import SyncFinding
from m2dao.capture.writer import CaptureWriter
from m2dao.regions import REGIONS

_NUM_SHEET_FRAMES = 6


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """What the stages of ``prepare`` found.

    Attributes:
        name: of the recording.
        tracks: of the face, in pixels of the recording.
        crop: the square that was cut out.
        landmarks: [T, 478, 3] in pixels of the square.
        cameras, signals, sync, sound: see there.
        waveform: [S] as stored.
        features: [R, F] audio features by name.
        jumps: frames at which the picture jumps.
        problems: what costs quality.
    """

    name: str
    tracks: Tracks
    crop: Crop
    landmarks: np.ndarray
    cameras: CameraSolution
    signals: Signals
    sync: SyncFinding
    sound: SoundMeasures
    waveform: np.ndarray
    features: dict[str, np.ndarray]
    jumps: list[int]
    problems: list[Finding]

    @property
    def verdict(self) -> str:
        return "usable" if self.problems else "good"

    @property
    def poses_on_picture_share(self) -> float:
        """Of the frames, those whose pose was refined on the picture."""
        return float(self.cameras.measured_on_picture.mean())


def write_measurements(writer: CaptureWriter, found: Measurements, *, source: dict) -> str:
    """Complete a capture whose frames and masks are written; returns its hash.

    Args:
        source: what the manifest says about the recording.
    """
    writer.add_sound("audio.wav", found.waveform)
    writer.add_tensors("features.safetensors", found.features)
    writer.add_tensors("tracks.safetensors", _tracks_of(found))
    _write_report(writer, found)
    quality = _quality_of(found)
    writer.add_json("quality.json", quality)
    return writer.finish(
        {
            "size": found.crop.size,
            "num_frames": found.tracks.num_frames,
            "source": source,
            "crop": found.crop.as_dict(),
            "K": found.cameras.K.tolist(),
            "cuts": found.jumps,
            "region_names": list(REGIONS),
            "expression_names": list(EXPRESSION_NAMES),
            "blendshape_names": list(BLENDSHAPE_NAMES),
            "features": {name: feature_version(name) for name in sorted(found.features)},
            "quality": quality,
        }
    )


def _tracks_of(found: Measurements) -> dict[str, np.ndarray]:
    """See ``TRACK_SHAPES`` in capture/dataset.py."""
    cameras, signals = found.cameras, found.signals
    return {
        "viewmats": cameras.viewmats.astype(np.float32),
        "K": cameras.K.astype(np.float32),
        "landmarks": found.landmarks,
        "canonical_landmarks": cameras.canonical_landmarks.astype(np.float32),
        "blendshapes": found.tracks.blendshapes,
        "lip_opening": signals.lip_opening,
        "lip_width": signals.lip_width,
        "blink": signals.blink,
        "expression": signals.expression,
        "valid": found.tracks.valid.astype(np.uint8),
    }


def _quality_of(found: Measurements) -> dict:
    cameras = found.cameras
    return {
        "verdict": found.verdict,
        "problems": [finding.text for finding in found.problems],
        "kinds": [finding.kind for finding in found.problems],
        "face_height_px": round(face_height_px(found.tracks), 1),
        "pose_jitter_deg": round(float(cameras.pose_jitter_deg), 5),
        "second_difference_deg": round(float(cameras.second_difference_deg), 5),
        "poses_on_picture_share": round(found.poses_on_picture_share, 4),
        "reprojection_px": round(float(cameras.reprojection_px), 4),
        "num_interpolated": int((~found.tracks.valid).sum()),
        "sharpness": round(float(np.nanmedian(found.tracks.sharpness)), 1),
        "sound": {key: round(value, 4) for key, value in asdict(found.sound).items()},
        "sync": found.sync.as_dict(),
    }


def _write_report(writer: CaptureWriter, found: Measurements) -> None:
    """What a person looks at: frames with everything drawn into them, and plots."""
    cameras, landmarks = found.cameras, found.landmarks
    chosen = np.linspace(0, found.tracks.num_frames - 1, _NUM_SHEET_FRAMES).round().astype(int)
    frames = [
        SheetFrame(
            index=int(i),
            rgb=writer.frame(i),
            masks=writer.masks(i),
            landmarks=landmarks[i],
            viewmat=cameras.viewmats[i],
        )
        for i in chosen
    ]
    plate = writer.read_picture("plate.png")
    sheet = contact_sheet(frames, canonical_landmarks=cameras.canonical_landmarks, K=cameras.K, plate=plate)
    writer.add_jpeg("contact_sheet.jpg", sheet)
    data = PlotData(
        viewmats=cameras.viewmats,
        valid=found.tracks.valid,
        lip_opening=found.signals.lip_opening,
        blink=found.signals.blink,
        lag_frames=found.sync.lag_frames,
        lag_correlation=found.sync.lag_correlation,
        sync_offset_frames=found.sync.offset_frames,
    )
    writer.add_bytes("plots.png", plots(data, title=found.name))
