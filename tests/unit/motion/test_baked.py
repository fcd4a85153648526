"""A baked head poses exactly what the head it was made of poses."""

import pytest
import torch

from m2dao.motion.kernels.baked import BakedHead
from m2dao.motion.talking_head import TAG_UPPER_TEETH
from tests.support.restless_head import KINDS, restless_head, some_conditions

FIELDS = ("means", "quats", "scales", "opacities", "colors")


@pytest.mark.parametrize(
    ("degree", "config"),
    KINDS,
)
def test_every_value_is_the_one_the_head_gives(tmp_path, degree, config):
    head = restless_head(tmp_path, degree=degree, **config)
    baked = BakedHead(head)
    reference = torch.eye(4)
    reference[2, 3] = 0.8
    for number in range(5):
        conditions = some_conditions(reference, posture=number % 2 == 0)
        with torch.no_grad():
            posed = head.pose(conditions, head.static_features())
        for name, ours in zip(FIELDS, baked.pose(conditions), strict=True):
            truth = getattr(posed, name)
            assert ours.shape == truth.shape
            torch.testing.assert_close(ours, truth, atol=2e-6, rtol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_no_voice_swells_a_gaussian_beyond_its_limit(tmp_path):
    head = restless_head(tmp_path, degree=1)
    conditions = some_conditions(torch.eye(4), posture=False)._replace(audio=torch.full((8,), 50.0))
    with torch.no_grad():
        static = head.static_features()
        moving = head.pose(conditions, static).scales, BakedHead(head).pose(conditions)[2]
        still = head.pose(conditions, static, moving=False).scales
    for scales in moving:
        growth = (scales / still).log()
        assert growth.abs().max() <= 1.0001
        assert growth.abs().max() > 0.99, "the limit is reached, or the test says nothing"


def test_upper_teeth_keep_to_the_skull_whatever_is_said(tmp_path):
    head = restless_head(tmp_path, degree=1)
    oral = head.groups["oral"]
    oral.tags = oral.tags.clone()
    oral.tags[-5:] = TAG_UPPER_TEETH
    first = len(head.groups["facial"]) + len(oral) - 5
    per_frame = [some_conditions(torch.eye(4), posture=False) for _ in range(2)]
    per_frame[1] = per_frame[0]._replace(audio=per_frame[1].audio)
    with torch.no_grad():
        means = [BakedHead(head).pose(conditions)[0][first : first + 5] for conditions in per_frame]
        lips = [BakedHead(head).pose(conditions)[0][first - 5 : first] for conditions in per_frame]
    assert torch.equal(*means)
    assert not torch.allclose(*lips)


def test_nothing_moves_further_by_the_pose_than_in_the_recording(tmp_path):
    head = restless_head(tmp_path, degree=1)
    head.facial.set_pose_range(torch.linspace(-0.3, 0.5, 101)[:, None].repeat(1, 6))
    pose = torch.full((6,), 1.9)
    code = head.facial.codes(torch.zeros(8), torch.zeros(8), pose)[-1]
    assert torch.allclose(code, torch.full((6,), 0.492), atol=1e-4), "the 99th percentile"
    inside = head.facial.codes(torch.zeros(8), torch.zeros(8), 0.1 * pose)[-1]
    assert torch.allclose(inside, 0.1 * pose)
