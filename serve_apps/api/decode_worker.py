"""Decodes one upload in a process of its own, with hard limits; only ``decode.py`` starts it.

Uploads are hostile: a crafted file may make a decoder run for ever, use up the memory, read other files (playlists
name them) or crash. So the process limits itself before it imports any decoder (which formats are opened at all is
decided in ``m2dao/media/container.py``), and hands back a plain normalised file and one JSON object, both written to
its work folder.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BACKGROUND_SIDE = 2048  # pixels; more is never shown


def limit_self(limits: dict[str, Any]) -> None:
    """Bound what this process may use; what goes beyond it fails here and nowhere else."""
    seconds, num_bytes, file_bytes = limits["cpu_s"], limits["memory_bytes"], limits["file_bytes"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))


def decode_audio(source: Path, target: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Write the upload's sound to ``target`` as 16 kHz mono PCM16 WAV.

    Raises:
        MediaError: it is no sound file of a known kind, or its length, sample rate or channels are out of bounds.
    """
    from m2dao.errors import MediaError
    from m2dao.media.audio import read_audio, write_wav
    from m2dao.media.container import MediaLimits
    from m2dao.timeline import SAMPLE_RATE, SAMPLES_PER_FRAME

    waveform = read_audio(source, limits=MediaLimits(max_duration_s=limits["max_audio_s"]))  # [S]
    seconds = len(waveform) / SAMPLE_RATE
    if len(waveform) < SAMPLES_PER_FRAME:
        raise MediaError("the sound", f"at least {SAMPLES_PER_FRAME / SAMPLE_RATE:g} s", f"{seconds:.3f} s")
    write_wav(target, waveform)
    return {"seconds": seconds, "num_samples": len(waveform)}


def decode_image(source: Path, target: Path, limits: dict[str, Any]) -> dict[str, Any]:
    """Write the uploaded picture as an upright RGB PNG of at most ``MAX_BACKGROUND_SIDE``.

    Raises:
        MediaError: it is no JPEG, PNG or WebP, it is damaged, or it has too many pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    from m2dao.errors import MediaError

    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before any pixel is decoded
    try:
        with Image.open(source, formats=PICTURE_FORMATS) as picture:
            width, height = picture.size
            if width * height > limits["max_image_pixels"]:
                raise MediaError(
                    "background_image", f"at most {limits['max_image_pixels']} pixels", f"{width} x {height}"
                )
            upright = ImageOps.exif_transpose(picture).convert("RGB")
    except UnidentifiedImageError as error:
        raise MediaError("background_image", "a JPEG, PNG or WebP picture", "something else") from error
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's decoders raise all of these on damaged files
        raise MediaError("background_image", "a picture that can be decoded", str(error)) from error
    upright.thumbnail((MAX_BACKGROUND_SIDE, MAX_BACKGROUND_SIDE))
    upright.save(target, format="PNG", compress_level=1)
    return {"width": upright.width, "height": upright.height}


def main() -> int:
    """``decode_worker KIND SOURCE TARGET ANSWER LIMITS-JSON``; the answer says how it went."""
    kind, source, target, answer_path, limits_json = sys.argv[1:]
    limits = json.loads(limits_json)
    limit_self(limits)
    from m2dao.errors import InputError

    decode = {"audio": decode_audio, "image": decode_image}[kind]
    answer: dict[str, Any]
    try:
        answer = {"ok": decode(Path(source), Path(target), limits)}
    except InputError as error:
        # The client knows its file by another name than our temporary path.
        shown = (text.replace(str(source), "the upload") for text in error.args)
        answer = {"refused": list(shown)}
    except MemoryError:
        answer = {"refused": [kind, "a file that decodes within the memory limit", "more", ""]}
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
