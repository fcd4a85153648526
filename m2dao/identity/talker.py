"""A talker: a loaded identity that is asked for frames.

Shapes: S samples, T frames, H = W = size pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from m2dao.errors import InputError
from m2dao.identity.checkpoint import StoredIdentity, load_identity
from m2dao.identity.performance import next_frames, perform
from m2dao.identity.renderers import BakedRenderer, SharedRenderer
from m2dao.kernels.threads import one_torch_thread
from m2dao.media.audio import SoundChoice, read_audio_chunks, read_sent, sent_format
from m2dao.media.mux import VideoWriter
from m2dao.motion.talking_head import FrameConditions
from m2dao.render.api import default_backend, device_of
from m2dao.render.composite import Background, choose_background, finish_picture
from m2dao.render.types import RenderOutput
from m2dao.stages import timed
from m2dao.timeline import FRAME_RATE, SAMPLE_RATE

_PIECE_SAMPLES = SAMPLE_RATE  # a second of sound at a time keeps memory constant


class Talker:
    """Speech in, frames out; safe to use from several threads, because nothing changes after loading.

    Args:
        identity: a loaded checkpoint.
        backend: render backend; the best of this machine if None.
    """

    frame_rate = FRAME_RATE

    def __init__(self, identity: StoredIdentity, *, backend: str | None = None):
        self.manifest = identity.manifest
        self.backend = backend or default_backend()
        self.device = device_of(self.backend)
        self.size = identity.manifest.size
        self.plate = identity.plate
        self.head = identity.head.to(self.device)
        self.speech = identity.speech
        self._tracks = [identity.signals[name].numpy() for name in ("poses", "slow_poses", "expression", "cuts")]
        self.reference_viewmat = identity.signals["reference_viewmat"]
        lens = torch.tensor(identity.manifest.K, dtype=torch.float32), self.size
        self._renderer: BakedRenderer | SharedRenderer
        if self.backend == "cpu":
            self._renderer = BakedRenderer(self.head, *lens)
        else:
            self._renderer = SharedRenderer(self.head, *lens, backend=self.backend)

    @classmethod
    def load(cls, folder: Path | str, *, backend: str | None = None) -> Talker:
        """Read, verify and prepare an identity.

        Raises:
            CheckpointCorrupt, CheckpointUnsupported: the folder is not a whole identity of this version.
        """
        return cls(load_identity(Path(folder)), backend=backend)

    @property
    def lookahead_s(self) -> float:
        """Sound that must be known after the instant a frame shows."""
        return self.speech.config.lookahead_s

    @property
    def num_bytes(self) -> int:
        """Memory that belongs to this identity alone."""
        tensors = [*self.head.state_dict().values(), *self.speech.state_dict().values()]
        kept = sum(value.nbytes for value in tensors) + self.plate.nbytes
        return kept + self._renderer.num_bytes

    def frames(
        self, audio: np.ndarray | Iterable[np.ndarray], *, background: Background = None, seed: int = 0
    ) -> Iterator[np.ndarray]:
        """Frames of the person speaking, in constant memory for any length of sound.

        Args:
            audio: [S] float32 at 16 kHz, mono, or pieces of it as they come.
            background: None or ``"plate"`` (as recorded), ``"transparent"``, an RGB colour (0..255), or a picture
                [h, w, 3] uint8, which is cut to a square and resized.
            seed: chooses head motion and blinks.

        Yields:
            [H, W, 3] uint8, or [H, W, 4] (straight alpha) when transparent; one for each 640 samples begun.

        Raises:
            InputError: sound or background of another kind.
        """
        backdrop = choose_background(background, width=self.size, height=self.size, plate=self.plate)
        motion = perform(*self._tracks, seed=seed)
        at_once = self._renderer.frames_at_once
        for embeddings in self._embeddings(_pieces(audio)):
            if not len(embeddings):
                continue
            frames = next_frames(motion, embeddings, self.reference_viewmat)
            for first in range(0, len(embeddings), at_once):
                yield from self._renderer.pictures(frames.at(slice(first, first + at_once)), backdrop)

    def render(
        self,
        audio: Path | str,
        out: Path | str,
        *,
        audio_track: int | None = None,
        background: Background = None,
        seed: int = 0,
        progress: Callable[[Iterator[np.ndarray]], Iterable[np.ndarray]] = iter,
    ) -> int:
        """Write a film of the person speaking, in constant memory for any length of sound.

        Args:
            audio: a sound file of any format, or a film. Its sound is heard in the result as it was sent, up to
                48 kHz stereo.
            out: the mp4, which appears under its name only when it is whole.
            audio_track: number of the sound track to use; the one with the voice if None.
            background: as for :meth:`frames`, but not transparent, which an mp4 cannot hold.
            seed: chooses head motion and blinks.
            progress: passes the frames on and shows how far they are, as ``tqdm`` does.

        Returns:
            How many frames it has.

        Raises:
            MediaError: the sound cannot be read, or there is no folder for the film.
            InputError: a background of another kind.
        """
        heard = read_audio_chunks(audio, SoundChoice(track=audio_track, sound_only=True))
        frames = progress(self.frames(heard, background=background, seed=seed))
        sound, written = sent_format(audio, track=audio_track), read_sent(audio, track=audio_track)
        writer = VideoWriter(out, width=self.size, height=self.size, waveform=written, sound=sound)
        num_frames = 0
        with one_torch_thread(), writer:
            for frame in frames:
                writer.write(frame)
                num_frames += 1
        return num_frames

    def render_conditions(self, conditions: FrameConditions) -> RenderOutput:
        """Render one frame from explicit conditions.

        Args:
            conditions: pose, sound and expression.

        Returns:
            colors [1, H, W, 4] premultiplied RGB and visible head alpha; alphas [1, H, W, 1].
        """
        return self._renderer.render(conditions)

    def picture(self, output: RenderOutput, backdrop: np.ndarray | None) -> np.ndarray:
        """What was rendered, over a backdrop.

        Args:
            output: from :meth:`render_conditions`.
            backdrop: [H, W, 3] in 0..255, or None for transparent.

        Returns:
            [H, W, 3] uint8, or [H, W, 4] with straight alpha.
        """
        return finish_picture(output.colors[0].cpu().numpy(), output.alphas[0].cpu().numpy(), backdrop)

    def _embeddings(self, pieces: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """[t, D] for each piece of sound."""
        stream = self.speech.stream()
        for piece in pieces:
            with timed("audio"):
                embeddings = stream.push(piece)
            yield embeddings
        with timed("audio"):
            embeddings = stream.finish()
        yield embeddings


def _pieces(audio: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Sound in pieces of at most a second, checked."""
    pieces = [audio] if isinstance(audio, np.ndarray) else audio
    for piece in pieces:
        piece = np.asarray(piece)
        if piece.ndim != 1 or piece.dtype.kind != "f":
            raise InputError("audio", "[S] floats in -1..1 at 16 kHz", f"{piece.shape} {piece.dtype}")
        if not np.isfinite(piece).all():
            raise InputError("audio", "finite samples", "NaN or infinity")
        for start in range(0, len(piece), _PIECE_SAMPLES):
            yield np.ascontiguousarray(piece[start : start + _PIECE_SAMPLES], np.float32)
