"""The whole moving portrait: three groups of Gaussians and the fields that move them.

    facial group  (skin, hair)          rigid head + facial field
    oral group    (lips, inner mouth)   rigid head + facial field (lips only) + oral field
    torso group   (neck, clothes)       skinned to the head + torso field

Everything ends in camera space, so one call renders the portrait. The fourth colour channel is one for the head and
zero for the torso: what it renders to is the visible alpha of the head.
Shapes: N Gaussians of all groups, D audio embedding; ``...`` nothing, frames of one person, or frames of several
people, whose parameters then have the same dimensions in front.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from m2dao.errors import ConfigError
from m2dao.gaussians.params import GaussianParams, Gaussians
from m2dao.gaussians.sh import sh_colors
from m2dao.motion.facial import NUM_LID_PROBES, POSE_SIZE, AudioCode, FacialField
from m2dao.motion.factored import (
    PUBLISHED_MOUTH_SCALES,
    ConcatField,
    FactoredField,
    Falloff,
    Field,
    FieldMotion,
    MotionDelta,
    sum_motions,
)
from m2dao.motion.oral import OralField
from m2dao.motion.rigid import camera_center, to_camera
from m2dao.motion.torso import TorsoField

GROUPS = ("facial", "oral", "torso")
_MOUTH_FALLOFF_M = (0.05, 0.10)  # to jaw and cheeks, not to ears, brows and hair (outer eye corners are 0.09 m apart)
_EYE_FALLOFF_M = (0.02, 0.06)  # lids and irises
_BROW_FALLOFF_M = (0.06, 0.14)  # brows take forehead and scalp along
TAG_SKIN, TAG_LIPS, TAG_HAIR, TAG_TORSO, TAG_INNER_MOUTH, TAG_UPPER_TEETH = range(6)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What kind of talking head.

    Args:
        field: ``factored`` (static features, per-frame matrix) or ``concat`` (TalkingGaussian's MLP).
        embedding_size: D.
        sh_degree: of the head's colours; the torso's are constant.
        has_torso: whether neck and torso are generated.
        mouth_sees_face: whether the oral field is told what the face does to the lips.
        motion_regions: whether sound moves only what is near the mouth, lids and irises only what is near the eyes,
            and brows only what is not far from them.
        head_sees_pose: whether the face moves with the pose beyond the rigid head.
        face_sees_gaze: whether irises move.
        published_mouth: whether the mouth has TalkingGaussian's small network, which moves Gaussians and nothing else.
    """

    field: str = "factored"
    embedding_size: int = 8
    sh_degree: int = 1
    has_torso: bool = True
    mouth_sees_face: bool = True
    motion_regions: bool = True
    head_sees_pose: bool = True
    face_sees_gaze: bool = True
    published_mouth: bool = False

    def __post_init__(self):
        if self.field not in ("factored", "concat"):
            raise ConfigError("model field", "'factored' or 'concat'", repr(self.field))
        if not 1 <= self.embedding_size <= 256:
            raise ConfigError("model embedding_size", "1 to 256", str(self.embedding_size))
        if self.sh_degree not in (0, 1, 2):
            raise ConfigError("model sh_degree", "0, 1 or 2", str(self.sh_degree))
        if self.motion_regions and self.field != "factored":
            raise ConfigError("model motion_regions", "a factored field", f"field {self.field!r}")
        if self.published_mouth and self.field != "concat":
            raise ConfigError("model published_mouth", "a concat field", f"field {self.field!r}")
        if self.head_sees_pose and not self.has_torso:
            raise ConfigError("model head_sees_pose", "a torso, whose reference pose it takes", "has_torso False")


class FrameConditions(NamedTuple):
    """What drives one frame, or several."""

    viewmat: Tensor  # [..., 4, 4] head space to camera
    pose: Tensor  # [..., 12] it and its slow part against the reference, see ``m2dao.motion.poses.pose_features``
    audio: Tensor  # [..., D] audio embedding
    expression: Tensor  # [..., 8] blinks, brows and gaze
    posture: Tensor | None = None  # [..., 4] how the shoulders rest in this shot (metres, radians); as usual if None
    view_quat: Tensor | None = None  # [..., 4] the rotation of ``viewmat``, if it was asked before

    def to(self, device: torch.device) -> FrameConditions:
        """The same on another device."""
        return self._map(lambda value: value.to(device))

    def at(self, index: int | slice | None) -> FrameConditions:
        """One or some of several frames, as a tensor's own index picks them; None makes one frame several."""
        return self._map(lambda value: value[index])

    def _map(self, change: Callable[[Tensor], Tensor]) -> FrameConditions:
        return FrameConditions._make(None if value is None else change(value) for value in self)


# What depends on canonical positions alone, and is constant as long as they are: [P, F] by part.
StaticFeatures = dict[str, Tensor]

# The parts: the field that makes each, and the group whose positions it reads (the lip probes if None).
_STATIC_PARTS = {
    "facial": ("facial", "facial"),
    "facial_of_oral": ("facial", "oral"),
    "facial_of_probes": ("facial", None),
    "oral": ("oral", "oral"),
    "torso": ("torso", "torso"),
}


