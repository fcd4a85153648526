"""Codecs, sizes and values of sound files, and files that hold no sound at all."""

import base64
import json
import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media.audio import probe_audio, read_audio
from tests.support.media.sounds import similarity, spoken, tone, wav_bytes, write_sound

VOICE = spoken(3.0)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 2_000_000_000, 0])
def test_a_streamed_wav_with_a_placeholder_for_its_size_is_heard_whole(tmp_path, size):
    path = tmp_path / "tts.wav"
    path.write_bytes(wav_bytes(VOICE, 16_000, data_size=size))
    assert np.abs(read_audio(path) - VOICE).max() < 1e-3


@pytest.mark.parametrize("num_bytes", [44, 46])
def test_a_wav_of_a_header_alone_is_refused_as_empty(tmp_path, num_bytes):
    path = tmp_path / "empty.wav"
    path.write_bytes(wav_bytes(VOICE[:0], 16_000)[:num_bytes])
    with pytest.raises(MediaError, match="empty sound track"):
        read_audio(path)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.ac3", "ac3", 48_000),
        ("a.eac3", "eac3", 48_000),
        ("a.wv", "wavpack", 16_000),
        ("a.tta", "tta", 16_000),
        ("a.au", "pcm_mulaw", 8_000),
        ("a.wav", "pcm_mulaw", 8_000),
        ("b.wav", "pcm_alaw", 8_000),
        ("c.wav", "adpcm_ima_wav", 8_000),
        ("d.wav", "pcm_s16le", 6_000),
        ("e.wav", "pcm_s24le", 96_000),
        ("f.wav", "pcm_f64le", 16_000),
        ("g.wav", "pcm_s32le", 16_000),
        ("h.wav", "pcm_u8", 16_000),
        ("a.w64", "pcm_s16le", 16_000),
        ("a.caf", "pcm_s16be", 16_000),
        ("a.aiff", "pcm_s16be", 16_000),
        ("a.mka", "libopus", 48_000),
        ("a.oga", "flac", 16_000),
        ("a.mp2", "mp2", 44_100),
        ("a.3gp", "aac", 16_000),
        ("a.m4a", "alac", 16_000),
        ("a.aac", "aac", 16_000),
    ],
)
def test_containers_and_codecs_of_telephony_studios_and_archives_are_heard(tmp_path, name, codec, rate):
    container = {".m4a": "ipod", ".aac": "adts", ".oga": "ogg", ".mka": "matroska", ".mp2": "mp2"}
    suffix = f".{name.split('.')[1]}"
    path = write_sound(tmp_path / name, [spoken(3.0, rate)], rate, codec=codec, container=container.get(suffix))
    heard = read_audio(path)
    assert len(heard) / 16_000 == pytest.approx(3.0, abs=0.2)
    best = max(similarity(heard[delay:], VOICE) for delay in range(0, 2400, 4))
    assert best > 0.85


@pytest.mark.parametrize(("layout", "num"), [("7.1.4", 12), ("hexadecagonal", 16)])
def test_planar_sound_of_many_channels_is_read_whole(tmp_path, layout, num):
    voice = spoken(2.0)
    samples = np.zeros((num, len(voice)), np.int32)
    samples[num - 1] = voice * (2**31 - 1)
    path = tmp_path / "array.wv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("wavpack", rate=16_000, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), format="s32", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        planar = av.AudioResampler(format="s32p", layout=layout, rate=16_000, frame_size=stream.frame_size or 0)
        for piece in [*planar.resample(frame), *planar.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    with av.open(str(path)) as stored:
        assert next(stored.decode(audio=0)).format.is_planar
    assert similarity(read_audio(path), voice) > 0.99
    assert probe_audio(path).num_channels == num


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_big_endian_wavs_are_speech_and_not_noise(tmp_path, dtype):
    path = tmp_path / "sampler.wav"
    if dtype is np.int16:
        path.write_bytes(wav_bytes(VOICE, 16_000, big_endian=True))
    else:
        kind, scale = (3, 1.0) if dtype is np.float32 else (1, 2.0**31 - 1)
        body = (VOICE.astype(np.float64) * scale).astype(np.dtype(dtype).newbyteorder(">")).tobytes()
        head = b"WAVEfmt " + struct.pack(">IHHIIHH", 16, kind, 1, 16_000, 64_000, 4, 32)
        path.write_bytes(
            b"RIFX" + struct.pack(">I", 36 + len(body)) + head + b"data" + struct.pack(">I", len(body)) + body
        )
    assert np.abs(read_audio(path) - VOICE).max() < 1e-3


def test_coded_sound_that_a_wav_declares_as_samples_is_decoded_and_not_heard_as_noise(tmp_path):
    coded = write_sound(tmp_path / "a.ac3", [spoken(3.0, 48_000)], codec="ac3", rate=48_000).read_bytes()
    shape = struct.pack("<IHHIIHH", 16, 1, 2, 48_000, 192_000, 4, 16)
    head = b"RIFF" + struct.pack("<I", 36 + len(coded)) + b"WAVEfmt " + shape
    path = tmp_path / "disc.wav"
    path.write_bytes(head + b"data" + struct.pack("<I", len(coded)) + coded)
    assert probe_audio(path).codec == "ac3"
    assert len(read_audio(path)) == pytest.approx(48_000, abs=600)


def test_nan_is_silent_and_what_is_too_loud_is_clipped(tmp_path):
    samples = (4 * VOICE).astype("<f4")
    samples[8000:8003] = (np.nan, np.inf, -np.inf)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16_000, 64_000, 4, 32)
    body = samples.tobytes()
    path = tmp_path / "loud.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", 36 + len(body)) + head + b"data" + struct.pack("<I", len(body)) + body)
    heard = read_audio(path)
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() == 1.0
    assert similarity(heard[20_000:], np.clip(4 * VOICE, -1, 1)[20_000:]) > 0.99


def test_clipped_and_hardly_audible_sound_keeps_its_level(tmp_path):
    for level in (1e-3, 1.0):
        path = tmp_path / f"{level}.wav"
        path.write_bytes(wav_bytes(level * np.sign(tone(1.0)), 16_000))
        assert np.abs(read_audio(path)).max() == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (json.dumps({"detail": {"status": "quota_exceeded"}}).encode(), "JSON text"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML text"),
        (base64.b64encode(wav_bytes(VOICE, 16_000)), "base64 text"),
        (b"data:audio/wav;base64," + base64.b64encode(wav_bytes(VOICE, 16_000)), "a data URL"),
        (b"\xff\xd8\xff\xe0" + bytes(500), "a photograph"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "a photograph"),
        (b"\0\0\0\x18ftypheic" + bytes(500), "a photograph"),
        (b"PK\x03\x04" + bytes(500), "a ZIP archive"),
        (b"\x1f\x8b\x08" + bytes(500), "gzip"),
        (b"%PDF-1.7" + bytes(500), "a PDF document"),
        (b"\0\0\0\x18ftypisom" + bytes(12) + b"\0\0\x01\0mdat" + bytes(248), "without its index"),
        ('{"error": 1}'.encode("utf-16"), "JSON text"),
    ],
)
def test_what_is_no_sound_is_refused_as_what_it_is(tmp_path, content, kind):
    path = tmp_path / "speech.mp3"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=kind):
        read_audio(path)
