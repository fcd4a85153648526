"""Background pictures: transparency, 16 bits, orientation, damage."""

import io

import numpy as np
import pytest
from PIL import Image

from m2dao.errors import MediaError
from m2dao.media.photo import WEB_FORMATS, read_photo

X, Y = np.meshgrid(np.arange(64), np.arange(48))
RGB = np.stack([X * 4, Y * 5, 128 + 0 * X], -1).astype(np.uint8)
HIDDEN = np.dstack([RGB, np.full((48, 64), 255, np.uint8)])
HIDDEN[:, :32] = (255, 0, 255, 0)  # magenta that nobody should see


def read(path):
    return read_photo(path, subject="background")


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparent_pixels_show_white_and_not_what_is_hidden(tmp_path, name):
    Image.fromarray(HIDDEN).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    found = read(tmp_path / name)
    assert (found[:, :32] == 255).all()
    np.testing.assert_array_equal(found[:, 32:], RGB[:, 32:])


def test_half_transparent_grey_and_palettes_are_opaque_too(tmp_path):
    Image.fromarray(np.dstack([np.zeros((8, 8), np.uint8), np.full((8, 8), 128, np.uint8)])).save(tmp_path / "la.png")
    assert abs(int(read(tmp_path / "la.png")[0, 0, 0]) - 127) <= 1
    Image.fromarray(RGB).quantize(16).save(tmp_path / "p.png", transparency=0)
    assert read(tmp_path / "p.png").shape == (48, 64, 3)


def test_16_bit_grey_is_scaled(tmp_path):
    Image.fromarray((Y * 65_535 // 47).astype(np.uint16)).save(tmp_path / "grey16.png")
    found = read(tmp_path / "grey16.png")
    np.testing.assert_allclose(found[..., 0], Y * 255 / 47, atol=1)


def test_pictures_are_turned_as_their_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(RGB)).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert np.abs(read(tmp_path / "turned.jpg").astype(int) - RGB).mean() < 4


@pytest.mark.parametrize("mode", ["CMYK", "L", "1", "P"])
def test_other_colour_spaces_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(RGB).convert(mode).save(path)
    assert read(path).shape == (48, 64, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_is_cut_off_is_refused(tmp_path, format):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format)
    path = tmp_path / "cut"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(MediaError, match="background"):
        read(path)


def test_what_is_no_picture_or_too_large_is_refused(tmp_path):
    (tmp_path / "error.png").write_text('{"error": "not found"}')
    with pytest.raises(MediaError, match="something else"):
        read(tmp_path / "error.png")
    Image.fromarray(RGB).save(tmp_path / "a.bmp")
    assert read(tmp_path / "a.bmp").shape == (48, 64, 3)
    with pytest.raises(MediaError, match="a JPEG, PNG or WebP picture"):
        read_photo(tmp_path / "a.bmp", subject="background_image", formats=WEB_FORMATS)
    with pytest.raises(MediaError, match="at most 100 pixels"):
        read_photo(tmp_path / "a.bmp", subject="background", max_pixels=100)
