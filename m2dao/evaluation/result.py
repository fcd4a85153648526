"""What an evaluation finds, in named parts; None where a protocol or a recording cannot tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from m2dao.figures import rounded


@dataclass(frozen=True, kw_only=True)
class PictureFigures:
    """Rendered pictures beside recorded ones, means over frames.

    Attributes:
        psnr_db, ssim, st_lpips: of whole pictures; ST-LPIPS is not defined for small ones.
        head_psnr_db, neck_psnr_db, edge_psnr_db: of the head, of the band where it meets the torso, of the outline.
        flicker: by how much more rendered pixels change than recorded ones, grey levels.
    """

    psnr_db: float | None = None
    ssim: float | None = None
    st_lpips: float | None = None
    head_psnr_db: float | None = None
    neck_psnr_db: float | None = None
    edge_psnr_db: float | None = None
    flicker: float | None = None


@dataclass(frozen=True, kw_only=True)
class FaceFigures:
    """A rendered face beside the recorded one.

    Attributes:
        lmd_px: landmark distance of the lips.
        lower_blendshape_error, upper_blendshape_error: mean absolute differences, 0..1.
        lip_correlation: of the lip openings.
    """

    lmd_px: float | None = None
    lower_blendshape_error: float | None = None
    upper_blendshape_error: float | None = None
    lip_correlation: float | None = None


@dataclass(frozen=True, kw_only=True)
class LipFigures:
    """Rendered lips beside recorded ones while somebody speaks; no sound feature takes part.

    Attributes:
        closure_ratio: share of the recorded lip closures that the render makes within one frame.
        closure_precision: share of the rendered lip closures that the recording makes within one frame.
        opening_ratio: spread of the rendered lip opening over that of the recorded one.
    """

    closure_ratio: float | None = None
    closure_precision: float | None = None
    opening_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class TruthFigures:
    """Rendered lips beside the truth of a synthetic presenter.

    Attributes:
        truth_closure: share of the presenter's m, b and p that the render closes for within one frame.
        truth_opening_error: mean absolute error of the lip opening in speech, in outer-eye distances.
        truth_opening_silence, truth_jitter_silence: how far open the lips are and how much they move in true pauses.
    """

    truth_closure: float | None = None
    truth_opening_error: float | None = None
    truth_opening_silence: float | None = None
    truth_jitter_silence: float | None = None


@dataclass(frozen=True, kw_only=True)
class VideoFigures:
    """One video by itself, whether rendered or recorded.

    Attributes:
        change: mean change from frame to frame, grey levels.
        sync_offset_frames, sync_confidence: of the lips against the sound.
        sync_sure: whether the confidence could hardly come about by chance in so many frames.
        lip_change, jitter_silence, held_vowel_jitter: how much the lips move in all, in silence and in held vowels.
        opening_silence: how far open they are in silence.
        closure_mbp: share of m, b and p with closed lips.
    """

    change: float | None = None
    sync_offset_frames: float | None = None
    sync_confidence: float | None = None
    sync_sure: bool | None = None
    lip_change: float | None = None
    jitter_silence: float | None = None
    opening_silence: float | None = None
    held_vowel_jitter: float | None = None
    closure_mbp: float | None = None


# In the order of files and answers.
_KEYS = (
    *("protocol", "psnr_db", "ssim", "st_lpips", "lmd_px", "neck_psnr_db", "edge_psnr_db"),
    *("flicker", "change", "recording_change", "sync_offset_frames", "sync_confidence", "sync_sure", "num_frames"),
    *("head_psnr_db", "lower_blendshape_error", "upper_blendshape_error"),
    *("recording_sync_offset_frames", "recording_sync_confidence", "recording_sync_sure", "lip_correlation"),
    *("lip_change", "recording_lip_change", "jitter_silence", "recording_jitter_silence"),
    *("opening_silence", "recording_opening_silence", "held_vowel_jitter", "recording_held_vowel_jitter"),
    *("closure_mbp", "recording_closure_mbp", "num_frames_without_face"),
    *("split", "closure_ratio", "closure_precision", "opening_ratio"),
    *("truth_closure", "truth_opening_error", "truth_opening_silence", "truth_jitter_silence"),
)


@dataclass(frozen=True, kw_only=True)
class EvaluateResult:
    """What `m2dao evaluate` finds.

    Attributes:
        split: ``validation`` or ``test``, the part of the recording that was rendered or compared with.
        pictures, face, lips: the render beside the recording; empty for ``cross``, which has none to compare with.
        truth: the render beside the truth of a presenter; empty without one.
        rendered, recorded: each by itself.
        num_frames, num_frames_without_face: of the render.
    """

    protocol: str
    split: str
    pictures: PictureFigures
    face: FaceFigures
    lips: LipFigures
    truth: TruthFigures
    rendered: VideoFigures
    recorded: VideoFigures
    num_frames: int
    num_frames_without_face: int

    def as_dict(self) -> dict:
        """Everything on one level, as JSON has it; figures of the recording begin with ``recording_``."""
        flat = {
            "protocol": self.protocol,
            "split": self.split,
            "num_frames": self.num_frames,
            "num_frames_without_face": self.num_frames_without_face,
            **asdict(self.pictures),
            **asdict(self.face),
            **asdict(self.lips),
            **asdict(self.truth),
            **asdict(self.rendered),
            **{f"recording_{name}": value for name, value in asdict(self.recorded).items()},
        }
        return rounded({name: flat.pop(name) for name in _KEYS})
