"""Reads a capture and checks it against its manifest.

A capture folder holds (T frames, size S):

    capture.json           manifest: format, version, size, camera, source, what was done, hash of every file
    frames/000000.jpg      T pictures, S x S
    masks/000000.png       T soft region masks, four channels 0..255 in the order of REGIONS
    plate.png              the background without the person
    audio.wav              16 kHz, 16 bit, exactly T * 640 samples
    tracks.safetensors     viewmats, K, landmarks, signals (see TRACK_SHAPES)
    features.safetensors   audio features by name
    quality.json, contact_sheet.jpg, plots.png
"""

from __future__ import annotations

import hashlib
import json
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from m2dao.audio.features import feature_version
from m2dao.errors import CaptureCorrupt
from m2dao.files import file_sha256
from m2dao.formats import CAPTURE
from m2dao.pictures import read_picture
from m2dao.regions import NUM_BLENDSHAPES, NUM_LANDMARKS
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME

# name -> shape after the T axis; None marks a tensor without one
TRACK_SHAPES: dict[str, tuple[bool, tuple[int, ...], type]] = {
    "viewmats": (True, (4, 4), np.float32),
    "K": (False, (3, 3), np.float32),
    "landmarks": (True, (NUM_LANDMARKS, 3), np.float32),
    "canonical_landmarks": (False, (NUM_LANDMARKS, 3), np.float32),
    "blendshapes": (True, (NUM_BLENDSHAPES,), np.float32),
    "lip_opening": (True, (), np.float32),
    "lip_width": (True, (), np.float32),
    "blink": (True, (2,), np.float32),
    "expression": (True, (8,), np.float32),
    "valid": (True, (), np.uint8),
}


