"""Pictures as phones, cameras and calls make them: turned, HDR, interlaced, still."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media.picture.colour import hlg_nits, pq_nits, to_bt709
from m2dao.media.picture.still import is_still, refuse_still
from m2dao.media.video import probe_video, read_frames
from tests.support.videos import gray_code_frame, read_number, write_video

TIMES = [Fraction(i, 25) for i in range(5)]
SQUARES = np.zeros((48, 64, 3), np.uint8)  # no turn and no mirror of it looks like another
SQUARES[:16, :16] = 255
SQUARES[:16, 48:] = 120
MATRICES = {  # a, b, c, d, and what a player shows
    (1, 0, 0, 1): SQUARES,
    (-1, 0, 0, 1): SQUARES[:, ::-1],
    (1, 0, 0, -1): SQUARES[::-1],
    (-1, 0, 0, -1): SQUARES[::-1, ::-1],
    (0, 1, 1, 0): SQUARES.transpose(1, 0, 2),
    (0, 1, -1, 0): np.rot90(SQUARES, -1),
    (0, -1, 1, 0): np.rot90(SQUARES, 1),
    (0, -1, -1, 0): np.rot90(SQUARES, 1).transpose(1, 0, 2)[::-1, ::-1].transpose(1, 0, 2)[:, ::-1],
}


def with_matrix(path, matrix):
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("matrix", MATRICES)
def test_all_eight_orientations_come_out_as_players_show_them(tmp_path, matrix):
    a, b, c, d = matrix
    path = with_matrix(write_video(tmp_path / "a.mp4", TIMES, [SQUARES] * 5), matrix)
    frame = next(read_frames(path)).rgb
    # x' = a x + c y, y' = b x + d y, as the file asks
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    column, row = a * x + c * y, b * x + d * y
    expected = np.zeros(((48, 64) if a else (64, 48)) + (3,), np.uint8)
    expected[row - row.min(), column - column.min()] = SQUARES
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 6
    info = probe_video(path)
    assert info.mirrored == (a * d - b * c < 0)
    undone = SQUARES[:, ::-1] if info.mirrored else SQUARES
    assert np.abs(np.rot90(undone, -info.rotation_deg // 90).astype(int) - expected).mean() < 1


def portrait(height=96, width=128):
    """A picture with skin, dark and saturated places, and white."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([60 + x, 40 + y, 200 - x], -1).astype(float)
    picture[20:70, 40:90] = (205, 160, 135)
    picture[:12, :12] = 255
    picture[-16:] = (20, 22, 28)
    return np.clip(picture, 0, 255).astype(np.uint8)


def hdr_code(rgb, transfer):
    """R'G'B' of BT.2020 in `transfer` whose light is that of a BT.709 picture with white at 203 nits."""
    linear = (rgb / 255.0) ** 2.4 * 203.0
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    nits = linear @ to_2020.T
    code = np.linspace(0, 1, 20_001)
    light = (hlg_nits if transfer == "hlg" else pq_nits)(np.repeat(code[:, None], 3, 1))[:, 0]
    return np.interp(nits, light, code)


