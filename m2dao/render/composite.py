"""Puts a rendered picture over its background, as the bytes that leave the engine.

Rendered colours are premultiplied by their alpha, so "A over B" is A + (1 - alpha_A) B (Porter and Duff 1984).
Letters: B pictures, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2dao.errors import InputError

Background = str | tuple[int, int, int] | np.ndarray | None
PIXEL_ROWS_PER_THREAD = 256  # fewer are not worth waking a thread for
STRAIGHT_ALPHA_MIN = 1e-4  # below it a pixel has no colour of its own


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