class Capture:
    """An opened capture; it reads frames and masks when asked, so memory does not grow with length.

    Attributes:
        folder: where it lies.
        manifest: the content of capture.json.
        num_frames: T.
        size: S, side of frames and masks in px.
        K: float32 [3, 3], px of the frames.
        viewmats: float32 [T, 4, 4], head space to camera.
        landmarks: float32 [T, 478, 3], px.
        canonical_landmarks: float32 [478, 3], head space, metres.
        blendshapes: float32 [T, 52].
        lip_opening, lip_width: float32 [T], in outer-eye distances.
        blink: float32 [T, 2], left and right, 0 open to 1 closed.
        expression: float32 [T, 8], named by `expression_names`.
        valid: bool [T], False where the face was not seen and its track is interpolated.
    """

    viewmats: np.ndarray
    K: np.ndarray
    landmarks: np.ndarray
    canonical_landmarks: np.ndarray
    blendshapes: np.ndarray
    lip_opening: np.ndarray
    lip_width: np.ndarray
    blink: np.ndarray
    expression: np.ndarray
    valid: np.ndarray

    def __init__(self, folder: Path, manifest: dict):
        self.folder = folder
        self.manifest = manifest
        self.num_frames: int = manifest["num_frames"]
        self.size: int = manifest["size"]
        for name, value in _load_tensors(folder / "tracks.safetensors").items():
            if name in TRACK_SHAPES:
                setattr(self, name, _checked_track(name, value, self.num_frames, folder))
        absent = [name for name in TRACK_SHAPES if name not in vars(self)]
        if absent:
            raise CaptureCorrupt(str(folder / "tracks.safetensors"), ", ".join(TRACK_SHAPES), f"no {', '.join(absent)}")
        self.valid = self.valid.astype(bool)
        self._features: dict[str, np.ndarray] | None = None

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = True) -> Capture:
        """Open a capture folder.

        Args:
            verify: hash every file against the manifest (about a second for a minute of video). Without it only
                presence and sizes are checked.

        Raises:
            CaptureCorrupt: no capture, of another version, incomplete or altered; names the file.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        _check_files(folder, manifest["files"], verify)
        return cls(folder, manifest)

    @property
    def content_sha256(self) -> str:
        """One hash of everything in the capture: that of the manifest's table of files."""
        return files_sha256(self.manifest["files"])

    @property
    def expression_names(self) -> tuple[str, ...]:
        return tuple(self.manifest["expression_names"])

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` as uint8 [S, S, 3], RGB."""
        return cv2.cvtColor(self._image(frame_names(self._checked(index))[0], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def masks(self, index: int) -> np.ndarray:
        """Region masks of frame `index` as uint8 [S, S, 4] in the order of REGIONS; they sum to at most 255."""
        return _unpack_masks(self._image(frame_names(self._checked(index))[1], cv2.IMREAD_UNCHANGED))

    @property
    def plate(self) -> np.ndarray:
        """The background as uint8 [S, S, 3], RGB."""
        return cv2.cvtColor(self._image("plate.png", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    @property
    def shots(self) -> np.ndarray:
        """int64 [T]: number of each frame's stretch between two cuts, rising from 0.

        Whatever must not mix what is before a cut and after it goes by this: poses, backgrounds, postures, stitching.
        """
        return np.searchsorted(self.cuts, np.arange(self.num_frames), side="right")

    @property
    def cuts(self) -> np.ndarray:
        """int64 [C]: frames that do not continue the one before, in order."""
        before = self.manifest.get("quality", {}).get("jump_cuts", [])  # where captures had them until 2026-11
        return np.sort(np.asarray(self.manifest.get("cuts", before), np.int64))

    @property
    def waveform(self) -> np.ndarray:
        """The sound as float32 [T * 640] at 16 kHz."""
        path = self.folder / "audio.wav"
        try:
            with wave.open(str(path), "rb") as source:
                shape = (source.getframerate(), source.getnchannels(), source.getsampwidth(), source.getnframes())
                data = source.readframes(source.getnframes())
        except (wave.Error, OSError, EOFError) as error:
            raise CaptureCorrupt(str(path), "a wave file", str(error), "prepare the recording again") from error
        expected = (SAMPLE_RATE, 1, 2, self.num_frames * SAMPLES_PER_FRAME)
        if shape != expected:
            raise CaptureCorrupt(str(path), f"rate, channels, bytes, samples {expected}", f"{shape}")
        return np.frombuffer(data, "<i2").astype(np.float32) / 32767.0

    def feature(self, name: str) -> np.ndarray:
        """Audio feature `name` as float32 [R, F], R = T * (rows per second) / 25.

        A name like ``"logmel+phones"`` gives stored features side by side; they must have one rate.

        Raises:
            CaptureCorrupt: this feature is not in the capture, or its rows are of another version.
        """
        stored = self._all_features()
        for part in set(name.split("+")) & set(stored):
            found, today = self.manifest["features"].get(part), feature_version(part)
            if found != today:
                raise CaptureCorrupt(
                    f"audio feature {part!r} of {self.folder}", today, str(found), "prepare the recording again"
                )
        if name in stored:
            return stored[name]
        parts = name.split("+")
        if not all(part in stored for part in parts) or len({len(stored[part]) for part in parts}) != 1:
            raise CaptureCorrupt(
                f"audio feature {name!r} of {self.folder}",
                f"one of {', '.join(sorted(stored))}",
                "an absent feature",
                "prepare the recording again with this feature",
            )
        return np.concatenate([stored[part] for part in parts], axis=1)

    def _all_features(self) -> dict[str, np.ndarray]:
        if self._features is None:
            self._features = _load_tensors(self.folder / "features.safetensors")
        return self._features

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of a capture of {self.num_frames}")
        return index

    def _image(self, name: str, mode: int) -> np.ndarray:
        image = read_picture(self.folder / name, mode)
        if image is None or image.shape[:2] != (self.size, self.size):
            got = "no picture" if image is None else f"{image.shape[1]}x{image.shape[0]}"
            raise CaptureCorrupt(
                str(self.folder / name), f"a picture of {self.size}x{self.size}", got, "prepare the recording again"
            )
        return image


def files_sha256(files: dict[str, dict]) -> str:
    """Hash of a manifest's table of files, independent of its order."""
    return hashlib.sha256(json.dumps(files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def pack_masks(masks: np.ndarray) -> np.ndarray:
    """Masks uint8 [S, S, 4] in the channel order in which OpenCV writes them."""
    return cv2.cvtColor(masks, cv2.COLOR_RGBA2BGRA)


def _unpack_masks(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 4:
        raise CaptureCorrupt("region mask", "four channels", f"shape {image.shape}", "prepare the recording again")
    return pack_masks(image)  # its own inverse


def _read_manifest(folder: Path) -> dict:
    path = folder / CAPTURE.manifest
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CaptureCorrupt(
            str(folder),
            f"a capture folder with {CAPTURE.manifest}",
            "none",
            "make one with `m2dao prepare VIDEO --out DIR`",
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CaptureCorrupt(str(path), "a JSON manifest", str(error), "prepare the recording again") from error
    if not isinstance(manifest, dict) or (manifest.get("format"), manifest.get("version")) != CAPTURE[:2]:
        got = manifest if not isinstance(manifest, dict) else (manifest.get("format"), manifest.get("version"))
        raise CaptureCorrupt(str(path), f"format {CAPTURE}", f"{got}", "prepare the recording again")
    wanted = {
        "num_frames": int,
        "size": int,
        "frame_rate": int,
        "files": dict,
        "features": dict,
        "expression_names": list,
    }
    wrong = [name for name, kind in wanted.items() if not isinstance(manifest.get(name), kind)]
    if wrong or manifest["frame_rate"] != FRAME_RATE or manifest["num_frames"] < 1 or manifest["size"] < 1:
        raise CaptureCorrupt(str(path), "a complete manifest", f"no valid {', '.join(wrong) or 'sizes'}")
    return manifest


def _check_files(folder: Path, files: dict[str, dict], verify: bool) -> None:
    for name, row in files.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or not isinstance(row, dict):
            raise CaptureCorrupt(str(folder / CAPTURE.manifest), "files inside the capture", repr(name))
        path = folder / name
        if not path.is_file() or path.stat().st_size != row.get("bytes"):
            got = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
            raise CaptureCorrupt(str(path), f"{row.get('bytes')} bytes", got, "prepare the recording again")
    if verify:
        with ThreadPoolExecutor(2) as pool:
            digests = pool.map(lambda name: file_sha256(folder / name), files)
            for name, digest in zip(files, digests, strict=True):
                if digest != files[name].get("sha256"):
                    raise CaptureCorrupt(
                        str(folder / name), f"sha256 {files[name].get('sha256')}", digest, "prepare the recording again"
                    )


def _load_tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CaptureCorrupt(str(path), "a safetensors file", str(error), "prepare the recording again") from error


def _checked_track(name: str, value: np.ndarray, num_frames: int, folder: Path) -> np.ndarray:
    has_time, shape, dtype = TRACK_SHAPES[name]
    expected = (num_frames, *shape) if has_time else shape
    if value.shape != expected or value.dtype != dtype or not np.isfinite(value).all():
        raise CaptureCorrupt(
            f"{name} in {folder / 'tracks.safetensors'}",
            f"finite {np.dtype(dtype).name} {list(expected)}",
            f"{value.dtype} {list(value.shape)}",
            "prepare the recording again",
        )
    return value


def frame_names(index: int) -> tuple[str, str]:
    """Files of a frame and of its masks."""
    return f"frames/{index:06d}.jpg", f"masks/{index:06d}.png"
