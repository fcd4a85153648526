"""Uploads are hostile: what reaches the platform is plain, bounded and decoded elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import struct
import wave
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from cluster.settings import ServeConfig
from m2dao.errors import MediaError
from m2dao.media.audio import write_wav
from serve_apps.api.decode import UploadDecoder
from serve_apps.problems import ApiProblem
from tests.support.media.sounds import similarity, spoken, wav_bytes


@contextlib.contextmanager
def decoding(config: ServeConfig):
    decoder = UploadDecoder(config)
    decoder.start()
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def decoder():
    with decoding(ServeConfig(max_audio_s=5, max_image_pixels=10_000)) as decoder:
        yield decoder


def decode_audio(decoder: UploadDecoder, source, work_dir):
    return asyncio.run(decoder.decode_audio(source, work_dir))


def decode_image(decoder: UploadDecoder, source, work_dir):
    return asyncio.run(decoder.decode_image(source, work_dir))


def saved(folder, data: bytes):
    (folder / "upload").write_bytes(data)
    return folder / "upload"


def tone(seconds: float) -> np.ndarray:
    return (0.4 * np.sin(np.arange(round(16_000 * seconds)) * 0.17)).astype(np.float32)


def png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_sound_comes_out_as_16_khz_mono(decoder, tmp_path):
    stereo = np.stack([tone(1.0), tone(1.0)], axis=1)
    with wave.open(str(tmp_path / "upload"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes((np.repeat(stereo, 3, axis=0)[:44_100] * 32767).astype("<i2").tobytes())
    decoded = decode_audio(decoder, tmp_path / "upload", tmp_path)
    with wave.open(str(decoded.path), "rb") as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 16_000, 2)
        assert file.getnframes() == decoded.num_samples
    assert decoded.seconds == pytest.approx(1.0, abs=0.01)


def test_sound_is_kept_as_it_was_sent_beside_what_lips_follow(decoder, tmp_path):
    samples = np.stack([spoken(1.0, 48_000), 0.3 * np.sin(np.arange(48_000) * 2 * np.pi * 10_000 / 48_000)])
    decoded = decode_audio(decoder, saved(tmp_path, wav_bytes(samples, 48_000)), tmp_path)
    with av.open(str(decoded.sent)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("flac", 48_000, 2)
        kept = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in container.decode(stream)]).T / 32768
    np.testing.assert_allclose(kept, samples, atol=1e-3)
    with wave.open(str(decoded.path), "rb") as file:
        heard = np.frombuffer(file.readframes(1 << 20), "<i2") / 32768
    assert similarity(heard, spoken(1.0)) > 0.99  # the whistle on the other channel is not heard


def test_sound_that_comes_as_it_is_stored_is_not_kept_twice(decoder, tmp_path):
    write_wav(tmp_path / "upload", tone(1.0))
    decoded = decode_audio(decoder, tmp_path / "upload", tmp_path)
    assert decoded.sent is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speech.wav", "upload"]
    assert decoded.path.read_bytes() == (tmp_path / "upload").read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 4096,
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 1 RTP/AVP 0\n",
    ],
    ids=["empty", "zeros", "half-header", "hls", "concat", "dash", "sdp"],
)
def test_what_is_no_sound_file_is_refused(decoder, tmp_path, data):
    with pytest.raises(MediaError) as caught:
        decode_audio(decoder, saved(tmp_path, data), tmp_path)
    assert str(tmp_path) not in str(caught.value)  # our folders are nobody's business
    assert not (tmp_path / "speech.wav").exists()


def test_sound_that_is_too_long_or_too_short_is_refused(decoder, tmp_path):
    write_wav(tmp_path / "upload", tone(5.5))
    with pytest.raises(MediaError, match="at most 5 s"):
        decode_audio(decoder, tmp_path / "upload", tmp_path)
    (tmp_path / "upload").unlink()
    write_wav(tmp_path / "upload", tone(0.03))
    with pytest.raises(MediaError, match="at least 0.04 s"):
        decode_audio(decoder, tmp_path / "upload", tmp_path)


def test_a_sample_rate_nobody_can_speak_at_is_refused(decoder, tmp_path):
    with wave.open(str(tmp_path / "upload"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(400)
        file.writeframes(b"\x00\x01" * 800)
    with pytest.raises(MediaError, match="400"):
        decode_audio(decoder, tmp_path / "upload", tmp_path)


def test_a_decoder_that_needs_too_much_memory_is_stopped(tmp_path):
    config = ServeConfig(max_image_pixels=200_000_000, decode_memory_mb=512)
    with (
        decoding(config) as decoder,
        pytest.raises(MediaError, match="memory"),
    ):  # 600 MB of pixels, in a file of 100 bytes
        decode_image(decoder, saved(tmp_path, png(14_000, 14_000)), tmp_path)


def test_a_decoder_that_does_not_come_back_is_stopped(tmp_path):
    with decoding(ServeConfig(decode_timeout_s=1)) as decoder:
        os.mkfifo(tmp_path / "upload")  # nobody ever writes into it
        with pytest.raises(MediaError, match="a media file"):
            decode_audio(decoder, tmp_path / "upload", tmp_path)


def test_a_decoder_that_dies_is_the_uploads_fault(tmp_path):
    with decoding(ServeConfig(max_audio_s=36_000, decode_timeout_s=1, drain_s=36_000)) as decoder:
        with wave.open(str(tmp_path / "upload"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(bytes(2 * 16_000 * 3600))
        with pytest.raises(MediaError, match="a file that decodes within"):
            decode_audio(decoder, tmp_path / "upload", tmp_path)


def test_uploads_beyond_the_slots_wait_and_are_then_refused(tmp_path):
    async def refused(decoder: UploadDecoder) -> None:
        async with decoder._slot():
            with pytest.raises(ApiProblem, match="busy") as caught:
                await decoder.decode_audio(saved(tmp_path, b"x"), tmp_path)
        assert (caught.value.code, caught.value.headers) == ("service-unavailable", {"Retry-After": "2"})

    with decoding(ServeConfig(decode_processes=1, decode_wait_s=0.1)) as decoder:
        asyncio.run(refused(decoder))


def test_a_picture_comes_out_upright_and_without_its_extras(decoder, tmp_path):
    picture = Image.new("RGB", (40, 20), (200, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    data = io.BytesIO()
    picture.save(data, "JPEG", exif=exif)
    with Image.open(decode_image(decoder, saved(tmp_path, data.getvalue()), tmp_path)) as out:
        assert (out.size, out.mode, out.format) == ((20, 40), "RGB", "PNG")
        assert not out.getexif()


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", png(90_000, 90_000), png(101, 100), png(50, 50), b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    ids=["empty", "text", "bomb", "just-too-large", "no-pixels", "svg"],
)
def test_what_is_no_usable_picture_is_refused(decoder, tmp_path, data):
    with pytest.raises(MediaError):
        decode_image(decoder, saved(tmp_path, data), tmp_path)
