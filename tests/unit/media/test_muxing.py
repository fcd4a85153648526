"""Encoding: exact sync, nothing half-written, streams that play while they are made."""

import io

import av
import numpy as np
import pytest

from m2dao.errors import ConfigError, MediaError
from m2dao.media.audio import read_audio
from m2dao.media.mux import FragmentedMp4, VideoWriter
from m2dao.media.video import probe_video, read_frames
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


def test_sound_in_pieces_makes_the_same_file(tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, 20 * 640 - 77).astype(np.float32)
    pieces = (waveform[start : start + 999] for start in range(0, len(waveform), 999))
    for name, sound in (("whole", waveform), ("pieces", pieces)):
        with VideoWriter(tmp_path / f"{name}.mp4", width=64, height=48, waveform=sound) as writer:
            for i in range(25):
                writer.write(gray_code_frame(i))
    assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "pieces.mp4").read_bytes()


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
