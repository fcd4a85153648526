"""Sound decoding: rates, holes, limits."""

from fractions import Fraction

import av
import av.logging
import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media.audio import SoundChoice, probe_audio, read_audio, read_audio_chunks, write_wav
from tests.support.videos import click_position, click_track, gray_code_frame, write_video

TIMES = [Fraction(i, 25) for i in range(50)]
FRAMES = [gray_code_frame(i) for i in range(50)]


def write_pcm(path, sample_rate, num_channels, seconds, frequency=200.0, codec="pcm_s16le"):
    count = int(sample_rate * seconds)
    tone = 0.5 * np.sin(np.arange(count) / sample_rate * 2 * np.pi * frequency)
    samples = np.repeat((tone * 32767).astype(np.int16), num_channels)[None]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[num_channels]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = sample_rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("sample_rate", "num_channels"), [(8000, 1), (11025, 1), (16000, 2), (44100, 2), (48000, 6)])
def test_any_rate_becomes_16_khz_mono_of_the_same_length_and_pitch(tmp_path, sample_rate, num_channels):
    waveform = read_audio(write_pcm(tmp_path / "a.wav", sample_rate, num_channels, 2.0))
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(32000, abs=40)
    spectrum = np.abs(np.fft.rfft(waveform[:32000] * np.hanning(len(waveform[:32000]))))
    assert np.argmax(spectrum) * 16000 / len(waveform[:32000]) == pytest.approx(200, abs=2)


def test_stored_16_bit_sound_comes_back_sample_by_sample(tmp_path):
    waveform = np.random.default_rng(0).uniform(-0.9, 0.9, 16000).astype(np.float32)
    write_wav(tmp_path / "a.wav", waveform)
    assert np.abs(read_audio(tmp_path / "a.wav") - waveform).max() < 1 / 16000


def test_pieces_join_to_the_whole(tmp_path):
    path = write_pcm(tmp_path / "a.wav", 44100, 2, 3.0)
    pieces = list(read_audio_chunks(path))
    assert len(pieces) > 3
    np.testing.assert_array_equal(np.concatenate(pieces), read_audio(path))


def test_a_hole_in_the_time_stamps_becomes_silence_and_shifts_nothing(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start, content in ((0, np.zeros(8000)), (16000, click_track(8000, 4000))):
            samples = (content * 32767).astype(np.int16)[None]
            for offset in range(0, 8000, 800):
                piece = np.ascontiguousarray(samples[:, offset : offset + 800])
                frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 16000, start + offset, Fraction(1, 16000)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    waveform = read_audio(path)
    assert click_position(waveform) == pytest.approx(20000, abs=32)
    assert len(waveform) == pytest.approx(24000, abs=32)


def test_long_recordings_do_not_drift(tmp_path):
    path = write_pcm(tmp_path / "a.wav", 44100, 1, 120.0)
    assert sum(len(piece) for piece in read_audio_chunks(path)) == pytest.approx(120 * 16000, abs=40)


def test_a_400_hz_sound_track_is_refused_with_its_rate(tmp_path):
    path = write_pcm(tmp_path / "a.wav", 400, 1, 5.0, frequency=50.0)
    with pytest.raises(MediaError, match="got 400"):
        read_audio(path)
    with pytest.raises(MediaError, match="got 400"):
        probe_audio(path)


def test_a_video_without_sound_is_named(tmp_path):
    path = write_video(tmp_path / "silent.mp4", TIMES, FRAMES)
    with pytest.raises(MediaError, match="silent.mp4.*sound track.*none"):
        read_audio(path)


def test_a_sound_file_needs_no_video(tmp_path):
    write_wav(tmp_path / "a.wav", click_track(16000, 5000))
    assert click_position(read_audio(tmp_path / "a.wav")) == pytest.approx(5000, abs=1)


@pytest.fixture
def words_of_ffmpeg():
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said:
        yield said
    av.logging.set_level(level)


def test_the_sound_of_a_film_is_read_without_a_decoder_of_pictures(tmp_path, words_of_ffmpeg):
    film = write_video(tmp_path / "film.mp4", TIMES, FRAMES, waveform=click_track(32000, 16000))
    for sound_only in (False, True):
        assert click_position(read_audio(film, SoundChoice(sound_only=sound_only))) == pytest.approx(16000, abs=1100)
        refused = [text for _, _, text in words_of_ffmpeg if "h264" in text and "not on whitelist" in text]
        assert bool(refused) == sound_only


def test_sound_of_a_codec_that_nobody_speaks_into_is_refused(tmp_path):
    path = write_pcm(tmp_path / "a.wav", 16000, 1, 2.0, codec="adpcm_yamaha")
    assert len(read_audio(path)) > 0
    with pytest.raises(MediaError, match="adpcm_yamaha"):
        read_audio(path, SoundChoice(sound_only=True))


def test_containers_of_studios_are_no_sound_files(tmp_path):
    film = write_video(tmp_path / "film.nut", TIMES, FRAMES, waveform=click_track(32000, 16000))
    assert len(read_audio(film)) > 0
    with pytest.raises(MediaError):
        read_audio(film, SoundChoice(sound_only=True))
