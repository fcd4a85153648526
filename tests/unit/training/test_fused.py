"""The kernels of a fit on a CPU give the values and gradients of plain PyTorch."""

import gc
import weakref

import pytest
import torch

from m2dao.errors import ConfigError
from m2dao.kernels.threads import set_num_threads
from m2dao.motion.factored import FieldMotion
from m2dao.motion.kernels import fused_pose as fused_pose_module
from m2dao.motion.kernels.fused_pose import fused_pose
from m2dao.motion.talking_head import PosedGaussians
from m2dao.render.api import render
from m2dao.training.feature_cache import FeatureCache
from m2dao.training.frames.targets import FrameTarget
from m2dao.training.losses.fused_losses import pixel_losses
from m2dao.training.losses.terms import pixel_losses_reference
from m2dao.training.optimizer import NamedAdam
from m2dao.training.recipes import LearningRates, LossWeights
from tests.support.restless_head import KINDS, restless_head, some_conditions


def reference_view():
    view = torch.eye(4)
    view[2, 3] = 0.8
    return view


def gradients(head, posed: PosedGaussians, weights):
    head.zero_grad()
    parts = [(value * weight).sum() for value, weight in zip(posed, weights, strict=True) if value is not None]
    sum(parts).backward()
    return {name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None and p.numel()}


@pytest.mark.parametrize(("degree", "config"), KINDS)
@pytest.mark.parametrize("moving", [True, False])
def test_posing_and_its_gradients(tmp_path, degree, config, moving):
    head = restless_head(tmp_path, degree=degree, **config)
    conditions = some_conditions(reference_view(), posture=True)
    plain = head.pose(conditions, head.static_features(), moving=moving)
    fused = fused_pose(head, conditions, head.static_features(), moving=moving)
    weights = [None if value is None else torch.randn_like(value) for value in plain]
    for name, a, b in zip(PosedGaussians._fields, plain, fused, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(b, a, atol=3e-6, rtol=3e-5, msg=lambda text, name=name: f"{name}: {text}")
    wanted, found = gradients(head, plain, weights), gradients(head, fused, weights)
    assert wanted.keys() == found.keys()
    assert len(wanted) > 10
    for name, gradient in wanted.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            found[name], gradient, atol=2e-5 * scale + 1e-9, rtol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_motion_does_not_depend_on_the_number_of_threads_nor_on_groups_out_of_reach():
    torch.manual_seed(3)
    num, num_groups, num_hidden = 1300, 3, 16
    attention = torch.rand(num, num_groups) * (torch.rand(num, num_groups) > 0.5)
    features = torch.cat([torch.randn(num, num_hidden), attention], dim=1)
    matrix, weights = torch.randn(num_groups, num_hidden, 13), torch.randn(num, 16)
    weights[:, 13:] = 0
    results = []
    for num_threads in (1, 2, None):
        inputs = features.clone().requires_grad_(), matrix.clone().requires_grad_()
        if num_threads:
            set_num_threads(num_threads)
            out = fused_pose_module._Move.apply(*inputs)
        else:
            set_num_threads(None)
            out = torch.nn.functional.pad(FieldMotion(*inputs).total(), (0, 3))
        (out * weights).sum().backward()
        results.append((out.detach(), *(value.grad for value in inputs)))
    one, two, plain = results
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    plain[1][:, num_hidden:][attention == 0] = 0  # what is out of reach learns nothing, and need not say what it would
    for a, b in zip(one, plain, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5 * float(b.abs().max()), rtol=1e-4)


def test_frozen_groups_get_no_gradients_and_change_nobody_elses(tmp_path):
    head = restless_head(tmp_path, degree=1)
    conditions = some_conditions(reference_view(), posture=False)

    def run(frozen):
        head.requires_grad_(True)
        for name in frozen:
            head.groups[name].requires_grad_(False)
            getattr(head, name).requires_grad_(False)
        head.zero_grad(set_to_none=True)
        posed = fused_pose(head, conditions, head.static_features())
        sum(value.sum() for value in posed if value is not None).backward()
        return {name: p.grad for name, p in head.named_parameters()}

    everything, part = run(()), run(("facial",))
    for name, gradient in part.items():
        if name.startswith(("facial.", "groups.facial.")):
            assert gradient is None
        elif gradient is not None:
            torch.testing.assert_close(gradient, everything[name])


def picture(size=70):
    torch.manual_seed(5)
    colors, alphas = torch.rand(size, size, 4), torch.rand(size, size, 1)
    masks = torch.rand(size, size, 4) / 4
    return (
        colors,
        alphas,
        FrameTarget(torch.rand(size, size, 3), masks, torch.rand(size, size, 3), torch.rand(size, size)),
    )


@pytest.mark.parametrize("has_torso", [True, False])
@pytest.mark.parametrize("weights", [LossWeights(), LossWeights(roi_emphasis=0.0, head_mask=0.7, dssim=0.5)])
def test_pixel_losses_and_their_gradients(has_torso, weights):
    colors, alphas, target = picture()
    results = []
    for function in (pixel_losses_reference, pixel_losses):
        inputs = colors.clone().requires_grad_(), alphas.clone().requires_grad_()
        losses = function(*inputs, target, weights, has_torso=has_torso)
        losses.loss.backward()
        results.append((losses, [value.grad for value in inputs]))
    (plain, plain_grads), (fused, fused_grads) = results
    torch.testing.assert_close(fused.loss, plain.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fused.composite, plain.composite, rtol=1e-6, atol=1e-6)
    assert fused.mse == pytest.approx(plain.mse, rel=1e-5)
    for a, b in zip(fused_grads, plain_grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)


def test_pixel_losses_do_not_depend_on_the_number_of_threads():
    colors, alphas, target = picture(size=300)
    grads = []
    for num_threads in (1, 2):
        set_num_threads(num_threads)
        inputs = colors.clone().requires_grad_(), alphas.clone().requires_grad_()
        losses = pixel_losses(*inputs, target, LossWeights(), has_torso=True)
        losses.loss.backward()
        grads.append((losses.loss.detach(), losses.composite.detach(), *(value.grad for value in inputs)))
    set_num_threads(None)
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_block_of_frames_gives_the_sum_of_their_gradients(tmp_path):
    head = restless_head(tmp_path, degree=1)
    per_frame = [some_conditions(reference_view(), posture=False) for _ in range(3)]
    head.zero_grad()
    for conditions in per_frame:
        head.pose(conditions, head.static_features()).means.square().sum().backward()
    wanted = {name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None}
    head.zero_grad()
    cache = FeatureCache(head, 3)
    for number, conditions in enumerate(per_frame):
        assert (
            (head.facial.field.mlp[0].weight.grad is None)
            or number == 0
            or not head.facial.field.mlp[0].weight.grad.any()
        )
        static, parameters = cache.get(), [p for p in head.parameters() if p.requires_grad]
        asked = [*parameters, *cache.leaves()]
        found = torch.autograd.grad(head.pose(conditions, static).means.square().sum(), asked, allow_unused=True)
        for parameter, gradient in zip(parameters, found[: len(parameters)], strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        cache.differentiate(list(found[len(parameters) :]))
    for name, gradient in wanted.items():
        found = dict(head.named_parameters())[name].grad
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()) + 1e-9)


