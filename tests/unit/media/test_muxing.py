"""Encoding: exact sync, nothing half-written, streams that play while they are made."""

import io

import av
import numpy as np
import pytest

from m2dao.errors import ConfigError, MediaError
from m2dao.media.audio import SoundChoice, probe_audio, read_audio, read_sent
from m2dao.media.mux import FragmentedMp4, VideoWriter
from m2dao.media.sound.formats import SoundFormat
from m2dao.media.sound.storing import read_stored, write_flac
from m2dao.media.video import probe_video, read_frames
from m2dao.timeline import num_frames_for_samples
from tests.support.videos import click_position, click_track, gray_code_frame, read_number

NUM_FRAMES = 100
CLICK = 40 * 640  # the sound of frame 40 begins here


def test_a_click_is_heard_at_the_frame_it_was_written_with(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=64, height=48, waveform=click_track(NUM_FRAMES * 640, CLICK)) as writer:
        for i in range(NUM_FRAMES):
            writer.write(gray_code_frame(i))
    assert [read_number(frame.rgb) for frame in read_frames(path)] == list(range(NUM_FRAMES))
    waveform = read_audio(path)
    assert click_position(waveform) == pytest.approx(CLICK, abs=16)
    assert len(waveform) == pytest.approx(NUM_FRAMES * 640, abs=1024)
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def test_sound_in_pieces_makes_the_same_film(tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, 20 * 640 - 77).astype(np.float32)
    pieces = (waveform[start : start + 999] for start in range(0, len(waveform), 999))
    for name, sound in (("whole", waveform), ("pieces", pieces)):
        with VideoWriter(tmp_path / f"{name}.mp4", width=64, height=48, waveform=sound) as writer:
            for i in range(25):
                writer.write(gray_code_frame(i))
    whole, pieces = tmp_path / "whole.mp4", tmp_path / "pieces.mp4"
    # not byte by byte: ffmpeg's AAC encoder promises that no more than x264 with threads does
    for one, other in zip(read_frames(whole), read_frames(pieces), strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)
    np.testing.assert_allclose(read_audio(whole), read_audio(pieces), atol=1e-3)