def write_hdr(path, rgb, transfer, *, primaries=9, colorspace=9, num_frames=3):
    code = hdr_code(rgb, transfer)
    luma = code @ (0.2627, 0.6780, 0.0593)
    planes = [64 + 876 * luma, 512 + 896 * (code[..., 2] - luma) / 1.8814, 512 + 896 * (code[..., 0] - luma) / 1.4746]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:crf=4:pools=1"})
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], "yuv444p10le"
        context = stream.codec_context
        context.color_primaries, context.colorspace, context.color_range = primaries, colorspace, 1
        context.color_trc = {"hlg": 18, "pq": 16}[transfer]
        for number in range(num_frames):
            frame = av.VideoFrame(rgb.shape[1], rgb.shape[0], "yuv444p10le")
            for plane, values in zip(frame.planes, planes, strict=True):
                padded = np.zeros((plane.height, plane.line_size // 2), "<u2")
                padded[:, : plane.width] = np.round(values)
                plane.update(padded.tobytes())
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", ["hlg", "pq"])
def test_hdr_comes_out_as_its_twin_of_standard_range(tmp_path, transfer):
    picture = portrait()
    path = write_hdr(tmp_path / "phone.mov", picture, transfer)
    assert probe_video(path).transfer == transfer
    assert f"HDR ({transfer.upper()})" in probe_video(path).notes[0]
    found = next(read_frames(path)).rgb.astype(int)
    assert np.abs(found - picture).mean() < 4
    assert np.abs(found[30:60, 50:80].mean((0, 1)) - (205, 160, 135)).max() < 8
    assert next(read_frames(path, max_side=64)).rgb.shape == (48, 64, 3)


def test_light_beyond_white_is_compressed_and_keeps_its_order():
    nits = np.repeat(np.array([50.0, 203.0, 400.0, 1000.0])[:, None], 3, 1)
    codes = to_bt709(nits, 1000.0)[:, 0]
    assert (np.diff(codes) > 0).all()
    assert codes[-1] == pytest.approx(1.0, abs=1e-3)
    assert codes[1] > 0.94


def test_dolby_vision_without_a_base_layer_is_refused_by_name(tmp_path):
    path = write_video(tmp_path / "a.mp4", TIMES, [SQUARES] * 5, options={"movflags": "+faststart"})
    data = path.read_bytes()
    config = struct.pack(">I4sBBHI", 32, b"dvcC", 1, 0, (5 << 9) | (6 << 3) | 0b101, 0) + bytes(16)
    at = data.index(b"moov")
    # beside the other boxes of the index, where readers that do not know it pass it over
    size = struct.unpack(">I", data[at - 4 : at])[0]
    end = at - 4 + size
    path.write_bytes(data[: at - 4] + struct.pack(">I", size + len(config)) + data[at:end] + config + data[end:])
    with pytest.raises(MediaError, match="Dolby Vision profile 5"):
        next(read_frames(path))


def moving(number, width=128, height=96):
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[20:76, 4 * number : 4 * number + 24] = 220
    return picture


def test_interlaced_pictures_come_out_without_combs(tmp_path):
    path = tmp_path / "camcorder.mp4"
    with av.open(str(path), "w") as container:
        options = {"crf": "8", "x264-params": "tff=1", "flags": "+ilme+ildct"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(10):
            woven = moving(2 * number)
            woven[1::2] = moving(2 * number + 1)[1::2]
            frame = av.VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert probe_video(path).interlaced
    frames = [frame.rgb.astype(int) for frame in read_frames(path)]
    assert len(frames) == 10
    # combs: lines that differ from both neighbours, which agree with each other
    combs = [np.abs(2 * rgb[2:-2] - rgb[1:-3] - rgb[3:-1])[24:68].mean() for rgb in frames[2:-1]]
    assert max(combs) < 4


def test_pictures_that_change_size_are_all_shown_at_the_largest(tmp_path):
    pieces = []
    for number, size in enumerate((64, 128, 96)):
        path = tmp_path / f"{number}.webm"
        frames = [gray_code_frame(10 * number + i, size, size) for i in range(10)]
        write_video(path, [Fraction(i, 25) for i in range(10)], frames, codec="libvpx")
        pieces.append(path)
    joined = tmp_path / "call.webm"
    with av.open(str(joined), "w") as target:
        stream, shift = None, 0
        for path in pieces:
            with av.open(str(path)) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = packet.pts + shift
                        packet.stream = stream
                        target.mux(packet)
                shift += round(0.4 / source.streams.video[0].time_base)
    frames = list(read_frames(joined))
    assert {frame.rgb.shape for frame in frames} == {(128, 128, 3)}
    assert [read_number(frame.rgb) for frame in frames] == list(range(30))
    assert "its size changes (64x64, 96x96, 128x128)" in probe_video(joined).notes[0]


def test_a_photograph_with_sound_is_refused_and_a_person_is_not(tmp_path):
    noise = np.random.default_rng(0).normal(0, 1.5, (5, 48, 64, 3))
    still = write_video(
        tmp_path / "still.mp4", [Fraction(i) for i in range(5)], list((SQUARES * 0.8 + 20 + noise).astype(np.uint8))
    )
    with pytest.raises(MediaError, match="one still picture"):
        refuse_still(still)
    blinking = [SQUARES.copy() for _ in range(5)]
    blinking[3][30:36, 20:26] = 90
    assert not is_still(write_video(tmp_path / "alive.mp4", [Fraction(i) for i in range(5)], blinking))


def test_odd_sizes_full_range_and_wide_pixels_keep_colours_and_shape(tmp_path):
    picture = portrait(95, 127)
    for name, codec, pix_fmt in (
        ("a.mkv", "libvpx-vp9", "yuv444p"),
        ("b.avi", "mjpeg", "yuvj444p"),
        ("c.mkv", "libx264rgb", "rgb24"),
    ):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"crf": "4", "b": "8000000", "q": "2"})
            stream.width, stream.height, stream.pix_fmt = 127, 95, pix_fmt
            for number in range(3):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        assert np.abs(next(read_frames(path)).rgb.astype(int) - picture).mean() < 4
