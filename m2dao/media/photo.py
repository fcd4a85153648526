"""Reads a photograph or drawing for use as a background: upright, opaque, 8 bits a channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.WebPImagePlugin  # noqa: F401  # a process that is shut in could not import it any more
from PIL import Image, ImageOps, UnidentifiedImageError

from m2dao.errors import MediaError

WEB_FORMATS = ("JPEG", "PNG", "WEBP")
ALL_FORMATS = (*WEB_FORMATS, "BMP", "GIF", "TIFF")
BEHIND = (255, 255, 255)  # what transparent pixels show
MAX_PIXELS = 200_000_000

Image.preinit()
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before any pixel is decoded


def read_photo(
    path: Path | str, *, subject: str, formats: tuple[str, ...] = ALL_FORMATS, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The picture as uint8 [H, W, 3]; what is transparent shows white.

    Args:
        path: of the file.
        subject: what errors call it.
        formats: those that are read, names of Pillow.
        max_pixels: more are refused before any is decoded.

    Raises:
        MediaError: it is of another format, damaged, or too large.
    """
    try:
        with Image.open(path, formats=formats) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise MediaError(subject, f"at most {max_pixels} pixels", f"{width} x {height}")
            return _opaque(_eight_bits(ImageOps.exif_transpose(picture)))
    except UnidentifiedImageError as error:
        wanted = "a JPEG, PNG or WebP picture" if formats == WEB_FORMATS else f"a picture ({', '.join(formats)})"
        raise MediaError(subject, wanted, "something else") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's decoders raise all of these on damage
        raise MediaError(subject, "a picture that can be decoded", str(error)) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits scaled to 8; Pillow itself would cut it off at 255."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, np.float64)
    brightest = 1.0 if picture.mode == "F" else 65_535.0
    return Image.fromarray(np.clip(values * (255.0 / brightest), 0, 255).round().astype(np.uint8))


def _opaque(picture: Image.Image) -> np.ndarray:
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    rgba = np.asarray(picture.convert("RGBA"), np.float32)
    alpha = rgba[..., 3:] / 255.0
    return np.round(rgba[..., :3] * alpha + np.array(BEHIND, np.float32) * (1.0 - alpha)).astype(np.uint8)
