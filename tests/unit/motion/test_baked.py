"""A baked head poses exactly what the head it was made of poses."""

import pytest
import torch

from m2dao.motion.kernels.baked import BakedHead
from tests.support.restless_head import KINDS, a_drive, restless_head

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
        drive = a_drive(reference, posture=number % 2 == 0)
        with torch.no_grad():
            posed = head.pose(drive, head.static_features())
        for name, ours in zip(FIELDS, baked.pose(drive), strict=True):
            truth = getattr(posed, name)
            assert ours.shape == truth.shape
            torch.testing.assert_close(ours, truth, atol=2e-6, rtol=2e-5, msg=lambda text, name=name: f"{name}: {text}")
