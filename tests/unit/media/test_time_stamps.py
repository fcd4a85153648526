"""Time stamps that are jittery, broken, begin again or jump: judged over seconds, and said."""

from fractions import Fraction

import av
import numpy as np
import pytest

from m2dao.media.audio import SoundChoice, probe_audio, read_audio
from m2dao.media.video import probe_video, read_frames
from tests.support.media.sounds import similarity, spoken, write_sound
from tests.support.videos import click_position, click_track, gray_code_frame, read_number, write_video

RATE = 16_000
SAMPLES = 320  # of a packet: 20 ms


def write_stamped(path, waveform, stamp_s, *, rate=RATE, samples=SAMPLES):
    """PCM packets of `waveform`, each with the stamp that `stamp_s` makes of its number and true time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for number in range(len(waveform) // samples):
            piece = np.round(waveform[number * samples : (number + 1) * samples] * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="s16", layout="mono")
            frame.sample_rate = rate
            for packet in stream.encode(frame):
                packet.time_base = Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * stamp_s(number, number * samples / rate))
                container.mux(packet)
    return path


def test_stamps_that_come_in_bursts_change_nothing(tmp_path):
    voice = spoken(8.0)
    path = write_stamped(tmp_path / "a.mkv", voice, lambda n, t: t - (n % 5) * 0.018)
    notes = []
    assert np.abs(read_audio(path, notes=notes) - voice).max() < 1e-3
    assert notes == []


def test_stamps_that_jitter_at_random_change_nothing(tmp_path):
    voice, rng = spoken(8.0), np.random.default_rng(0)
    late = np.maximum.accumulate(np.arange(400) * 0.02 + rng.uniform(0, 0.08, 400))
    late[0] = 0.0
    path = write_stamped(tmp_path / "a.mkv", voice, lambda n, t: late[n])
    assert np.abs(read_audio(path) - voice).max() < 1e-3


def test_a_lasting_gap_amid_jitter_becomes_silence_of_its_length_and_is_said(tmp_path):
    voice = spoken(8.0)
    path = write_stamped(tmp_path / "a.mkv", voice, lambda n, t: t - (n % 5) * 0.018 + (0.5 if n >= 200 else 0.0))
    notes = []
    heard = read_audio(path, notes=notes)
    assert len(heard) == pytest.approx(len(voice) + 8000, abs=1300)
    assert similarity(heard[:64_000], voice) > 0.99
    assert similarity(heard[-64_000:], voice[-64_000:]) > 0.99
    assert "1 holes" in notes[0]


def test_two_pauses_close_to_each_other_keep_their_lengths(tmp_path):
    voice = spoken(6.0)
    path = write_stamped(tmp_path / "a.mkv", voice, lambda n, t: t + 0.4 * (n >= 100) + 0.7 * (n >= 120))
    heard = read_audio(path)
    expected = np.concatenate([voice[:32_000], np.zeros(6400), voice[32_000:38_400], np.zeros(11_200), voice[38_400:]])
    assert len(heard) == pytest.approx(len(expected), abs=32)
    assert similarity(heard, expected) > 0.98


def test_a_clock_that_drifts_stays_within_a_picture_and_is_said(tmp_path):
    clicks = sum(click_track(60 * RATE, second * RATE) for second in range(2, 60, 3))
    path = write_stamped(tmp_path / "a.mkv", clicks, lambda n, t: t * 1.003)
    notes = []
    heard = read_audio(path, notes=notes)
    loud = np.flatnonzero(np.abs(heard) > 0.4)
    starts = loud[np.flatnonzero(np.diff(loud, prepend=-RATE) > RATE // 2)] / RATE
    np.testing.assert_allclose(starts, 1.003 * np.arange(2, 60, 3), atol=0.09)
    assert "its clock is" in notes[0]


def test_a_jump_of_an_hour_is_cut_to_a_second_and_a_pause_stays(tmp_path):
    voice = spoken(6.0)
    for jump_s, expected_s in ((2.0, 8.0), (3600.0, 7.0)):
        path = write_stamped(tmp_path / f"{jump_s}.mkv", voice, lambda n, t, jump_s=jump_s: t + jump_s * (n >= 150))
        notes = []
        heard = read_audio(path, notes=notes)
        assert len(heard) / RATE == pytest.approx(expected_s, abs=0.02)
        assert similarity(heard[-48_000:], voice[-48_000:]) > 0.99
        assert probe_audio(path).duration_s == pytest.approx(expected_s, abs=0.05)
        assert ("jump ahead by 3599.0 s" in notes[0]) == (jump_s > 10)


def test_stamps_that_begin_again_inside_one_container_are_read_on(tmp_path):
    voice = spoken(8.0)
    takes = []
    for name, start in (("a", 0), ("b", 64_000)):
        path = tmp_path / f"{name}.mkv"
        with av.open(str(path), "w", options={"live": "1"}) as container:
            stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            samples = np.round(voice[start : start + 64_000] * 32767).astype(np.int16)
            for number in range(200):
                piece = np.ascontiguousarray(samples[None, number * 320 : (number + 1) * 320])
                frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, number * 320, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        takes.append(path.read_bytes())
    path = tmp_path / "joined.mkv"
    path.write_bytes(takes[0] + takes[1][takes[1].index(b"\x1f\x43\xb6\x75") :])  # its clusters, without a header
    notes = []
    assert np.abs(read_audio(path, notes=notes) - voice).max() < 1e-3
    assert notes == ["time stamps start again 1 times in the middle; read on as one recording"]


def film_with_early_sound(path):
    return write_video(
        path,
        [2 + Fraction(i, 25) for i in range(50)],
        [gray_code_frame(i) for i in range(50)],
        waveform=click_track(64_000, 8000),
    )


def test_driving_sound_does_not_depend_on_the_picture(tmp_path):
    path = film_with_early_sound(tmp_path / "film.mkv")
    heard = read_audio(path, SoundChoice(sound_only=True))
    assert len(heard) / RATE == pytest.approx(4.0, abs=0.1)
    assert click_position(heard) == pytest.approx(8000, abs=1100)


def test_a_recordings_sound_begins_with_its_picture(tmp_path):
    heard = read_audio(film_with_early_sound(tmp_path / "film.mkv"))
    assert len(heard) / RATE == pytest.approx(2.0, abs=0.1)


def test_a_header_that_claims_1000_frames_a_second_is_not_believed(tmp_path):
    path = write_video(
        tmp_path / "a.mkv", [Fraction(i, 25) for i in range(50)], [gray_code_frame(i) for i in range(50)]
    )
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83\x84")  # DefaultDuration
    path.write_bytes(data[: at + 4] + (1_000_000).to_bytes(4, "big") + data[at + 8 :])
    assert probe_video(path).fps == pytest.approx(25, abs=0.1)
    assert [read_number(frame.rgb) for frame in read_frames(path)] == pytest.approx(list(range(50)), abs=1)


def test_six_pictures_a_second_keep_their_length(tmp_path):
    path = write_video(tmp_path / "a.mp4", [Fraction(i, 6) for i in range(24)], [gray_code_frame(i) for i in range(24)])
    assert len(list(read_frames(path))) == pytest.approx(100, abs=4)
    assert probe_video(path).fps == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("seconds", [0.039, 0.041, 0.3])
def test_very_short_sound_keeps_its_length(tmp_path, seconds):
    path = write_sound(tmp_path / "a.wav", [spoken(1.0)[: round(seconds * RATE)]], codec="pcm_s16le")
    assert len(read_audio(path)) == round(seconds * RATE)
