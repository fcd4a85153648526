"""Files of editors, camcorders, browsers and long meetings: what is told of them and what is read."""

import re
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from m2dao.errors import MediaError
from m2dao.media.audio import read_audio, read_audio_chunks, read_both, read_sent
from m2dao.media.report import look
from m2dao.media.video import read_frames
from tests.support.media.sounds import similarity, spoken, wav_bytes
from tests.support.videos import click_position, click_track, gray_code_frame, read_number, write_video

NUM = 50
CLICK = 24_000  # sample at which the click begins: at 1.5 s


def numbered(path, codec, pix_fmt, *, options=None, layout=None, sound="pcm_s16le", metadata=None, aspect=None):
    """Two seconds of numbered pictures of 64 x 48 at 25 a second, with a click in the sound."""
    with av.open(str(path), "w", options=layout or {}) as output:
        video = output.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = 64, 48, pix_fmt
        video.metadata.update(metadata or {})
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        audio = output.add_stream(sound, rate=16_000, layout="mono")
        for number in range(NUM):
            picture = gray_code_frame(number)
            if pix_fmt.startswith("yuva"):
                opaque = np.full((48, 64, 1), 255, np.uint8)
                frame = av.VideoFrame.from_ndarray(np.concatenate([picture, opaque], 2), format="rgba")
            else:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        samples = (click_track(NUM * 640, CLICK) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        resampler = av.AudioResampler(format=audio.format, layout="mono", rate=16_000, frame_size=audio.frame_size or 0)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(audio.encode(piece))
        output.mux(audio.encode(None))
    return path


def numbers(path):
    return [read_number(frame.rgb) for frame in read_frames(path)]


def edited(path, begin_s, length_s):
    """Let the edit lists of all tracks show a piece only, as editors that cut without coding anew do."""
    data = bytearray(path.read_bytes())
    scales = [
        struct.unpack(">I", data[found.start() + 16 : found.start() + 20])[0]
        for found in re.finditer(b"mdhd\0\0\0\0", data)
    ]
    movie_scale = struct.unpack(">I", data[data.index(b"mvhd") + 16 :][:4])[0]
    lists = [found.start() for found in re.finditer(b"elst\0\0\0\0\0\0\0\x01", data)]
    assert len(lists) == len(scales) == 2
    for at, scale in zip(lists, scales, strict=True):
        (begin,) = struct.unpack(">i", data[at + 16 : at + 20])  # of the whole track: what decoders need first
        data[at + 12 : at + 20] = struct.pack(">Ii", round(length_s * movie_scale), begin + round(begin_s * scale))
    path.write_bytes(data)
    return path


def test_an_edit_list_shows_pictures_and_sound_of_its_piece_only(tmp_path):
    path = edited(numbered(tmp_path / "a.mp4", "libx264", "yuv420p", options={"crf": "12"}, sound="aac"), 0.4, 1.2)
    told = look(path)
    assert told["video"]["num_frames"] == 30
    assert told["duration_s"] == pytest.approx(1.2, abs=0.07)
    assert numbers(path) == list(range(10, 40))
    assert click_position(read_audio(path)) == pytest.approx(CLICK - 0.4 * 16_000, abs=80)


def test_a_track_that_an_edit_list_delays_begins_later(tmp_path):
    path = numbered(tmp_path / "a.mp4", "libx264", "yuv420p", options={"crf": "12"}, sound="aac")
    with av.open(str(path)) as source, av.open(str(tmp_path / "late.mp4"), "w") as target:
        tracks = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                if packet.stream.type == "audio":
                    shift = round(0.4 / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = tracks[packet.stream.index]
                target.mux(packet)
    assert (tmp_path / "late.mp4").read_bytes().count(b"elst") == 2
    assert numbers(tmp_path / "late.mp4") == list(range(NUM))
    heard = read_audio(tmp_path / "late.mp4")
    assert click_position(heard) == pytest.approx(CLICK + 0.4 * 16_000, abs=80)
    assert not heard[:4000].any()


def test_an_editors_master_in_prores_with_alpha_and_a_timecode_track_is_read(tmp_path):
    path = numbered(
        tmp_path / "master.mov",
        "prores_ks",
        "yuva444p10le",
        options={"profile": "4", "alpha_bits": "8"},
        sound="pcm_s24le",
        metadata={"timecode": "01:00:00:00"},
    )
    told = look(path)
    assert (told["video"]["codec"], told["audio"]["codec"]) == ("prores", "pcm_s24le")
    assert (told["video"]["num_frames"], told["duration_s"]) == (NUM, 2.0)
    assert [track["kind"] for track in told["other_tracks"]] == ["data"]
    assert numbers(path) == list(range(NUM))
    assert click_position(read_audio(path)) == pytest.approx(CLICK, abs=2)


@pytest.mark.parametrize(
    ("name", "codec", "aspect"),
    [
        ("a.mkv", "libx264", Fraction(16, 11)),
        ("b.mkv", "libx264", Fraction(8, 9)),
        ("a.mp4", "libx264", Fraction(64, 45)),
        ("a.mpg", "mpeg2video", Fraction(4, 3)),  # which knows screens of 4:3 and 16:9 only
    ],
)
def test_pictures_of_wide_and_narrow_pixels_are_shown_in_their_shape(tmp_path, name, codec, aspect):
    options = {"crf": "12"} if codec == "libx264" else {"b": "4000000"}
    path = numbered(tmp_path / name, codec, "yuv420p", options=options, sound="mp2", aspect=aspect)
    video = look(path)["video"]
    shown = next(read_frames(path)).rgb.shape
    assert (video["width"], video["height"]) == (shown[1], shown[0])
    assert shown[1] / shown[0] == pytest.approx(float(Fraction(64, 48) * aspect), rel=0.02)
    assert shown[1] >= 64
    assert shown[0] >= 48
    assert numbers(path) == list(range(NUM))


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"bf": "2", "crf": "12", "threads": "1"}), ("mpeg4", {"bf": "2", "q": "3", "b": "4000000"})],
)
def test_an_avi_with_b_frames_and_no_stamps_for_them_loses_no_picture(tmp_path, codec, options):
    path = numbered(tmp_path / "old.avi", codec, "yuv420p", options=options)
    with av.open(str(path)) as stored:
        assert PictureType.B in [frame.pict_type for frame in stored.decode(video=0)]
    told = look(path)
    assert told["video"]["num_frames"] == NUM
    assert numbers(path) == list(range(NUM))
    assert click_position(read_audio(path)) == pytest.approx(CLICK, abs=640)


