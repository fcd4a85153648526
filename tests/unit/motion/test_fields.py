"""Motion fields start at rest and stay factored."""

import numpy as np
import pytest
import torch
from torch import nn

from m2dao.capture.dataset import TRACK_SHAPES
from m2dao.capture.faces.signals import EXPRESSION_NAMES
from m2dao.errors import ConfigError
from m2dao.motion.consistency import find_neighbours, neck_consistency
from m2dao.motion.facial import EXPRESSION_SIZE, AudioCode, FacialField
from m2dao.motion.factored import ConcatField, FactoredField, Falloff, sum_motions
from m2dao.motion.poses import pose_differences, viewmat_from_difference
from m2dao.motion.rigid import camera_center, invert_rigid, to_camera
from m2dao.motion.torso import TorsoField
from tests.support.restless_head import restless_head, some_conditions

BOX = (torch.full((3,), -0.1), torch.full((3,), 0.1))


def make_field(kind):
    torch.manual_seed(0)
    if kind == "factored":
        return FactoredField(*BOX, code_sizes=(5, 3))
    return ConcatField(*BOX, code_sizes=(5, 3), resolutions=(8, 16))


def moved(field, features, codes):
    return sum_motions((field.frame(codes)(features),))


def rigid(angle=0.3, x=0.1):
    matrix = torch.eye(4)
    cosine, sine = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    matrix[0, 0] = matrix[2, 2] = cosine
    matrix[0, 2], matrix[2, 0] = sine, -sine
    matrix[0, 3] = x
    return matrix


@pytest.mark.parametrize("kind", ["factored", "concat"])
def test_field_starts_as_identity(kind):
    field = make_field(kind)
    delta = moved(field, field.static_features(torch.rand(7, 3) * 0.1), (torch.randn(5), torch.randn(3)))
    assert all(not part.any() for part in delta)


@pytest.mark.parametrize("kind", ["factored", "concat"])
def test_field_can_learn_from_rest(kind):
    field = make_field(kind)
    delta = moved(field, field.static_features(torch.rand(7, 3) * 0.1), (torch.randn(5), torch.randn(3)))
    (delta.d_means - 0.01).square().sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in field.parameters())


def test_factored_field_is_linear_in_its_codes():
    field = make_field("factored")
    for weight in field.weights:
        torch.nn.init.normal_(weight)
    features = field.static_features(torch.rand(7, 3) * 0.1)
    first, second = (torch.randn(5), torch.randn(3)), (torch.randn(5), torch.randn(3))
    both = (first[0] + second[0], first[1] + second[1])
    for total, a, b in zip(*(moved(field, features, codes) for codes in (both, first, second)), strict=True):
        assert torch.allclose(total, a + b, atol=1e-5)


def test_hidden_sizes_that_no_kernel_takes_are_refused():
    with pytest.raises(ConfigError, match="multiple of 16"):
        FactoredField(*BOX, code_sizes=(5, 3), hidden_size=20)


def test_rigid_motion_agrees_with_the_matrix_and_its_inverse():
    viewmat, means = rigid(), torch.randn(5, 3)
    quats = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)
    moved, _ = to_camera(means, quats, viewmat)
    back, quats_back = to_camera(moved, to_camera(means, quats, viewmat)[1], invert_rigid(viewmat))
    assert torch.allclose(back, means, atol=1e-6)
    assert torch.allclose((quats_back * quats).sum(-1).abs(), torch.ones(5), atol=1e-6)
    assert torch.allclose(viewmat[:3, :3] @ camera_center(viewmat) + viewmat[:3, 3], torch.zeros(3), atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.4, 3.0, -2.0])
def test_a_pose_is_told_as_axis_times_angle_and_shift_and_comes_back(angle):
    reference, viewmat = rigid(0.1), rigid(0.1 + angle)
    viewmat[0, 3] += 0.03
    (difference,) = pose_differences(viewmat[None].numpy(), reference.numpy())
    assert np.allclose(difference, [0, angle, 0, 0.03, 0, 0], atol=1e-6)
    assert torch.allclose(viewmat_from_difference(difference, reference), viewmat, atol=1e-6)


