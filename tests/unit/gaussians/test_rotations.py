"""Quaternions and matrices describe the same rotations."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from m2dao.gaussians.density import rotate_by_quats
from m2dao.gaussians.rotations import multiply_quats, quat_from_matrix


@pytest.mark.parametrize("seed", range(20))
def test_quat_from_matrix_agrees_with_scipy_up_to_sign(seed):
    rotation = Rotation.random(rng=np.random.default_rng(seed))
    quat = quat_from_matrix(torch.from_numpy(rotation.as_matrix()))
    expected = torch.from_numpy(rotation.as_quat(scalar_first=True))
    assert torch.allclose(quat * torch.sign(quat @ expected), expected, atol=1e-12)


def test_product_of_quats_is_the_rotation_done_one_after_the_other():
    rng = np.random.default_rng(0)
    first, second = Rotation.random(rng=rng), Rotation.random(rng=rng)
    product = multiply_quats(*(torch.from_numpy(r.as_quat(scalar_first=True)) for r in (second, first)))
    expected = torch.from_numpy((second * first).as_quat(scalar_first=True))
    assert torch.allclose(product * torch.sign(product @ expected), expected, atol=1e-12)


def test_rotated_vectors_agree_with_the_matrix():
    rotation = Rotation.random(5, rng=np.random.default_rng(1))
    vectors = np.random.default_rng(2).normal(size=(5, 3))
    rotated = rotate_by_quats(
        torch.from_numpy(rotation.as_quat(scalar_first=True)) * 3.0, torch.from_numpy(vectors)
    )  # length does not matter
    assert np.allclose(rotated.numpy(), rotation.apply(vectors))