@pytest.mark.parametrize(("rate", "num_channels"), [(44_100, 2), (48_000, 1), (8000, 1)])
def test_a_film_carries_sound_of_any_rate_in_sync_to_the_sample(tmp_path, rate, num_channels):
    sound = np.zeros((num_channels, 2 * rate), np.float32)
    for second in (0.0, 1.9):
        sound[:, int(second * rate) : int(second * rate) + rate // 50] = 0.8
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=64, height=48, waveform=sound, sound=SoundFormat(rate, num_channels)) as writer:
        for i in range(50):
            writer.write(gray_code_frame(i))
    assert (probe_audio(path).sample_rate, probe_audio(path).num_channels) == (rate, num_channels)
    heard = np.concatenate(list(read_sent(path)), axis=1)
    assert heard.shape[0] == num_channels
    for second in (0.0, 1.9):
        edge = int(second * rate)
        around = np.abs(heard[0, max(edge - rate // 100, 0) : edge + rate // 100])
        assert np.argmax(around > 0.4) == pytest.approx(min(edge, rate // 100), abs=rate // 1000)


@pytest.mark.parametrize("sound", [SoundFormat(), SoundFormat(44_100, 2)])
def test_a_stored_sound_is_read_to_the_sample_as_it_was_stored(tmp_path, sound):
    samples = np.random.default_rng(0).uniform(-1, 1, (sound.num_channels, 3 * sound.sample_rate)).astype(np.float32)
    write_flac(tmp_path / "sound.flac", [samples[:, :1000], samples[:, 1000:1000], samples[:, 1000:]], sound)
    found, pieces = read_stored(tmp_path / "sound.flac")
    assert found == sound
    np.testing.assert_allclose(np.concatenate(list(pieces), axis=1), samples, atol=1e-4)


def test_a_minute_does_not_let_lips_drift(tmp_path):
    rate = 44_100
    speech = np.zeros((2, 60 * rate), np.float32)
    for second in (0, 59):
        speech[:, second * rate + 4410 : second * rate + 4500] = 0.9
    write_flac(tmp_path / "clicks.flac", [speech], SoundFormat(rate, 2))
    heard = read_audio(tmp_path / "clicks.flac", SoundChoice(sound_only=True))
    sent = np.concatenate(list(read_sent(tmp_path / "clicks.flac")), axis=1)
    for second in (0, 59):
        at = np.argmax(np.abs(heard[second * 16_000 :]) > 0.4)
        assert at == pytest.approx(1600, abs=2)
        assert np.argmax(np.abs(sent[0, second * rate :]) > 0.4) == pytest.approx(4410, abs=2)
    assert len(heard) == pytest.approx(60 * 16_000, abs=2)


def test_the_last_part_of_a_picture_of_sound_is_kept():
    assert num_frames_for_samples(round(6.23 * 16_000)) == 156


def test_sound_is_cut_or_padded_to_the_pictures(tmp_path):
    for num_samples in (10 * 640, 90 * 640):
        path = tmp_path / f"{num_samples}.mp4"
        with VideoWriter(path, width=64, height=48, waveform=np.full(num_samples, 0.1, np.float32)) as writer:
            for i in range(50):
                writer.write(gray_code_frame(i))
        with av.open(str(path)) as container:
            lengths = [float(stream.duration * stream.time_base) for stream in container.streams]
        assert lengths == pytest.approx([2.0, 2.0], abs=0.07)


def test_the_index_comes_first_so_that_players_start_at_once(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=64, height=48) as writer:
        for i in range(10):
            writer.write(gray_code_frame(i))
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert not probe_video(path).has_audio


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"what was there before")

    def interrupted():
        with VideoWriter(path, width=64, height=48) as writer:
            writer.write(gray_code_frame(0))
            raise RuntimeError("the renderer gave up")

    with pytest.raises(RuntimeError, match="renderer"):
        interrupted()
    assert path.read_bytes() == b"what was there before"
    with pytest.raises(MediaError, match="at least one frame"), VideoWriter(path, width=64, height=48):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_of_another_shape_and_odd_sizes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="even sides"), VideoWriter(tmp_path / "a.mp4", width=63, height=48):
        pass
    with pytest.raises(ConfigError, match="frame 0"), VideoWriter(tmp_path / "a.mp4", width=64, height=48) as writer:
        writer.write(np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(MediaError, match="folder"), VideoWriter(tmp_path / "no" / "a.mp4", width=64, height=48):
        pass
    assert list(tmp_path.iterdir()) == []


def stream_pieces():
    waveform = click_track(NUM_FRAMES * 640, CLICK)
    encoder = FragmentedMp4(width=64, height=48, fragment_s=0.2)
    try:
        for i in range(NUM_FRAMES):
            if ready := encoder.write(gray_code_frame(i), waveform[i * 640 : (i + 1) * 640]):
                yield ready
        yield encoder.finish()
    finally:
        encoder.finish()


def test_a_fragmented_stream_is_a_playable_file_in_sync(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join(stream_pieces()))
    assert [read_number(frame.rgb) for frame in read_frames(path)] == list(range(NUM_FRAMES))
    assert click_position(read_audio(path)) == pytest.approx(CLICK, abs=16)


def test_every_prefix_of_a_stream_can_be_played(tmp_path):
    pieces = list(stream_pieces())
    assert len(pieces) > 10  # bytes leave while frames come in
    prefix = b"".join(pieces[: len(pieces) // 2])
    with av.open(io.BytesIO(prefix)) as container:
        numbers = [read_number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert len(numbers) > 30
    assert numbers == list(range(len(numbers)))


def test_a_stream_given_up_early_closes_cleanly():
    pieces = stream_pieces()
    next(pieces)
    pieces.close()
    encoder = FragmentedMp4(width=64, height=48, has_audio=False)
    encoder.write(gray_code_frame(0))
    assert encoder.finish()
    assert encoder.finish() == b""