@pytest.mark.parametrize(
    "layout",
    [
        {"movflags": "frag_keyframe+empty_moov+default_base_moof+delay_moov"},
        {"movflags": "empty_moov+delay_moov", "frag_duration": "200000"},
    ],
)
def test_a_fragmented_mp4_without_a_length_is_read_to_its_end(tmp_path, layout):
    path = numbered(
        tmp_path / "browser.mp4",
        "libx264",
        "yuv420p",
        options={"crf": "12", "g": "15", "bf": "0"},
        layout=layout,
        sound="aac",
    )
    assert path.read_bytes().count(b"moof") >= 2
    told = look(path)
    assert told["video"]["num_frames"] == NUM
    assert told["duration_s"] == pytest.approx(2.0, abs=0.1)
    assert numbers(path) == list(range(NUM))
    assert click_position(read_audio(path)) == pytest.approx(CLICK, abs=80)


def test_a_transport_stream_whose_pictures_change_size_shows_all_of_them_at_the_largest(tmp_path):
    """As calls and broadcasts are recorded: the size comes with each key frame."""
    sizes = (64, 128, 96)
    pieces = []
    for number, size in enumerate(sizes):
        path = tmp_path / f"{number}.mp4"
        frames = [gray_code_frame(10 * number + i, size, size) for i in range(10)]
        write_video(path, [Fraction(i, 25) for i in range(10)], frames)
        pieces.append(path)
    joined = tmp_path / "call.ts"
    with av.open(str(joined), "w") as target:
        stream, shift = None, 0
        for path in pieces:
            with av.open(str(path)) as source:
                track = source.streams.video[0]
                stream = stream or target.add_stream_from_template(track)
                annex_b = av.BitStreamFilterContext("h264_mp4toannexb", track)
                packets = [made for packet in source.demux(track) if packet.size for made in annex_b.filter(packet)]
                for packet in packets:
                    packet.pts = packet.dts = packet.pts + shift
                    packet.stream = stream
                    target.mux(packet)
                shift += round(Fraction(2, 5) / track.time_base)
    assert {frame.rgb.shape for frame in read_frames(joined)} == {(128, 128, 3)}
    assert numbers(joined) == list(range(30))
    assert any("its size changes" in note for note in look(joined)["notes"])


HOURS = 1.25
# Prints the samples, those that differ from silence in the last two seconds, and what memory rose by, MiB.
LISTEN = """
import resource, sys
import numpy as np
from m2dao.media.audio import probe_audio, read_audio_chunks
def memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
next(read_audio_chunks(sys.argv[2]))
before, num_samples, end = memory(), 0, np.zeros(0, np.float32)
print(probe_audio(sys.argv[1]).duration_s)
for chunk in read_audio_chunks(sys.argv[1]):
    num_samples += len(chunk)
    end = np.concatenate([end, chunk])[-48_000:]
np.save(sys.argv[3], end)
print(num_samples, memory() - before)
"""


def test_hours_of_sound_are_read_to_their_end_in_bounded_memory(tmp_path):
    """Of a telephone: 8 kHz, silent but for the first and last three seconds, in a file with a hole."""
    voice = spoken(3.0, 8000)
    piece = wav_bytes(voice, 8000)
    num_bytes = round(HOURS * 3600) * 16_000
    header = wav_bytes(voice[:0], 8000, data_size=num_bytes)
    path, short = tmp_path / "meeting.wav", tmp_path / "short.wav"
    short.write_bytes(piece)
    with path.open("wb") as file:
        file.write(header + piece[44:])
        file.seek(44 + num_bytes - len(piece[44:]))
        file.write(piece[44:])
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, str(path), str(short), str(tmp_path / "end.npy")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told_s, num_samples, grown_mib = map(float, done.stdout.split())
    assert told_s == pytest.approx(HOURS * 3600)
    assert num_samples == pytest.approx(HOURS * 3600 * 16_000, abs=40)
    assert similarity(np.load(tmp_path / "end.npy"), read_audio(short)) > 0.999
    assert grown_mib < 150  # all of it would be 275


def test_more_than_three_hours_of_sound_are_refused_before_any_of_it_is_read(tmp_path):
    path = tmp_path / "night.wav"
    with path.open("wb") as file:
        file.write(wav_bytes(np.zeros(0), 8000, data_size=4 * 3600 * 16_000))
        file.truncate(44 + 4 * 3600 * 16_000)
    for reader in (read_audio_chunks(path), read_sent(path), read_both(path)):
        with pytest.raises(MediaError, match="at most 10800 s; got 14400 s"):
            next(reader)
