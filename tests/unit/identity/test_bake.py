"""A baked head poses exactly what the head it was made of poses."""

import pytest
import torch

from m2dao.gaussians.params import GaussianParams
from m2dao.gaussians.sh import NUM_BASES
from m2dao.identity.bake import BakedHead
from m2dao.identity.checkpoint import load_identity
from m2dao.identity.poses import viewmat_from_difference
from m2dao.motion.talking_head import FrameDrive, ModelConfig, TalkingHead
from tests.support.tiny_identity import make_tiny_identity

FIELDS = ("means", "quats", "scales", "opacities", "colors")


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
        model, kept, **boxes, lip_probes=stored.head.oral.lip_probes, reference_viewmat=stored.signals["reference_viewmat"]
    )
    with torch.no_grad():
        for parameter in (
            p for name in ("facial", "oral", "torso") if getattr(head, name) for p in getattr(head, name).parameters()
        ):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head


def a_drive(reference: torch.Tensor, *, posture: bool) -> FrameDrive:
    views = [viewmat_from_difference(0.1 * torch.randn(6).numpy(), reference) for _ in range(2)]
    return FrameDrive(*views, torch.randn(16), torch.rand(6), 0.02 * torch.randn(4) if posture else None)


@pytest.mark.parametrize(
    ("degree", "config"),
    [
        (1, {}),
        (1, {"mouth_sees_face": False}),
        (0, {}),
        (2, {"field": "concat", "mouth_sees_face": False}),
        (2, {"has_torso": False}),
    ],
)
def test_every_value_is_the_one_the_head_gives(tmp_path, degree, config):
    head = restless_head(tmp_path, degree=degree, **config)
    baked = BakedHead(head)
    reference = torch.eye(4)
    reference[2, 3] = 0.8
    for number in range(5):
        drive = a_drive(reference, posture=number % 2 == 0)
        with torch.no_grad():
            posed = head.pose(drive, head.static_features())
        for name, ours in zip(FIELDS, baked.pose(drive), strict=True):
            truth = getattr(posed, name)
            assert ours.shape == truth.shape
            torch.testing.assert_close(ours, truth, atol=2e-6, rtol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_without_the_torso_the_rest_stays_the_same(tmp_path):
    head = restless_head(tmp_path, degree=1)
    baked = BakedHead(head)
    drive = a_drive(torch.eye(4), posture=True)
    whole, part = baked.pose(drive), baked.pose(drive, with_torso=False)
    num = len(head.groups["facial"]) + len(head.groups["oral"])
    for a, b in zip(whole, part, strict=True):
        assert len(b) == num and torch.equal(a[:num], b)