def test_a_torso_that_follows_fully_moves_with_the_head():
    reference, viewmat = rigid(0.0, 0.0), rigid(0.2, 0.05)
    field = TorsoField(*BOX, reference)
    in_head_space = torch.randn(6, 3)
    before, _ = to_camera(in_head_space, torch.eye(4)[:1].repeat(6, 1), reference)
    after, _ = to_camera(in_head_space, torch.eye(4)[:1].repeat(6, 1), viewmat)
    assert torch.allclose(before + field.rigid_displacement(before, viewmat), after, atol=1e-5)


def test_a_neck_is_consistent_where_neighbours_follow_the_head_alike():
    chin_to_shoulders = torch.linspace(0, 1, 60)
    means = torch.nn.functional.pad(chin_to_shoulders[:, None], (0, 2))
    neighbours = find_neighbours(means)
    assert neighbours.shape == (60, 5)
    assert not (neighbours == torch.arange(60)[:, None]).any()
    assert neck_consistency(torch.full((60,), 0.7), neighbours) == 0
    smooth = 1 - chin_to_shoulders
    scattered = (torch.rand(60) < smooth).float()
    assert neck_consistency(scattered, neighbours) > 20 * neck_consistency(smooth, neighbours)


def test_few_gaussians_have_few_neighbours():
    assert find_neighbours(torch.rand(3, 3)).shape == (3, 2)


def test_codes_move_nothing_beyond_their_reach():
    points = torch.tensor([[0.0, 0.0, 0.0]])
    box = torch.full((3,), -0.2), torch.full((3,), 0.2)
    field = FactoredField(*box, code_sizes=(5, 3), falloffs=(Falloff(points, 0.05, 0.1),))
    for weight in field.weights:
        torch.nn.init.normal_(weight)
    means = torch.tensor([[0.03, 0.0, 0.0], [0.075, 0.0, 0.0], [0.0, 0.11, 0.0]])
    features = field.static_features(means)
    limited = moved(field, features, (torch.ones(5), torch.zeros(3))).d_means.norm(dim=1)
    assert limited[0] > 0
    assert limited[2] == 0
    free = moved(field, features, (torch.zeros(5), torch.ones(3))).d_means.norm(dim=1)
    assert (free > 0).all(), "a group without a reach moves everything"
    assert Falloff(points, 0.05, 0.1)(means)[1] == pytest.approx(0.5, abs=1e-5)


def test_eyes_and_brows_are_told_apart_by_the_names_of_the_capture():
    names = dict(zip(EXPRESSION_NAMES, range(EXPRESSION_SIZE), strict=True))
    assert TRACK_SHAPES["expression"][1] == (EXPRESSION_SIZE,)
    code = AudioCode(4)
    for sees_gaze in (True, False):
        field = FacialField(nn.Identity(), code, torch.zeros(1, 3), sees_pose=False, sees_gaze=sees_gaze)
        _, eyes, brows = field.codes(torch.zeros(4), torch.arange(EXPRESSION_SIZE).float(), None)
        gaze = ["gaze_across", "gaze_down"] if sees_gaze else []
        assert eyes.tolist() == [names[name] for name in ("blink_left", "blink_right", *gaze)]
        assert brows.tolist() == [
            names[name] for name in ("brow_raise_left", "brow_raise_right", "brow_down", "eye_squint")
        ]
        assert FacialField.code_sizes(code, sees_pose=False, sees_gaze=sees_gaze)[1:] == (len(eyes), len(brows))


def test_gaze_moves_the_eyes_alone_and_brows_reach_further(tmp_path):
    head = restless_head(tmp_path, degree=1)
    means = head.groups["facial"].raw["means"]
    outward = torch.linspace(0, 0.2, len(means))[:, None] * torch.tensor([0.0, -1.0, 0.0])
    means.data.copy_(head.facial.eye_probes[0] + outward)
    conditions = some_conditions(torch.eye(4), posture=False)
    static = head.static_features()

    def moved_by(name):
        changed = conditions.expression.clone()
        changed[EXPRESSION_NAMES.index(name)] += 1
        before, after = (
            sum_motions(head.motions(each, static)["facial"]).d_means
            for each in (conditions, conditions._replace(expression=changed))
        )
        away = torch.cdist(means, head.facial.eye_probes).amin(dim=1)
        return away[(after - before).abs().amax(dim=1) > 1e-7].max()

    assert moved_by("gaze_across") < 0.06 < moved_by("brow_down") < 0.14
