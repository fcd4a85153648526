"""Putting rendered layers over each other and over a background; pure functions.

Colours of a layer are premultiplied by its alpha, as ``render`` gives them, so "A over B" is A + (1 - alpha_A) B
(Porter and Duff 1984). Layers are PyTorch tensors (then differentiable) or numpy arrays, floats in 0..1 or uint8.

Letters: H rows, W columns, D channels.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from m2dao.errors import InputError

Picture = TypeVar("Picture", Tensor, np.ndarray)
Background = str | tuple[int, int, int] | np.ndarray | None
PIXEL_ROWS_PER_THREAD = 256  # fewer are not worth waking a thread for
STRAIGHT_ALPHA_MIN = 1e-4  # below it a pixel has no colour of its own


class Layer(NamedTuple):
    """A picture that lets something through."""

    colors: Picture  # [..., H, W, D] premultiplied
    alphas: Picture  # [..., H, W, 1]


def over(front: Picture, alpha: Picture, back: Picture) -> Picture:
    """``front`` before ``back``, in the type and range of the arguments.

    Args:
        front: [..., H, W, D] premultiplied by ``alpha``; float or uint8.
        alpha: [..., H, W, 1] of the front; float 0..1 or, with uint8 pictures, 0..255.
        back: [..., H, W, D] (or what broadcasts to it).

    Returns:
        [..., H, W, D]. uint8 results are rounded to nearest and cannot overflow.

    Raises:
        InputError: bytes mixed with floats.
    """
    are_bytes = {_is_bytes(front), _is_bytes(alpha), _is_bytes(back)}
    if len(are_bytes) > 1:
        got = f"{front.dtype}, {alpha.dtype}, {back.dtype}"
        raise InputError("layers to composite", "all uint8 or all floats", got)
    if not are_bytes.pop():
        return front + (1 - alpha) * back
    if isinstance(front, Tensor):
        return (front.int() + ((255 - alpha.int()) * back.int() + 127) // 255).clamp(max=255).byte()
    through = ((255 - alpha.astype(np.uint16)) * back + 127) // 255  # at most 255 * 255 + 127: fits 16 bits
    return np.minimum(front + through, 255).astype(np.uint8)


def stack_layers(*layers: Layer) -> Layer:
    """Several layers, the first one nearest, as one: face, torso, ...

    Args:
        layers: at least one, floats; their shapes broadcast.
    """
    front = layers[0]
    for back in layers[1:]:
        front = Layer(over(front.colors, front.alphas, back.colors), over(front.alphas, front.alphas, back.alphas))
    return front


def face_over_torso_over_background(face: Layer, torso: Layer, background: Picture) -> Picture:
    """The whole portrait, [..., H, W, D]; gradients reach all three, so no layer can hide behind another unseen."""
    return over(face.colors, face.alphas, over(torso.colors, torso.alphas, background))


def choose_background(choice: Background, *, width: int, height: int, plate: np.ndarray) -> np.ndarray | None:
    """What stands behind a person.

    Args:
        choice: None or ``"plate"`` (as recorded), ``"transparent"``, an RGB colour of three numbers 0..255, or a
            picture [h, w, 3] uint8 of any size, which fills the frame: scaled and cut evenly at the longer sides.
        width: of the frame, in pixels.
        height: of the frame, in pixels.
        plate: [H, W, 3] uint8 the recording's own background.

    Returns:
        [H, W, 3] uint8, or None for transparent. May be the plate itself: do not write into it.

    Raises:
        InputError: a choice of another kind.
    """
    if choice is None or (isinstance(choice, str) and choice == "plate"):
        return fill_frame(plate, width=width, height=height)
    if isinstance(choice, str) and choice == "transparent":
        return None
    if isinstance(choice, np.ndarray) and choice.ndim == 3:
        return fill_frame(choice, width=width, height=height)
    if isinstance(choice, tuple | list | np.ndarray) and len(choice) == 3:
        color = np.asarray(choice)
        if color.dtype.kind in "iu" and ((color >= 0) & (color <= 255)).all():
            return np.broadcast_to(color.astype(np.uint8), (height, width, 3))
    expected = "'plate', 'transparent', three whole numbers 0..255 or a picture [h, w, 3] uint8"
    got = f"an array {list(choice.shape)} {choice.dtype}" if isinstance(choice, np.ndarray) else repr(choice)
    raise InputError("background", expected, got)


def fill_frame(picture: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """A picture [h, w, 3] uint8 scaled to cover [height, width], the overlap cut off evenly.

    Raises:
        InputError: not an RGB picture of bytes, or an empty one.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape) < 1:
        raise InputError("background picture", "[h, w, 3] uint8", f"{list(picture.shape)} {picture.dtype}")
    rows, columns = picture.shape[:2]
    if (rows, columns) == (height, width):
        return picture
    import cv2

    scale = max(height / rows, width / columns)
    cut_rows, cut_columns = min(rows, round(height / scale)), min(columns, round(width / scale))
    top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
    window = picture[top : top + max(cut_rows, 1), left : left + max(cut_columns, 1)]
    return cv2.resize(window, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def finish_picture(colors: np.ndarray, alphas: np.ndarray, background: np.ndarray | None) -> np.ndarray:
    """A rendered layer as the bytes that leave the engine.

    Args:
        colors: [H, W, 3 or more] float32, premultiplied RGB first.
        alphas: [H, W, 1] float32, 0..1.
        background: [H, W, 3] in 0..255, bytes or floats; None keeps the picture transparent.

    Returns:
        uint8 [H, W, 3]; or [H, W, 4] with *straight* (not premultiplied) alpha, as PNG wants it.
    """
    if background is not None:
        from m2dao.kernels.threads import share_out
        from m2dao.render.composite_kernel import put_over  # the interface loads no backend

        out = np.empty((*colors.shape[:2], 3), np.uint8)
        share_out(put_over, colors, alphas, background, out, max_threads=-(-len(out) // PIXEL_ROWS_PER_THREAD))
        return out
    rgb = colors[..., :3]
    straight = np.where(alphas > STRAIGHT_ALPHA_MIN, rgb / np.maximum(alphas, STRAIGHT_ALPHA_MIN), 0)
    return (np.clip(255 * np.concatenate([straight, alphas], axis=-1), 0, 255) + 0.5).astype(np.uint8)


def finish_pictures(colors: Tensor, alphas: Tensor, background: Tensor | None) -> Tensor:
    """The same for several pictures on their own device.

    Args:
        colors: [B, H, W, 3 or more] float32, premultiplied RGB first.
        alphas: [B, H, W, 1] float32, 0..1.
        background: [H, W, 3] in 0..255; None keeps the pictures transparent.

    Returns:
        uint8 [B, H, W, 3], or [B, H, W, 4] with straight alpha.
    """
    rgb = colors[..., :3]
    if background is not None:
        pictures = 255 * rgb + (1 - alphas) * background
    else:
        pictures = 255 * torch.cat([torch.where(alphas > STRAIGHT_ALPHA_MIN, rgb / alphas, 0.0), alphas], dim=-1)
    return (pictures.clamp(0, 255) + 0.5).byte()


def _is_bytes(picture: Picture) -> bool:
    return str(picture.dtype).removeprefix("torch.") == "uint8"
