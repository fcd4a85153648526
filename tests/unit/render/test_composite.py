"""Layers over layers, and what may stand behind them."""

import numpy as np
import pytest
import torch

from m2dao.errors import InputError
from m2dao.render.composite import (
    Layer,
    choose_background,
    face_over_torso_over_background,
    fill_frame,
    finish_picture,
    over,
    stack_layers,
)


def random_layer(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    alphas = torch.rand(5, 6, 1, generator=generator, dtype=dtype)
    return Layer(alphas * torch.rand(5, 6, 3, generator=generator, dtype=dtype), alphas)


def test_over_shows_the_back_exactly_where_the_front_is_clear():
    front, back = random_layer(0), random_layer(1)
    assert torch.equal(over(torch.zeros(5, 6, 3), torch.zeros(5, 6, 1), back.colors.float()), back.colors.float())
    opaque = torch.ones(5, 6, 1, dtype=torch.float64)
    assert torch.equal(over(front.colors, opaque, back.colors), front.colors)


def test_layers_may_be_joined_from_either_end():
    a, b, c = (random_layer(seed) for seed in range(3))
    left, right = stack_layers(stack_layers(a, b), c), stack_layers(a, stack_layers(b, c))
    assert torch.allclose(left.colors, right.colors)
    assert torch.allclose(left.alphas, right.alphas)
    assert torch.allclose(stack_layers(a, b, c).colors, left.colors)


def test_the_portrait_sends_gradients_to_face_torso_and_background():
    face, torso = random_layer(3), random_layer(4)
    background = torch.rand(5, 6, 3, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (*face, *torso, background)]
    portrait = face_over_torso_over_background(face, torso, background)
    expected = face.colors + (1 - face.alphas) * (torso.colors + (1 - torso.alphas) * background)
    assert torch.allclose(portrait, expected)
    portrait.sum().backward()
    assert all(leaf.grad.abs().min() > 0 for leaf in leaves)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_bytes_are_composited_to_the_nearest_level_for_every_alpha(kind):
    alphas, backs = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    alphas, backs = alphas.astype(np.uint8)[..., None], backs.astype(np.uint8)[..., None]
    fronts = (alphas // 3).astype(np.uint8)
    result = np.asarray(over(kind(fronts), kind(alphas), kind(backs)))
    exact = fronts + (1 - alphas / 255) * backs
    assert result.dtype == np.uint8
    assert np.abs(result - exact).max() <= 0.5 + 1e-9


def test_bytes_never_wrap_around():
    full = np.full((1, 1, 3), 255, np.uint8)  # not premultiplied: brighter than its alpha allows
    assert over(full, np.zeros((1, 1, 1), np.uint8), full).tolist() == [[[255, 255, 255]]]


def test_bytes_and_floats_do_not_mix():
    with pytest.raises(InputError, match="all uint8 or all floats; got uint8, float32, uint8"):
        over(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 3), np.uint8))


PLATE = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)


def choose(choice):
    return choose_background(choice, width=10, height=8, plate=PLATE)


def test_backgrounds_are_plate_colour_picture_or_nothing():
    assert choose(None) is PLATE
    assert choose("plate") is PLATE
    assert choose("transparent") is None
    assert choose((1, 2, 255)).shape == (8, 10, 3)
    assert (choose((1, 2, 255)) == [1, 2, 255]).all()
    assert choose(PLATE[::-1].copy()).tolist() == PLATE[::-1].tolist()


@pytest.mark.parametrize(
    "choice",
    [
        "plaid",
        (1, 2),
        (1, 2, 256),
        (0.1, 0.2, 0.3),
        np.zeros((4, 4)),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        7,
    ],
)
def test_other_backgrounds_are_refused(choice):
    with pytest.raises(InputError, match="background"):
        choose(choice)


@pytest.mark.parametrize(("rows", "columns"), [(16, 20), (100, 20), (16, 90), (3, 4), (7, 1)])
def test_a_picture_fills_the_frame_evenly_cut(rows, columns):
    """A picture that differs only by its distance from the middle stays symmetric."""
    x, y = (np.abs(np.arange(size) - (size - 1) / 2) for size in (columns, rows))
    picture = np.repeat((x[None, :] + y[:, None]).astype(np.uint8)[..., None], 3, axis=2)
    filled = fill_frame(picture, width=10, height=8)
    assert filled.shape == (8, 10, 3)
    assert filled.dtype == np.uint8
    assert np.abs(filled.astype(int) - filled[::-1, ::-1]).max() <= 1


def test_a_finished_picture_lies_over_its_background():
    colors = np.full((1, 2, 3), [0.25, 0.5, 0.0], np.float32)
    alphas = np.array([[[0.5], [0.5]]], np.float32)
    background = np.array([[[255, 0, 100], [0, 0, 0]]], np.uint8)
    assert finish_picture(colors, alphas, background).tolist() == [[[191, 128, 50], [64, 128, 0]]]


def test_a_transparent_picture_has_straight_alpha():
    colors = np.array([[[0.25, 0.5, 0.0], [0.0, 0.0, 0.0]]], np.float32)
    alphas = np.array([[[0.5], [0.0]]], np.float32)
    assert finish_picture(colors, alphas, None).tolist() == [[[128, 255, 0, 128], [0, 0, 0, 0]]]
