"""Decodes one upload; runs inside a contained process, called by ``decode.py``.

Uploads are hostile: a crafted file may make a decoder run for ever, use up the memory, read other files (playlists
name them) or take the process over. So this runs where nothing else can be reached (``m2dao/contain``), and hands back
a plain normalised file and a few numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import PIL.WebPImagePlugin  # noqa: F401  # later would be inside, once for each picture
from PIL import Image, ImageOps, UnidentifiedImageError

from m2dao.errors import MediaError
from m2dao.media.audio import read_audio, read_sent, sent_format, write_wav
from m2dao.media.container import MediaLimits
from m2dao.media.sound.storing import write_flac
from m2dao.media.sound.voices import load_detector
from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BACKGROUND_SIDE = 2048  # pixels; more is never shown

load_detector()  # a process that is shut in could not read its file any more
Image.preinit()
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before any pixel is decoded


def decode_audio(say: object, source: str, target: str, sent: str, max_audio_s: float) -> dict[str, Any]:
    """Write the upload's sound to ``target`` as 16 kHz mono PCM16 WAV, and to ``sent`` as it came, as FLAC.

    Raises:
        MediaError: it is no sound file of a known kind, or its length, sample rate or channels are out of bounds.
    """
    limits = MediaLimits(max_duration_s=max_audio_s)
    waveform = read_audio(source, limits=limits, sound_only=True)  # [S]
    seconds = len(waveform) / SAMPLE_RATE
    if len(waveform) < SAMPLES_PER_FRAME:
        raise MediaError("the sound", f"at least {SAMPLES_PER_FRAME / SAMPLE_RATE:g} s", f"{seconds:.3f} s")
    write_wav(Path(target), waveform)
    write_flac(Path(sent), read_sent(source, limits=limits), sent_format(source, limits=limits))
    return {"seconds": seconds, "num_samples": len(waveform)}


def decode_image(say: object, source: str, target: str, max_image_pixels: int) -> dict[str, Any]:
    """Write the uploaded picture as an upright RGB PNG of at most ``MAX_BACKGROUND_SIDE``.

    Raises:
        MediaError: it is no JPEG, PNG or WebP, it is damaged, or it has too many pixels.
    """
    try:
        with Image.open(source, formats=PICTURE_FORMATS) as picture:
            width, height = picture.size
            if width * height > max_image_pixels:
                raise MediaError("background_image", f"at most {max_image_pixels} pixels", f"{width} x {height}")
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except UnidentifiedImageError as error:
        raise MediaError("background_image", "a JPEG, PNG or WebP picture", "something else") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's decoders raise all of these on damaged files
        raise MediaError("background_image", "a picture that can be decoded", str(error)) from error
    upright.thumbnail((MAX_BACKGROUND_SIDE, MAX_BACKGROUND_SIDE))
    upright.save(target, format="PNG", compress_level=1)
    return {"width": upright.width, "height": upright.height}
