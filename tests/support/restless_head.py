"""A talking head all of whose parameters matter, and conditions for it: what kernels are compared on."""

import torch

from m2dao.gaussians.params import GaussianParams
from m2dao.gaussians.sh import NUM_BASES
from m2dao.identity.checkpoint import load_identity
from m2dao.motion.facial import EXPRESSION_SIZE
from m2dao.motion.poses import pose_features, viewmat_from_difference
from m2dao.motion.talking_head import FrameConditions, ModelConfig, TalkingHead
from tests.support.tiny_identity import make_tiny_identity

# Degree of the head's colours and what else is not as in ours.
KINDS = [
    (1, {}),
    (1, {"mouth_sees_face": False}),
    (0, {}),
    (1, {"motion_regions": False}),
    (1, {"head_sees_pose": False}),
    (2, {"field": "concat", "mouth_sees_face": False, "motion_regions": False}),
    (
        2,
        {"field": "concat", "mouth_sees_face": False, "motion_regions": False, "published_mouth": True},
    ),
    (2, {"has_torso": False, "head_sees_pose": False}),
]


def restless_head(folder, *, degree: int, **config) -> TalkingHead:
    """A head all of whose parameters matter: nothing in it is zero or one."""
    stored = load_identity(make_tiny_identity(folder / "ball"))
    torch.manual_seed(3)
    groups = {}
    for name, group in stored.head.groups.items():
        raw = {key: value.detach() + 0.3 * torch.randn_like(value) for key, value in group.raw.items()}
        if name != "torso":
            raw["shN"] = 0.3 * torch.randn(len(group), NUM_BASES[degree] - 1, 3)
        groups[name] = GaussianParams(raw, group.tags)
    model = ModelConfig(sh_degree=degree, **config)
    boxes = {name: getattr(stored.head, name) for name in ("head_box", "mouth_box", "torso_box")}
    kept = {name: group for name, group in groups.items() if name != "torso" or model.has_torso}
    head = TalkingHead(
        model,
        kept,
        **boxes,
        lip_probes=stored.head.oral.lip_probes,
        eye_probes=stored.head.facial.eye_probes,
        reference_viewmat=stored.signals["reference_viewmat"],
    )
    with torch.no_grad():
        for parameter in (
            p for name in ("facial", "oral", "torso") if getattr(head, name) for p in getattr(head, name).parameters()
        ):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head


def some_conditions(reference: torch.Tensor, *, posture: bool) -> FrameConditions:
    pose, slow_pose = (0.1 * torch.randn(6).numpy() for _ in range(2))
    return FrameConditions(
        viewmat_from_difference(pose, reference),
        pose_features(pose, slow_pose),
        torch.randn(ModelConfig().embedding_size),
        torch.rand(EXPRESSION_SIZE),
        0.02 * torch.randn(4) if posture else None,
    )
