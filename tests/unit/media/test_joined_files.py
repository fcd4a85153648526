"""Files that somebody glued together, and sound that changes its shape in the middle."""

import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media.audio import probe_audio, read_audio
from m2dao.media.video import probe_video, read_frames
from tests.support.media.sounds import similarity, spoken, tone, wav_bytes, write_sound
from tests.support.videos import click_track, gray_code_frame, read_number, write_video

FIRST, SECOND = spoken(2.0), spoken(2.0, seed=1)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        ("ogg", "libopus", 48_000),
        ("ogg", "flac", 16_000),
        ("flac", "flac", 16_000),
        ("mp4", "aac", 16_000),
        ("mkv", "flac", 16_000),
        ("webm", "libopus", 48_000),
        ("aiff", "pcm_s16be", 16_000),
        ("caf", "pcm_s16le", 16_000),
        ("au", "pcm_s16be", 16_000),
        ("w64", "pcm_s16le", 16_000),
        ("wv", "wavpack", 16_000),
        ("avi", "pcm_s16le", 16_000),
        ("ts", "aac", 16_000),
        ("mp3", "libmp3lame", 16_000),
    ],
)
def test_two_files_joined_by_cat_are_heard_to_the_end(tmp_path, suffix, codec, rate):
    pieces = []
    for name, seed in (("a", 0), ("b", 1)):
        path = write_sound(tmp_path / f"{name}.{suffix}", [spoken(2.0, rate, seed=seed)], rate, codec=codec)
        pieces.append(path.read_bytes())
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(pieces))
    heard = read_audio(joined)
    assert len(heard) / 16_000 == pytest.approx(4.0, abs=0.26)
    assert probe_audio(joined).duration_s == pytest.approx(4.0, abs=0.25)
    # the second piece is all there, wherever the padding of the codec puts it
    at = np.argmax(np.correlate(heard[28_000:], SECOND[:8000], "valid")) + 28_000
    assert at == pytest.approx(32_000, abs=4200)
    assert similarity(heard[at:], SECOND) > 0.9


def test_joined_wavs_are_heard_whole_whatever_their_headers_promise(tmp_path):
    for number, size in enumerate((None, 0xFFFFFFFF, 0)):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav_bytes(FIRST, 16_000, data_size=size) + wav_bytes(SECOND, 16_000, data_size=size))
        assert np.abs(read_audio(path) - np.concatenate([FIRST, SECOND])).max() < 1e-3


def test_a_wav_followed_by_another_kind_of_sound_is_heard_whole(tmp_path):
    flac = write_sound(tmp_path / "b.flac", [SECOND], codec="flac")
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(FIRST, 16_000) + flac.read_bytes())
    assert similarity(read_audio(path), np.concatenate([FIRST, SECOND])) > 0.99


def test_sound_after_the_declared_end_of_a_wav_is_refused_with_its_size(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(FIRST, 16_000) + np.round(SECOND * 32767).astype("<i2").tobytes())
    with pytest.raises(MediaError, match="64000 bytes after the sound its header declares"):
        read_audio(path)


def test_tags_behind_a_wav_are_no_sound(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(FIRST, 16_000) + b"id3 " + (20_000).to_bytes(4, "little") + bytes(range(1, 251)) * 80)
    assert len(read_audio(path)) == 32_000


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts"])
def test_two_takes_in_one_file_are_seen_and_heard_to_the_end(tmp_path, suffix):
    pieces = []
    for start, click in ((0, 8000), (50, 4000)):
        frames = [gray_code_frame(number) for number in range(start, start + 50)]
        path = write_video(
            tmp_path / f"{start}.{suffix}", [i / 25 for i in range(50)], frames, waveform=click_track(32_000, click)
        )
        pieces.append(path.read_bytes())
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(pieces))
    shown = [read_number(frame.rgb) for frame in read_frames(joined)]
    assert sorted(set(shown)) == list(range(100))
    assert len(shown) == pytest.approx(100, abs=5)
    assert probe_video(joined).num_frames == 100
    heard = read_audio(joined)
    second = 32_000 + np.argmax(np.abs(heard[32_000:]) > 0.4)
    # the click of the second take is heard with its pictures: 4000 samples after its first one
    assert second - shown.index(50) * 640 == pytest.approx(4000, abs=640)


def test_a_change_of_rate_and_channels_in_the_middle_is_resampled(tmp_path):
    mono = write_sound(tmp_path / "a.mp3", [spoken(2.0, 24_000)], 24_000, codec="libmp3lame").read_bytes()
    jingle = np.stack([tone(1.0, 44_100), tone(1.0, 44_100)])
    stereo = write_sound(tmp_path / "b.mp3", [jingle], 44_100, codec="libmp3lame").read_bytes()
    path = tmp_path / "glued.mp3"
    path.write_bytes(mono + stereo + mono)
    heard = read_audio(path)
    assert len(heard) / 16_000 == pytest.approx(5.0, abs=0.25)
    spectrum = np.abs(np.fft.rfft(heard[36_000:46_000]))
    assert np.argmax(spectrum) * 1.6 == pytest.approx(440, abs=4)
