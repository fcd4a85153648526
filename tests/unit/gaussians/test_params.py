"""Raw parameters, colours and density control."""

import pytest
import torch

from m2dao.errors import CheckpointCorrupt, ConfigError
from m2dao.gaussians.density import DensityConfig, ScreenGradients, control_density
from m2dao.gaussians.params import GaussianParams, raw_gaussians
from m2dao.gaussians.sh import NUM_BASES, sh0_from_rgb, sh_colors


def make_group(num=50, scale_m=0.002, opacity=0.8):
    torch.manual_seed(0)
    raw = raw_gaussians(torch.randn(num, 3) * 0.1, torch.rand(num, 3), torch.full((num,), scale_m), opacity=opacity)
    return GaussianParams(raw, torch.arange(num) % 4)


def test_activated_values_are_the_ones_asked_for():
    gaussians = make_group(scale_m=0.003, opacity=0.6).activate()
    assert torch.allclose(gaussians.scales, torch.tensor(0.003))
    assert torch.allclose(gaussians.opacities, torch.tensor(0.6))
    assert torch.allclose(gaussians.quats.norm(dim=-1), torch.tensor(1.0))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_constant_coefficients_show_the_same_colour_from_every_side(degree):
    rgb = torch.rand(10, 3)
    directions = torch.nn.functional.normalize(torch.randn(10, 3), dim=-1)
    assert torch.allclose(
        sh_colors(sh0_from_rgb(rgb), torch.zeros(10, NUM_BASES[degree] - 1, 3), directions), rgb, atol=1e-6
    )


def test_harmonics_are_orthonormal_over_the_sphere():
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3, dtype=torch.float64), dim=-1)
    columns = []
    for index in range(8):
        shN = torch.zeros(1, 8, 3, dtype=torch.float64)
        shN[0, index] = 0.1  # small, so that the clamp at zero stays out of play
        columns.append((sh_colors(torch.zeros(1, 3, dtype=torch.float64), shN, directions)[:, 0] - 0.5) / 0.1)
    gram = 4 * torch.pi * torch.stack(columns) @ torch.stack(columns).T / len(directions)
    assert torch.allclose(gram, torch.eye(8, dtype=torch.float64), atol=0.02)


def test_density_control_never_exceeds_the_cap():
    group, gradients = make_group(50), ScreenGradients(50)
    gradients.add(torch.ones(50, 2), torch.ones(50, dtype=torch.bool), 128)
    change = control_density(group, gradients, DensityConfig(max_gaussians=52, grow_fraction=1.0), torch.Generator())
    assert len(change.rows) == 52
    assert int(change.fresh.sum()) >= 2


def test_density_control_prunes_the_transparent_and_keeps_the_rest_untouched():
    group = make_group(50)
    with torch.no_grad():
        group.raw["opacities"][:5] = -10.0
    change = control_density(group, ScreenGradients(50), DensityConfig(max_gaussians=100), torch.Generator())
    assert change.rows.tolist() == list(range(5, 50))
    assert torch.equal(change.raw["means"], group.raw["means"].detach()[5:])


def test_a_large_gaussian_is_split_in_two_smaller_ones_around_it():
    group, gradients = make_group(10, scale_m=0.02), ScreenGradients(10)
    wanted = torch.zeros(10, 2)
    wanted[3] = 1.0
    gradients.add(wanted, torch.ones(10, dtype=torch.bool), 128)
    change = control_density(group, gradients, DensityConfig(max_gaussians=100), torch.Generator().manual_seed(0))
    assert change.rows.tolist() == [*range(10), 3]
    middle = (change.raw["means"][3] + change.raw["means"][10]) / 2
    assert torch.allclose(middle, group.raw["means"].detach()[3], atol=1e-6)
    assert (change.raw["scales"][[3, 10]] < group.raw["scales"].detach()[3]).all()


def test_a_group_with_nan_is_refused_by_name():
    tensors = make_group().tensors()
    tensors["means"] = tensors["means"].clone()
    tensors["means"][0, 0] = float("nan")
    with pytest.raises(CheckpointCorrupt, match="NaN or infinity in means"):
        GaussianParams.from_tensors(tensors, source="x")


def test_a_cap_of_zero_is_refused():
    with pytest.raises(ConfigError, match="max_gaussians"):
        DensityConfig(max_gaussians=0)


def test_a_clone_and_its_parent_cover_what_the_parent_did():
    group, gradients = make_group(10, opacity=0.8), ScreenGradients(10)
    wanted = torch.zeros(10, 2)
    wanted[3] = 1.0
    gradients.add(wanted, torch.ones(10, dtype=torch.bool), 128)

    def opacities(**how):
        config = DensityConfig(max_gaussians=100, **how)
        return control_density(group, gradients, config, torch.Generator().manual_seed(0)).raw["opacities"].sigmoid()

    corrected = opacities()
    assert 1 - (1 - corrected[3]) * (1 - corrected[10]) == pytest.approx(0.8, abs=1e-5)
    assert torch.allclose(corrected[:3], torch.tensor(0.8))
    assert torch.allclose(opacities(correct_opacity=False), torch.tensor(0.8)), "as first published"