def test_fields_that_do_not_train_are_asked_once_and_forgotten_when_told(tmp_path):
    head = restless_head(tmp_path, degree=1)
    head.facial.requires_grad_(False)
    cache = FeatureCache(head, 1)
    first = cache.get()
    cache.differentiate([None] * len(cache.leaves()))
    second = cache.get()
    assert second["facial"] is first["facial"]
    assert second["oral"] is not first["oral"]
    cache.clear()
    assert cache.get()["facial"] is not first["facial"]


def test_a_model_that_cannot_be_is_refused():
    from m2dao.motion.talking_head import ModelConfig

    with pytest.raises(ConfigError, match="motion_regions"):
        ModelConfig(field="concat")
    with pytest.raises(ConfigError, match="head_sees_pose"):
        ModelConfig(has_torso=False)


def test_nothing_is_left_of_a_step(tmp_path):
    head = restless_head(tmp_path, degree=1)
    size, K = 64, torch.tensor([[100.0, 0, 32], [0, 100.0, 32], [0, 0, 1]])
    left = []
    for _ in range(2):
        posed = fused_pose(head, some_conditions(reference_view(), posture=False), head.static_features())
        out = render(*posed[:5], torch.eye(4)[None], K[None], width=size, height=size, backend="cpu")
        pixels = pixel_losses(out.colors[0], out.alphas[0], picture(size=size)[2], LossWeights(), has_torso=True)
        pixels.loss.backward()
        left += [weakref.ref(value) for value in (*posed[:6], out.colors, out.means2d, pixels.composite, pixels.loss)]
        del posed, out, pixels
    gc.collect()
    assert not [reference() for reference in left if reference() is not None]


def test_a_gradient_that_lies_otherwise_in_memory_is_stepped_by_as_what_it_says(tmp_path):
    steps = []
    for turned in (False, True):
        head = restless_head(tmp_path / str(turned), degree=1)
        adam = NamedAdam(head, LearningRates())
        adam.select(("facial.gaussians",), 0.0)
        means = head.groups["facial"].raw["means"]
        gradient = torch.linspace(-1, 1, means.numel()).view(means.shape).square()
        means.grad = gradient.T.contiguous().T if turned else gradient
        assert adam.step()
        steps.append(adam.state_tensors()[next(k for k in adam.state_tensors() if k.endswith("exp_avg"))])
    assert torch.equal(*steps)
