"""Decoding by time stamps: rates, start times, rotation, shapes, damage."""

from fractions import Fraction

import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media.audio import read_audio
from m2dao.media.container import MediaLimits
from m2dao.media.video import probe_video, read_frames
from tests.support.videos import click_position, click_track, gray_code_frame, read_number, write_video


def numbered(path, times_s, **options):
    return write_video(path, times_s, [gray_code_frame(i) for i in range(len(times_s))], **options)


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30), Fraction(24000, 1001), Fraction(60), Fraction(12)])
def test_every_output_frame_is_the_nearest_stored_one(tmp_path, rate):
    times = [i / rate for i in range(60)]
    path = numbered(tmp_path / "a.mp4", times)
    frames = list(read_frames(path))
    assert len(frames) == pytest.approx(25 * 60 / rate, abs=1)
    for frame in frames:
        assert frame.time_s == pytest.approx(frame.index / 25)
        nearest = min(abs(float(t) - frame.time_s) for t in times)
        assert abs(float(times[read_number(frame.rgb)]) - frame.time_s) <= nearest + 1e-4
        assert abs(frame.source_time_s - float(times[read_number(frame.rgb)])) < 1e-3


def test_25_fps_passes_through_frame_by_frame(tmp_path):
    path = numbered(tmp_path / "a.mp4", [Fraction(i, 25) for i in range(50)])
    assert [read_number(frame.rgb) for frame in read_frames(path)] == list(range(50))


def test_irregular_time_stamps_are_followed(tmp_path):
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.01, 0.12, 60))
    path = numbered(tmp_path / "a.mkv", list(times))
    for frame in read_frames(path):
        shown = times[read_number(frame.rgb)] - times[0]
        assert abs(shown - frame.time_s) <= np.min(np.abs(times - times[0] - frame.time_s)) + 2e-3


@pytest.mark.parametrize("sound_start_s", [0.0, 0.4])
@pytest.mark.parametrize("video_start_s", [Fraction(0), Fraction(2, 10)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_start_times_of_both_streams_share_one_clock(tmp_path, video_start_s, sound_start_s, suffix):
    times = [video_start_s + Fraction(i, 25) for i in range(50)]
    path = numbered(tmp_path / f"a{suffix}", times, waveform=click_track(28000, 8000), sound_start_s=sound_start_s)
    heard_s = click_position(read_audio(path)) / 16000
    assert heard_s == pytest.approx(0.5 + sound_start_s - float(video_start_s), abs=0.003)
    assert read_number(next(read_frames(path)).rgb) == 0


@pytest.mark.parametrize("rotation_deg", [90, 180, 270])
def test_rotated_phone_video_comes_out_upright(tmp_path, rotation_deg):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 255  # a mark in the upper left corner of what is stored
    path = write_video(
        tmp_path / "a.mp4", [Fraction(i, 25) for i in range(5)], [picture] * 5, rotation_deg=rotation_deg
    )
    expected = np.rot90(picture, k=rotation_deg // 90)  # the display matrix turns counter-clockwise by this angle
    frame = next(read_frames(path)).rgb
    info = probe_video(path)
    assert frame.shape == expected.shape == (info.height, info.width, 3)
    assert np.abs(frame.astype(int) - expected).mean() < 6
    assert info.rotation_deg == (-rotation_deg) % 360


def test_colours_survive_the_way_through_the_writer(tmp_path):
    from m2dao.media.mux import VideoWriter

    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 170, 30], [128, 128, 128]], np.uint8)
    picture = np.repeat(np.repeat(colours[None], 32, 0), 32, 1)
    with VideoWriter(tmp_path / "a.mp4", width=160, height=32, quality=4) as writer:
        for _ in range(3):
            writer.write(picture)
    decoded = next(read_frames(tmp_path / "a.mp4")).rgb
    assert np.abs(decoded[16, 16::32].astype(int) - colours).max() <= 4


def test_large_frames_are_shrunk_on_request(tmp_path):
    path = write_video(tmp_path / "a.mp4", [Fraction(i, 25) for i in range(3)], [gray_code_frame(5, 640, 360)] * 3)
    frame = next(read_frames(path, max_side=160)).rgb
    assert frame.shape == (90, 160, 3)
    assert read_number(frame) == 5


def test_a_file_cut_short_is_refused_with_both_lengths(tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(100)]
    path = write_video(
        tmp_path / "a.mp4", [Fraction(i, 25) for i in range(100)], noise, options={"movflags": "+faststart"}
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="truncated"):
        list(read_frames(path))
    path.write_bytes(whole[:200])
    with pytest.raises(MediaError, match="truncated|damaged"):
        list(read_frames(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"hello, this is no video\n" * 50, "plain text"),
        (b"#EXTM3U\nfile:/etc/passwd\n", "a playlist"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, content, message):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=message):
        list(read_frames(path))
    with pytest.raises(MediaError, match=message):
        probe_video(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(MediaError, match="nothing of this name"):
        probe_video(tmp_path / "absent.mp4")
    with pytest.raises(MediaError, match="a folder"):
        probe_video(tmp_path)


def test_a_playlist_cannot_open_other_files(tmp_path):
    numbered(tmp_path / "real.ts", [Fraction(i, 25) for i in range(25)])
    listing = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nreal.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(listing)
    with pytest.raises(MediaError, match="a playlist"):
        list(read_frames(tmp_path / "list.m3u8"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (MediaLimits(max_pixels=1000), "pixels"),
        (MediaLimits(max_duration_s=0.5), "at most 0 s|at most 1 s"),
        (MediaLimits(max_frame_rate=10), "frames per second"),
    ],
)
def test_limits_are_kept_before_pictures_are_handed_out(tmp_path, limits, message):
    path = numbered(tmp_path / "a.mp4", [Fraction(i, 25) for i in range(50)])
    with pytest.raises(MediaError, match=message):
        list(read_frames(path, limits=limits))