class PosedGaussians(NamedTuple):
    """Gaussians in camera space, ready to render."""

    means: Tensor  # [..., N, 3]
    quats: Tensor  # [..., N, 4]
    scales: Tensor  # [..., N, 3]
    opacities: Tensor  # [..., N]
    colors: Tensor  # [..., N, 4] RGB and head flag
    torso_residual: Tensor | None  # [..., N_torso, 3] metres, what the torso's field adds


class TalkingHead(nn.Module):
    """A person's Gaussians and motion.

    Args:
        config: see :class:`ModelConfig`.
        groups: ``facial``, ``oral`` and, with a torso, ``torso``; the torso's raw parameters include ``follow`` [N],
            the logits of its skinning weights.
        head_box, mouth_box, torso_box: [2, 3] metres, corners of the fields.
        lip_probes, eye_probes: [P, 3] metres, points on the lips and around the eyes.
        reference_viewmat: [4, 4] the pose at which the torso is canonical.
    """

    groups: dict[str, GaussianParams]  # a ModuleDict, whose values the type checker does not know
    head_box: Tensor
    mouth_box: Tensor
    torso_box: Tensor

    def __init__(
        self,
        config: ModelConfig,
        groups: dict[str, GaussianParams],
        *,
        head_box: Tensor,
        mouth_box: Tensor,
        torso_box: Tensor,
        lip_probes: Tensor,
        eye_probes: Tensor,
        reference_viewmat: Tensor,
    ):
        super().__init__()
        self.config = config
        self.groups = nn.ModuleDict(groups)  # type: ignore[assignment]  # see above
        self.register_buffer("head_box", head_box.float())  # [2, 3] corners, as the next two
        self.register_buffer("mouth_box", mouth_box.float())
        self.register_buffer("torso_box", torso_box.float())
        motion_size = OralField.motion_code_size(lip_probes.shape[0])
        facial_code, oral_code = AudioCode(config.embedding_size), AudioCode(config.embedding_size)
        sees = {"sees_pose": config.head_sees_pose, "sees_gaze": config.face_sees_gaze}
        facial_sizes = FacialField.code_sizes(facial_code, **sees)
        oral_sizes = (oral_code.num_outputs, motion_size)
        falloffs: tuple[Falloff, ...] = ()
        if config.motion_regions:
            falloffs = (
                Falloff(lip_probes, *_MOUTH_FALLOFF_M),
                Falloff(eye_probes[:NUM_LID_PROBES], *_EYE_FALLOFF_M),
                Falloff(eye_probes, *_BROW_FALLOFF_M),
            )
        facial_field = _make_field(config, head_box, facial_sizes, (16, 39), falloffs)
        self.facial = FacialField(facial_field, facial_code, eye_probes, **sees)
        oral_field = _make_field(config, mouth_box, oral_sizes, (58, 64), mouth=config.published_mouth)
        self.oral = OralField(oral_field, oral_code, lip_probes)
        self.torso = TorsoField(torso_box[0], torso_box[1], reference_viewmat) if config.has_torso else None

    @property
    def num_gaussians(self) -> int:
        """Of all groups together."""
        return sum(len(group) for group in self.groups.values())

    @property
    def fields(self) -> dict[str, FacialField | OralField | TorsoField]:
        """The fields there are, by name."""
        return {name: getattr(self, name) for name in GROUPS if getattr(self, name) is not None}

    def field_points(self, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Positions [P, 3] that one field is asked about, and weights [P] of their motion, by feature part."""
        points = {}
        for part, (field, group) in _STATIC_PARTS.items():
            if field == name:
                means = self.groups[group].raw["means"].detach() if group else self.oral.lip_probes
                points[part] = means, means.new_ones(len(means))
        if "facial_of_oral" in points:  # of the mouth the face carries the lips along, but no teeth
            points["facial_of_oral"] = points["facial_of_oral"][0], self.groups["oral"].tags.eq(TAG_LIPS).float()
        if "oral" in points:  # the upper teeth are bone: they keep to the skull
            points["oral"] = points["oral"][0], self.groups["oral"].tags.ne(TAG_UPPER_TEETH).float()
        return points

    def static_features(self) -> StaticFeatures:
        """Features of all points."""
        return {
            part: field.field.static_features(*points)
            for name, field in self.fields.items()
            for part, points in self.field_points(name).items()
        }

    def pose(
        self, conditions: FrameConditions, static: StaticFeatures | None, *, moving: bool = True
    ) -> PosedGaussians:
        """Move every Gaussian to where it is in a frame, or in each of several.

        Parameters and static features may have a dimension of frames in front too: then each frame shows another
        person.

        Args:
            conditions: sound, expression and pose of the frames.
            static: from :meth:`static_features`.
            moving: False leaves out all non-rigid motion (static warm-up).
        """
        deltas: dict[str, MotionDelta | None] = dict.fromkeys(self.groups)
        if moving:
            assert static is not None
            deltas |= {name: sum_motions(motions) for name, motions in self.motions(conditions, static).items()}
        parts = [self._pose_head(name, deltas[name], conditions) for name in ("facial", "oral")]
        residual = None
        if self.torso is not None:
            posed, residual = self._pose_torso(conditions, deltas["torso"])
            parts.append(posed)
        batch = conditions.viewmat.shape[:-2]
        own_dimensions = (1, 1, 1, 0, 1)  # beside N
        means, quats, scales, opacities, colors = (
            torch.cat([_with_frames(value, batch, num_own) for value in values], dim=-1 - num_own)
            for values, num_own in zip(zip(*parts, strict=True), own_dimensions, strict=True)
        )
        return PosedGaussians(means, quats, scales, opacities, colors, residual)

    def motions(self, conditions: FrameConditions, static: StaticFeatures) -> dict[str, tuple[FieldMotion, ...]]:
        """What moves each group in the frames; the lips of the oral one are carried by the face."""
        face = self.facial.field.frame(self.facial_codes(conditions))
        lip_motion = self.oral.motion_code(sum_motions((face(static["facial_of_probes"]),)).d_means)
        if not self.config.mouth_sees_face:
            lip_motion = torch.zeros_like(lip_motion)
        oral = self.oral.frame(conditions.audio, lip_motion)(static["oral"])
        motions = {"facial": (face(static["facial"]),), "oral": (oral, face(static["facial_of_oral"]))}
        if self.torso is not None:
            motions["torso"] = (self.torso.frame(conditions.pose)(static["torso"]),)
        return motions

    def facial_codes(self, conditions: FrameConditions) -> tuple[Tensor, ...]:
        """What the facial field is told of the frames."""
        pose = conditions.pose[..., :POSE_SIZE] if self.config.head_sees_pose else None
        return self.facial.codes(conditions.audio, conditions.expression, pose)

    def _pose_head(self, name: str, delta: MotionDelta | None, conditions: FrameConditions) -> tuple[Tensor, ...]:
        gaussians = self.groups[name].activate()
        directions = gaussians.means.detach() - camera_center(conditions.viewmat)[..., None, :]
        colors = sh_colors(gaussians.sh0, gaussians.shN, nn.functional.normalize(directions, dim=-1))
        moved = _apply(gaussians, colors, delta)
        means, quats = to_camera(moved[0], moved[1], conditions.viewmat, conditions.view_quat)
        return means, quats, moved[2], moved[3], nn.functional.pad(moved[4], (0, 1), value=1.0)

    def _pose_torso(
        self, conditions: FrameConditions, delta: MotionDelta | None
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        assert self.torso is not None
        group = self.groups["torso"]
        gaussians = group.activate()
        skinning = group.raw["follow"].sigmoid()[..., None]
        displacement = skinning * self.torso.rigid_displacement(gaussians.means, conditions.viewmat)
        displacement = displacement + (1 - skinning) * self.torso.sway_displacement(
            gaussians.means, conditions.pose, conditions.posture
        )
        if delta is not None:
            displacement = displacement + delta.d_means
        colors = sh_colors(gaussians.sh0, gaussians.shN, gaussians.means)  # constant: the torso keeps its direction
        moved = _apply(gaussians, colors, delta)
        posed = (gaussians.means + displacement, *moved[1:4], nn.functional.pad(moved[4], (0, 1), value=0.0))
        return posed, delta.d_means if delta is not None else None


def _with_frames(value: Tensor, frames: torch.Size, num_own: int) -> Tensor:
    """A value with dimensions of frames in front: [..., N, ...], as many behind N as given."""
    return value.expand(*frames, *value.shape[-1 - num_own :])


def _apply(gaussians: Gaussians, colors: Tensor, delta: MotionDelta | None) -> tuple[Tensor, ...]:
    if delta is None:
        return gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors
    return (
        gaussians.means + delta.d_means,
        gaussians.quats + delta.d_quats,
        gaussians.scales * delta.d_scales.exp(),
        gaussians.opacities,
        (colors + delta.d_colors).clamp_min(0.0),
    )


def _make_field(
    config: ModelConfig,
    box: Tensor,
    code_sizes: tuple[int, ...],
    concat_range: tuple[int, int],
    falloffs: tuple[Falloff, ...] = (),
    *,
    mouth: bool = False,
) -> Field:
    """A field of the configured kind; ``mouth`` asks for the published one of the mouth."""
    if config.field == "factored":
        return FactoredField(*box, code_sizes=code_sizes, falloffs=falloffs)
    first, last = torch.log10(torch.tensor(concat_range).double())
    resolutions = torch.logspace(first, last, 12).round().int().tolist()
    make = partial(ConcatField, *box, code_sizes=code_sizes, resolutions=tuple(resolutions))
    return make(hidden_size=32, output_scales=PUBLISHED_MOUTH_SCALES) if mouth else make()
