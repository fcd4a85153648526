"""The talking head a fit starts from: seeds taken from the capture, fields at rest.

Shapes: T frames, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from m2dao.capture.dataset import Capture
from m2dao.gaussians.params import GaussianParams, raw_gaussians
from m2dao.gaussians.seed import SeedPoints, seed_head, seed_inner_mouth, seed_torso
from m2dao.gaussians.views import SeedView
from m2dao.motion.facial import choose_eye_probes
from m2dao.motion.initialization import initialized_by
from m2dao.motion.oral import choose_lip_probes
from m2dao.motion.talking_head import (
    TAG_HAIR,
    TAG_INNER_MOUTH,
    TAG_LIPS,
    TAG_SKIN,
    TAG_TORSO,
    TAG_UPPER_TEETH,
    TalkingHead,
)
from m2dao.training.frames.choose import ReferenceFrames
from m2dao.training.frames.targets import TrainingFrames, scaled_intrinsics
from m2dao.training.recipes import Recipe
from m2dao.training.universal import UniversalMotion, install_motion

_NUM_TORSO_VIEWS = 12
_NUM_SWEEP_VIEWS = 20
_MARGIN_M = 0.03  # fields reach a little beyond the seeds
_OUTER_EYE_DISTANCE_M = 0.09  # of head space


def choose_views(capture: Capture, indices: Sequence[int], neutral: int) -> list[int]:
    """Frames whose poses differ from the neutral one and from each other, those that differ most first."""
    usable = [index for index in indices if capture.valid[index]]
    rotations = capture.viewmats[usable, :3, :3].astype(np.float64)
    turned = rotations @ capture.viewmats[neutral, :3, :3].T.astype(np.float64)
    poses = np.stack([turned[:, 2, 1], turned[:, 0, 2], turned[:, 1, 0]], axis=1)  # sines of nod, turn and tilt
    away = np.linalg.norm(poses, axis=1)
    chosen: list[int] = []
    while len(chosen) < min(_NUM_SWEEP_VIEWS, len(usable)):
        farthest = int(away.argmax())
        chosen.append(usable[farthest])
        away = np.minimum(away, np.linalg.norm(poses - poses[farthest], axis=1))
        away[farthest] = -1
    return chosen


def build_talking_head(
    capture: Capture,
    frames: TrainingFrames,
    recipe: Recipe,
    reference: ReferenceFrames,
    *,
    seed: int,
    universal: UniversalMotion | None = None,
) -> TalkingHead:
    """Seed every group and make the fields.

    Args:
        frames: of the training part.
        reference: see :func:`choose_reference_frames`.
        seed: of the fields' first parameters.
        universal: motion the facial and oral fields start from; None starts them at rest.

    Raises:
        CaptureRejected: a region needed for seeding cannot be seen.
        ConfigError: universal motion of another kind of head.
    """
    groups = seed_groups(capture, frames, recipe, reference)
    means = {name: group.raw["means"].detach() for name, group in groups.items()}
    head_means = torch.cat([means["facial"], means["oral"]])
    canonical = capture.canonical_landmarks.astype(np.float64)
    landmarks = torch.from_numpy(canonical).float()
    head_box, mouth_box = _box(head_means), _box(means["oral"], margin=0.01)
    if universal:
        head_box, mouth_box = universal.box_for("head", landmarks), universal.box_for("mouth", landmarks)
    with initialized_by(seed):
        head = TalkingHead(
            recipe.model,
            groups,
            head_box=head_box,
            mouth_box=mouth_box,
            torso_box=_box(means.get("torso", head_means)),
            lip_probes=choose_lip_probes(landmarks),
            eye_probes=choose_eye_probes(landmarks),
            reference_viewmat=torch.from_numpy(capture.viewmats[reference.neutral]).float(),
        )
    if universal:
        install_motion(head, universal.motion)
    return head


def seed_groups(
    capture: Capture, frames: TrainingFrames, recipe: Recipe, reference: ReferenceFrames
) -> dict[str, GaussianParams]:
    """First Gaussians of face, mouth and, if the recipe has one, torso.

    Args:
        frames: of the training part.
        reference: see :func:`choose_reference_frames`.

    Raises:
        CaptureRejected: a region needed for seeding cannot be seen.
    """
    K = scaled_intrinsics(capture.K, capture.size, recipe.size)
    canonical = capture.canonical_landmarks.astype(np.float64)
    neutral = _view(capture, frames, reference.neutral)
    tags = {"skin": TAG_SKIN, "hair": TAG_HAIR, "lips": TAG_LIPS}
    others = choose_views(capture, frames.indices, reference.neutral) if recipe.sweep_seeds else []
    turned = [_view(capture, frames, index) for index in others]
    facial = seed_head(neutral, turned, K, canonical, num_seeds=recipe.seeds["facial"], region="facial", tag_of=tags)
    lips = seed_head(neutral, turned, K, canonical, num_seeds=recipe.seeds["oral"], region="oral", tag_of=tags)
    inner = seed_inner_mouth(
        _view(capture, frames, reference.widest),
        K,
        canonical,
        opening_m=float(capture.lip_opening[reference.widest]) * _OUTER_EYE_DISTANCE_M,
        num_seeds=recipe.seeds["inner"],
        tag=TAG_INNER_MOUTH,
        tag_above=TAG_UPPER_TEETH if recipe.fixed_teeth else TAG_INNER_MOUTH,
    )
    degree = recipe.model.sh_degree
    groups = {
        "facial": _group([facial], degree),
        "oral": _group([lips, inner], degree),
    }
    if recipe.model.has_torso:
        others = np.array(frames.indices)[np.linspace(0, len(frames.indices) - 1, _NUM_TORSO_VIEWS).astype(int)]
        views = [_view(capture, frames, int(index)) for index in others]
        groups["torso"] = _group([seed_torso(neutral, views, K, canonical, num_seeds=recipe.seeds["torso"])], 0)
    return groups


def _view(capture: Capture, frames: TrainingFrames, index: int) -> SeedView:
    return SeedView(
        rgb=frames.rgb(index).astype(np.float64) / 255,
        masks=frames.masks(index),
        viewmat=capture.viewmats[index].astype(np.float64),
    )


def _group(seeds: list[SeedPoints], sh_degree: int) -> GaussianParams:
    means = torch.cat([seed.means for seed in seeds])
    raw = raw_gaussians(
        means,
        torch.cat([seed.rgb for seed in seeds]),
        torch.cat([seed.scale_m for seed in seeds]),
        sh_degree=sh_degree,
    )
    tags = torch.cat([seed.tags for seed in seeds])
    follow = [seed.follow for seed in seeds if seed.follow is not None]
    if follow:
        raw["follow"] = torch.logit(torch.cat(follow))
        tags = torch.full_like(tags, TAG_TORSO)
    return GaussianParams(raw, tags)


def _box(means: torch.Tensor, margin: float = _MARGIN_M) -> torch.Tensor:
    return torch.stack([means.amin(0) - margin, means.amax(0) + margin])
