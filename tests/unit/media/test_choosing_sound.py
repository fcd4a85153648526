"""Which sound track and which channels are heard."""

import numpy as np
import pytest

from m2dao.errors import MediaError
from m2dao.media import audio
from m2dao.media.audio import SoundChoice, probe_audio, read_audio, read_both, read_sent, sent_format
from tests.support.media.sounds import hide_codec, similarity, spoken, tone, wav_bytes, write_sound

VOICE = spoken(4.0)
SILENCE = np.zeros_like(VOICE)


def of_channels(path, *channels, rate=16_000):
    path.write_bytes(wav_bytes(np.stack(channels), rate))
    return path


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_track_in_a_codec_that_nobody_decodes_is_passed_over(tmp_path, hidden):
    path = write_sound(tmp_path / "phone.mov", [VOICE, VOICE])
    hide_codec(path, hidden)
    notes = []
    assert similarity(read_audio(path, notes=notes), VOICE) > 0.95
    assert probe_audio(path).index == 1 - hidden
    assert f"not used: track {hidden}" in notes[0]


def test_a_file_of_undecodable_tracks_only_is_refused_and_names_them(tmp_path):
    path = write_sound(tmp_path / "phone.mov", [VOICE])
    hide_codec(path, 0)
    with pytest.raises(MediaError, match=r"can be decoded.*track 0.*nobody here decodes"):
        read_audio(path)


def test_the_track_with_the_voice_is_heard_and_the_silent_one_is_named(tmp_path):
    path = write_sound(tmp_path / "meeting.mkv", [SILENCE, VOICE], titles=("Desktop", "Mic"))
    notes = []
    assert similarity(read_audio(path, notes=notes), VOICE) > 0.95
    assert probe_audio(path).index == 1
    assert "'Mic'" in notes[0]
    assert "'Desktop'), aac is silent" in notes[0]


def test_a_track_of_music_gives_way_to_one_with_a_voice(tmp_path):
    path = write_sound(tmp_path / "game.mkv", [tone(4.0) + tone(4.0, hz=554), VOICE])
    assert probe_audio(path).index == 1


def test_of_two_voices_the_first_is_heard(tmp_path):
    assert probe_audio(write_sound(tmp_path / "two.mkv", [VOICE, spoken(4.0, seed=1)])).index == 0


def test_a_track_can_be_asked_for(tmp_path):
    path = write_sound(tmp_path / "meeting.mkv", [SILENCE, VOICE])
    assert np.abs(read_audio(path, SoundChoice(track=0))).max() < 1e-3
    with pytest.raises(MediaError, match="number 7.*tracks 0, 1"):
        read_audio(path, SoundChoice(track=7))


def test_channels_of_opposite_phase_do_not_cancel(tmp_path):
    path = of_channels(tmp_path / "balanced.wav", VOICE, -VOICE)
    notes = []
    assert similarity(read_audio(path, notes=notes), VOICE) > 0.99
    assert "opposite phase" in notes[0]
    assert probe_audio(path).channel in (0, 1)


def test_opposite_phase_at_different_levels_does_not_cancel_either(tmp_path):
    heard = read_audio(of_channels(tmp_path / "balanced.wav", 0.8 * VOICE, -VOICE))
    assert np.abs(heard).max() > 0.9 * np.abs(VOICE).max()


@pytest.mark.parametrize("num_channels", [3, 4, 10, 12, 60])
def test_a_voice_on_one_of_many_channels_is_heard_at_full_level(tmp_path, num_channels):
    channels = [SILENCE] * num_channels
    channels[2] = VOICE
    path = of_channels(tmp_path / "many.wav", *channels)
    heard = read_audio(path)
    assert similarity(heard, VOICE) > 0.99
    assert np.abs(heard).max() == pytest.approx(np.abs(VOICE).max(), rel=0.05)
    assert probe_audio(path).channel == 2


def test_a_voice_beside_hum_is_heard_without_the_hum(tmp_path):
    path = of_channels(tmp_path / "lavalier.wav", 0.3 * VOICE, tone(4.0, hz=50.0, level=0.9))
    assert similarity(read_audio(path), VOICE) > 0.98
    assert probe_audio(path).channel == 0


def test_a_voice_on_the_centre_of_six_channels_is_heard(tmp_path):
    channels = [SILENCE, SILENCE, VOICE, SILENCE, SILENCE, SILENCE]
    assert similarity(read_audio(of_channels(tmp_path / "film.wav", *channels)), VOICE) > 0.99


def test_two_people_on_two_channels_are_both_heard(tmp_path):
    other = spoken(4.0, seed=3)
    path = of_channels(tmp_path / "interview.wav", VOICE, other)
    assert similarity(read_audio(path), VOICE + other) > 0.95
    assert probe_audio(path).channel is None


def test_equal_channels_are_mixed_without_a_word(tmp_path):
    path = of_channels(tmp_path / "stereo.wav", VOICE, VOICE)
    notes = []
    assert np.abs(read_audio(path, notes=notes) - VOICE).max() < 1e-3
    assert notes == []


def test_what_is_sent_on_keeps_rate_and_channels_while_one_channel_is_heard(tmp_path):
    voice = spoken(2.0, 48_000)
    whistle = tone(2.0, 48_000, hz=10_000.0)
    path = of_channels(tmp_path / "music.wav", voice, whistle, rate=48_000)
    sent = sent_format(path)
    samples = np.concatenate(list(read_sent(path)), axis=1)
    assert (sent.sample_rate, sent.num_channels) == (48_000, 2)
    assert samples.shape == (2, 96_000)
    np.testing.assert_allclose(samples[1], whistle, atol=1e-3)
    assert probe_audio(path).channel == 0


@pytest.mark.parametrize(
    ("rate", "num_channels", "expected"),
    [(6000, 1, (8000, 1)), (44_100, 2, (44_100, 2)), (96_000, 2, (48_000, 2)), (16_000, 6, (16_000, 2))],
)
def test_what_is_sent_on_has_at_most_48_khz_and_two_channels(tmp_path, rate, num_channels, expected):
    path = of_channels(tmp_path / "a.wav", *[tone(1.0, rate, hz=300.0)] * num_channels, rate=rate)
    sent = sent_format(path)
    samples = np.concatenate(list(read_sent(path)), axis=1)
    assert (sent.sample_rate, sent.num_channels) == expected
    assert samples.shape == (expected[1], pytest.approx(expected[0], abs=2))


@pytest.mark.parametrize(("rate", "num_channels"), [(16_000, 1), (44_100, 1), (48_000, 2), (16_000, 6), (6000, 1)])
def test_what_is_heard_and_what_is_sent_on_can_be_read_in_one_go(tmp_path, rate, num_channels, monkeypatch):
    channels = [spoken(2.5, 48_000)[: round(2.5 * rate)], *[tone(2.5, rate, hz=900.0)] * (num_channels - 1)]
    path = of_channels(tmp_path / "a.wav", *channels, rate=rate)
    heard, sent = read_audio(path, SoundChoice(sound_only=True)), np.concatenate(list(read_sent(path)), axis=1)
    num_decoded, decode = [], audio.decode_sound
    monkeypatch.setattr(audio, "decode_sound", lambda *args: num_decoded.append(1) or decode(*args))
    pairs = list(read_both(path))
    np.testing.assert_allclose(np.concatenate([pair[0] for pair in pairs]), heard, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([pair[1] for pair in pairs], axis=1), sent, atol=1e-5)
    assert len(num_decoded) == 1
