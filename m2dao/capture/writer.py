"""Writes a capture: aside, each file hashed on the way, renamed when complete.

What a killed process stored whole is not made again, see unfinished.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from m2dao.capture.dataset import files_sha256, frame_names, pack_masks
from m2dao.capture.unfinished import Ledger, claim_place
from m2dao.errors import InputError, M2daoError
from m2dao.files import put_in_place
from m2dao.formats import CAPTURE
from m2dao.pictures import read_picture
from m2dao.timeline import FRAME_RATE

JPEG_QUALITY = 95
JPEG_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    JPEG_QUALITY,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
_NOTES = "notes"
# Differences to the row above, of which only runs are packed: a third of the time of OpenCV's own choice, and smaller.
PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


class CaptureWriter:
    """A capture folder in the making.

    Use as a context manager; the folder appears under its name at `finish`, and when the block is left without it
    nothing is left behind.

    Args:
        out: the capture folder to make.
        overwrite: replace what lies there, if that is a capture.
        key: what decides the capture's content, as a word of letters and digits; None makes each a new one.

    Attributes:
        folder: where files are until `finish`.
        notes: a folder in it for what is needed only until then.

    Raises:
        InputError: `out` exists and may not be replaced, or cannot be written.
    """

    def __init__(self, out: Path, *, overwrite: bool = False, key: str | None = None):
        self.out = Path(out)
        self._key, self._finished = key, False
        self._overwrite = overwrite
        self._files: dict[str, dict] = {}
        self._lock = threading.Lock()
        self.folder = Path()

    def __enter__(self) -> CaptureWriter:
        self._check_target()
        claim = None
        try:
            claim = claim_place(self.out, self._key)
            self.folder, self._claim = claim.folder, claim
            for name in ("frames", "masks", _NOTES):
                (self.folder / name).mkdir(exist_ok=True)
            self._ledger = Ledger(self.notes / "stored")
        except OSError as error:
            if claim is not None:
                claim.give_up(remove=True)
            raise InputError(
                str(self.out), "a place that can be written", str(error), "choose another --out"
            ) from error
        return self

    @property
    def notes(self) -> Path:
        return self.folder / _NOTES

    def __exit__(self, kind, error, trace) -> None:
        try:
            self._ledger.close()
        finally:
            self._claim.give_up(remove=not self._finished)

    def _check_target(self) -> None:
        if not os.path.lexists(self.out):
            return
        if not self.out.is_dir() or self.out.is_symlink():
            raise InputError(str(self.out), "a folder that does not exist yet", "a file", "choose another --out")
        if any(self.out.iterdir()):
            if not (self.out / CAPTURE.manifest).is_file():
                raise InputError(str(self.out), "a new folder", "one with other files in it", "choose another --out")
            if not self._overwrite:
                raise InputError(str(self.out), "a new folder", "a capture", "use --overwrite to replace it")

    def add_bytes(self, name: str, data: bytes) -> None:
        """Store `data` as `name` and note its hash."""
        digest = hashlib.sha256(data).hexdigest()
        with self._room_for(name):
            aside = self.notes / name.replace("/", "-")
            aside.write_bytes(data)
            os.replace(aside, self.folder / name)  # whole or not there; the notes go with what a killed run left
            with self._lock:
                self._ledger.add(name, digest)
                self._files[name] = {"sha256": digest, "bytes": len(data)}

    @contextlib.contextmanager
    def _room_for(self, name: str) -> Iterator[None]:
        """Say what could not be written, and what to do."""
        try:
            yield
        except OSError as error:
            raise M2daoError(
                str(self.out / name), "room and leave to write it", str(error), "free some disk space"
            ) from error

    def add_json(self, name: str, value: dict) -> None:
        self.add_bytes(name, (json.dumps(value, indent=2) + "\n").encode())

    def add_tensors(self, name: str, tensors: dict[str, np.ndarray]) -> None:
        from safetensors.numpy import save

        self.add_bytes(name, save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))

    def add_sound(self, name: str, waveform: np.ndarray) -> None:
        """Store float32 [S] at 16 kHz as 16-bit PCM."""
        from m2dao.media.audio import write_wav

        buffer = io.BytesIO()
        write_wav(buffer, waveform)
        self.add_bytes(name, buffer.getvalue())

    def add_png(self, name: str, rgb: np.ndarray) -> None:
        self.add_bytes(name, _encoded(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 6]))

    def add_jpeg(self, name: str, rgb: np.ndarray) -> None:
        self.add_bytes(name, _encoded(".jpg", rgb[..., ::-1], JPEG_OPTIONS))

    def add_frame(self, index: int, rgb: np.ndarray, masks: np.ndarray) -> None:
        """Store frame `index`, uint8 [S, S, 3] and [S, S, 4]; several threads may do so at once."""
        frame_name, masks_name = frame_names(index)
        self.add_bytes(frame_name, _encoded(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), JPEG_OPTIONS))
        self.add_bytes(masks_name, _encoded(".png", pack_masks(masks), PNG_OPTIONS))

    def adopt_frame(self, index: int) -> bool:
        """Take frame `index` and its masks over from a killed run, if they are what it stored."""
        found = {}
        for name in frame_names(index):
            path = self.folder / name
            data = path.read_bytes() if path.is_file() else b""
            digest = hashlib.sha256(data).hexdigest()
            if not self._ledger.knows(name, digest):
                return False
            found[name] = {"sha256": digest, "bytes": len(data)}
        with self._lock:
            self._files |= found
        return True

    def frame(self, index: int) -> np.ndarray:
        """A frame that is stored already, as it will be read: uint8 [S, S, 3]."""
        return self.read_picture(frame_names(index)[0])

    def brightness(self, index: int) -> np.ndarray:
        """The brightness of a frame that is stored already: uint8 [S, S]; less work than its colours."""
        return self._decoded(frame_names(index)[0], cv2.IMREAD_GRAYSCALE)

    def masks(self, index: int) -> np.ndarray:
        """Masks that are stored already: uint8 [S, S, 4]."""
        return pack_masks(self._decoded(frame_names(index)[1], cv2.IMREAD_UNCHANGED))

    def read_picture(self, name: str) -> np.ndarray:
        """A picture that is stored already: uint8 [h, w, 3]."""
        return cv2.cvtColor(self._decoded(name, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def _decoded(self, name: str, mode: int) -> np.ndarray:
        picture = read_picture(self.folder / name, mode)
        if picture is None:
            raise M2daoError(
                str(self.folder / name), "the picture that was stored", "none", "prepare the capture again"
            )
        return picture

    def finish(self, manifest: dict) -> str:
        """Complete the manifest, put the folder in its place; returns the capture's content hash."""
        files = dict(sorted(self._files.items()))
        manifest = {**CAPTURE.header, "frame_rate": FRAME_RATE, **manifest, "files": files}
        with self._room_for(CAPTURE.manifest):
            (self.folder / CAPTURE.manifest).write_text(json.dumps(manifest, indent=1) + "\n")
            shutil.rmtree(self.notes)
        self._check_target()  # somebody else may have been faster
        try:
            put_in_place(self.folder, self.out)
            self._finished = True
        except OSError as error:
            raise M2daoError(str(self.out), "to be put in place", str(error), "choose another --out") from error
        return files_sha256(files)


def _encoded(suffix: str, image: np.ndarray, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise M2daoError("picture", f"to be encoded as {suffix}", f"shape {image.shape}")
    return data.tobytes()
