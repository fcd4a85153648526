"""Encoding: H.264 and AAC in exact sync, to a file or to a stream of fragments.

Frame ``i`` starts at ``i / frame_rate`` and sample ``s`` at ``s / sample_rate`` on one clock, whatever the codecs' own
delays.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from m2dao.errors import ConfigError, MediaError
from m2dao.files import whole_file
from m2dao.media.sound.formats import SoundFormat
from m2dao.stages import timed
from m2dao.timeline import FRAME_RATE

BT709 = 1  # the code of ITU-T H.273 for primaries, transfer and matrix alike
LIMITED_RANGE = 1
NUM_ENCODER_THREADS = 2  # of x264, per stream
MAX_WAITING_FRAMES = 4  # for the encoder; more would only take memory


class _Encoder:
    """Feeds one container; keeps picture and sound interleaved so that memory stays flat."""

    def __init__(
        self, container, *, width: int, height: int, frame_rate: Fraction, sound: SoundFormat | None, options: dict
    ):
        if width % 2 or height % 2 or min(width, height) < 16:
            raise ConfigError("video size", "even sides of at least 16 px (H.264, 4:2:0)", f"{width}x{height}")
        self.container, self.width, self.height = container, width, height
        self.num_frames = self.num_samples = 0
        self.format = sound or SoundFormat()
        self.samples_per_frame = self.format.sample_rate / frame_rate  # exact fraction
        self.video = container.add_stream("libx264", rate=frame_rate, options=options)
        self.video.width, self.video.height, self.video.pix_fmt = width, height, "yuv420p"
        context = self.video.codec_context
        context.time_base = 1 / frame_rate
        # by itself x264 takes every core for every stream, and cuts pictures into slices for it
        context.thread_count = NUM_ENCODER_THREADS
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = LIMITED_RANGE
        self.audio = None
        if sound is not None:
            self.audio = container.add_stream("aac", rate=sound.sample_rate, layout=sound.layout)
            self.audio.bit_rate = sound.bits_per_s
            self.audio.codec_context.time_base = Fraction(1, sound.sample_rate)

    def check(self, rgb: np.ndarray, number: int) -> None:
        """Raise ConfigError unless ``rgb`` will do as frame ``number``."""
        if rgb.dtype != np.uint8 or rgb.shape != (self.height, self.width, 3):
            raise ConfigError(
                f"frame {number}", f"uint8 [{self.height}, {self.width}, 3]", f"{rgb.dtype} {list(rgb.shape)}"
            )

    def picture(self, rgb: np.ndarray) -> None:
        self.check(rgb, self.num_frames)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709)
        frame.pts, frame.time_base = self.num_frames, self.video.codec_context.time_base
        self.num_frames += 1
        self.container.mux(self.video.encode(frame))

    def sound(self, samples: np.ndarray) -> None:
        """Append float32 [C, s]."""
        if not samples.shape[1]:
            return
        # the encoder takes planar float; it cuts and joins to its own block length
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, np.float32), format="fltp", layout=self.format.layout
        )
        frame.sample_rate = self.format.sample_rate
        frame.pts, frame.time_base = self.num_samples, Fraction(1, self.format.sample_rate)
        self.num_samples += samples.shape[1]
        assert self.audio is not None
        self.container.mux(self.audio.encode(frame))

    def num_samples_of(self, num_frames: int) -> int:
        """Samples that belong to the first ``num_frames`` frames."""
        return round(num_frames * self.samples_per_frame)

    def finish(self) -> None:
        if self.num_frames:
            self.container.mux(self.video.encode(None))
        if self.audio is not None and self.num_samples:
            self.container.mux(self.audio.encode(None))


class _Sound:
    """Samples out of pieces, as many as asked for; silence after the end."""

    def __init__(self, pieces: Iterable[np.ndarray], num_channels: int):
        self._pieces, self._num_channels = iter(pieces), num_channels
        self._held: np.ndarray = np.zeros((num_channels, 0), np.float32)

    def take(self, num_samples: int) -> np.ndarray:
        """float32 [C, num_samples]."""
        parts, num_missing = [self._held[:, :0]], num_samples
        while num_missing:
            if not self._held.shape[1]:
                piece = next(self._pieces, None)
                self._held = (
                    np.zeros((self._num_channels, num_missing), np.float32)
                    if piece is None
                    else np.asarray(piece, np.float32).reshape(self._num_channels, -1)
                )
            parts.append(self._held[:, :num_missing])
            self._held = self._held[:, num_missing:]
            num_missing -= parts[-1].shape[1]
        return np.concatenate(parts, axis=1)


class VideoWriter:
    """Write an mp4 that appears under its name only when it is complete.

    Use as a context manager; when the block raises, nothing is left behind::

        with VideoWriter("out.mp4", width=256, height=256, waveform=speech) as writer:
            for frame in frames:
                writer.write(frame)

    The sound is as long as the pictures: cut where it is longer, padded with silence where it is shorter.

    Args:
        path: the file; a file of this name is replaced.
        width, height: px, even.
        frame_rate: frames per second, int or Fraction.
        waveform: float32 [S] or [C, S], or pieces of it, taken when their pictures come; None for a silent file.
        sound: rate and channels of `waveform`; 16 kHz mono by default.
        quality: constant rate factor of x264, 0 (lossless) to 51.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        width: int,
        height: int,
        frame_rate: Fraction | int = FRAME_RATE,
        waveform: np.ndarray | Iterable[np.ndarray] | None = None,
        sound: SoundFormat | None = None,
        quality: int = 18,
    ):
        self.path = Path(path)
        self._size = (width, height)
        self._frame_rate = Fraction(frame_rate)
        self._format = None if waveform is None else sound or SoundFormat()
        pieces = [waveform] if isinstance(waveform, np.ndarray) else waveform
        self._sound = None if pieces is None or self._format is None else _Sound(pieces, self._format.num_channels)
        self._options = {"crf": str(quality), "preset": "veryfast"}
        self._encoder: _Encoder  # from __enter__ on
        self._num_written = self._num_heard = 0
        self._waiting: deque[Future] = deque()

    def __enter__(self) -> VideoWriter:
        if not self.path.parent.is_dir():
            raise MediaError(str(self.path), "a folder to write into", f"no folder {self.path.parent}", "make it first")
        self._whole = contextlib.ExitStack()
        partial = self._whole.enter_context(whole_file(self.path))
        try:
            self._container = av.open(f"file:{partial}", "w", format="mp4", options={"movflags": "+faststart"})
            self._encoder = _Encoder(
                self._container,
                width=self._size[0],
                height=self._size[1],
                frame_rate=self._frame_rate,
                sound=self._format,
                options=self._options,
            )
        except BaseException as error:
            self._discard(error)
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        return self

    def write(self, rgb: np.ndarray) -> None:
        """Append one frame, uint8 [H, W, 3], and the sound that belongs to it.

        Encoding has a thread of its own, a few frames behind; an error there is raised here or at the end.
        """
        self._encoder.check(rgb, self._num_written)
        self._num_written += 1
        samples = None
        if self._sound is not None:
            due = self._encoder.num_samples_of(self._num_written)
            samples = self._sound.take(due - self._num_heard)
            self._num_heard = due
        self._waiting.append(self._thread.submit(self._encode, rgb.copy(), samples))
        while len(self._waiting) > MAX_WAITING_FRAMES:
            self._waiting.popleft().result()

    def _encode(self, rgb: np.ndarray, samples: np.ndarray | None) -> None:
        """On the encoder's thread."""
        try:
            with timed("encode"):
                self._encoder.picture(rgb)
                if samples is not None:
                    self._encoder.sound(samples)
        except (av.error.FFmpegError, OSError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> MediaError:
        return MediaError(str(self.path), "room and leave to write it", str(error), "check the disk")

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                while self._waiting:
                    self._waiting.popleft().result()
        except BaseException as failure:
            self._thread.shutdown(cancel_futures=True)
            self._discard(failure)
            raise
        self._thread.shutdown(cancel_futures=True)
        if kind is not None:
            self._discard(error)
            return
        try:
            if not self._encoder.num_frames:
                raise MediaError(str(self.path), "at least one frame", "none", "write frames before closing")
            self._encoder.finish()
            self._container.close()
            self._whole.close()
        except BaseException as failure:
            self._discard(failure)
            if isinstance(failure, (av.error.FFmpegError, OSError)):
                raise self._unwritable(failure) from failure
            raise

    def _discard(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):  # closing a file that cannot be finished complains; it goes away anyway
            self._container.close()
        self._whole.__exit__(type(error), error, error.__traceback__)  # removes what was written


class FragmentedMp4:
    """An mp4 that plays while it is made: bytes come out as frames go in, nothing is held back.

    Args:
        fragment_s: length of a fragment; the least latency a player can have.
        has_audio: whether samples come with the frames.
    """

    content_type = "video/mp4"

    def __init__(
        self,
        *,
        width: int,
        height: int,
        frame_rate: Fraction | int = FRAME_RATE,
        has_audio: bool = True,
        fragment_s: float = 0.2,
        quality: int = 20,
    ):
        self._sink = _ByteSink()
        # the header waits for the first fragment: only then can it carry the edit list that takes the encoder's
        # 1024 samples of priming away (with an empty header the sound would come 64 ms late)
        flags = "+frag_keyframe+delay_moov+default_base_moof"
        options = {"movflags": flags, "frag_duration": str(round(fragment_s * 1e6)), "flush_packets": "1"}
        self._container = av.open(self._sink, "w", format="mp4", options=options)
        self._encoder = _Encoder(
            self._container,
            width=width,
            height=height,
            frame_rate=Fraction(frame_rate),
            sound=SoundFormat() if has_audio else None,
            options={"crf": str(quality), "preset": "veryfast", "tune": "zerolatency", "g": "50"},
        )
        self._finished = False

    def write(self, rgb: np.ndarray, samples: np.ndarray | None = None) -> bytes:
        """Append a frame, uint8 [H, W, 3], and the float32 [s] samples spoken during it; return what is ready."""
        self._encoder.picture(rgb)
        if samples is not None:
            self._encoder.sound(np.asarray(samples, np.float32).reshape(1, -1))
        return self._sink.take()

    def finish(self) -> bytes:
        """The rest of the file; to be called once, also when the stream is given up."""
        if not self._finished:
            self._finished = True
            self._encoder.finish()
            self._container.close()
        return self._sink.take()


class _ByteSink:
    """The file object an encoder writes to; without seek, so that the muxer never goes back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data
