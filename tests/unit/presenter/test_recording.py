"""Recordings of presenters are what a capture expects of a person, and their truth is true."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from m2dao.capture.faces.signals import measure_signals
from m2dao.errors import ConfigError
from m2dao.media.audio import read_audio
from m2dao.presenter import make_recording, persons
from m2dao.presenter.people import get_person, somebody_like
from m2dao.presenter.scene import Scene
from m2dao.timeline import FRAME_RATE, SAMPLES_PER_FRAME

NAMES = persons()
# the landmark model's number for each of the truth's landmarks that names the same point of a face
TRACKED = {
    "left_eye_outer": 33, "left_eye_inner": 133, "right_eye_inner": 362, "right_eye_outer": 263, "mouth_left": 61,
    "mouth_right": 291, "upper_lip_inner": 13, "lower_lip_inner": 14, "nose_tip": 1, "chin": 152,
}  # fmt: skip


def correlation(one, other):
    return float(np.corrcoef(one, other)[0, 1])


def landmarks_of(tracks):
    return np.stack([face.landmarks for face in tracks]), np.stack([face.blendshapes for face in tracks])


def test_there_are_two_people():
    assert len(NAMES) >= 2
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_tracker_finds_exactly_one_face_in_every_frame(tracked, name):
    missed = [i for i, face in enumerate(tracked[name]) if face is None or face.score < 0.9]
    assert missed == []
    assert {face.num_faces for face in tracked[name] if face.num_faces is not None} == {1}


@pytest.mark.parametrize("name", NAMES)
def test_the_tracker_sees_eyes_lips_and_nose_where_they_were_drawn(filmed, tracked, name):
    seen, _ = landmarks_of(tracked[name])
    truth = filmed[name].truth["landmarks"]
    columns = [filmed[name].document["landmark_names"].index(key) for key in TRACKED]
    error = np.linalg.norm(seen[:, list(TRACKED.values()), :2] - truth[:, columns], axis=-1).mean(0)
    eye_distance = np.linalg.norm(truth[:, 0] - truth[:, 3], axis=-1).mean()
    assert error.max() < 0.09 * eye_distance, dict(zip(TRACKED, error.round(2), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_measured_lip_opening_follows_the_truth(filmed, tracked, name):
    signals = measure_signals(*landmarks_of(tracked[name]))
    truth = filmed[name].truth["lip_opening"]
    assert correlation(signals.lip_opening, truth) > 0.9
    assert np.abs(signals.lip_opening - truth).mean() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_measured_blinks_follow_the_truth(filmed, tracked, name):
    signals = measure_signals(*landmarks_of(tracked[name]))
    assert correlation(signals.blink.mean(1), filmed[name].truth["blink"].mean(1)) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_has_one_row_per_frame(filmed, name):
    film = filmed[name]
    num_frames = film.result.num_frames
    assert num_frames == 100
    assert len(film.frames) == num_frames
    shapes = {key: value.shape for key, value in film.truth.items()}
    assert shapes["viewmats"] == (num_frames, 4, 4)
    assert shapes["K"] == (3, 3)
    assert shapes["lip_opening"] == shapes["lip_width"] == shapes["closed"] == shapes["silent"] == (num_frames,)
    assert shapes["blink"] == (num_frames, 2)
    assert shapes["landmarks"] == (num_frames, len(Scene.LANDMARKS), 2)
    assert shapes["controls"] == (num_frames, len(film.document["control_names"]))
    assert set(film.document["keys"]) == set(film.truth)
    assert all(np.isfinite(value).all() for value in film.truth.values())


@pytest.mark.parametrize("name", NAMES)
def test_sound_is_exactly_as_long_as_the_pictures_and_is_speech(filmed, name):
    waveform = read_audio(filmed[name].result.video)
    expected = filmed[name].result.num_frames * SAMPLES_PER_FRAME
    assert abs(len(waveform) - expected) <= 2048  # an AAC block is 1024 samples
    assert np.abs(waveform[:4000]).max() < 0.02 < np.sqrt((waveform**2).mean())  # silent lead-in, then speech


@pytest.mark.parametrize("name", NAMES)
def test_lips_are_closed_in_silence_and_on_bilabials_and_open_otherwise(filmed, name):
    truth = filmed[name].truth
    closed, silent = truth["closed"] > 0, truth["silent"] > 0
    assert closed.sum() >= 4
    assert silent.sum() >= 3
    assert truth["lip_opening"][closed].max() < 0.012
    assert truth["lip_opening"][silent].max() < 0.012
    assert np.percentile(truth["lip_opening"], 90) > 0.06


@pytest.mark.parametrize("name", NAMES)
def test_lips_look_closed_on_bilabials(filmed, tracked, name):
    measured = measure_signals(*landmarks_of(tracked[name])).lip_opening
    closed = filmed[name].truth["closed"] > 0
    assert np.median(measured[closed]) < 0.35 * np.percentile(measured, 90)


@pytest.mark.parametrize("name", NAMES)
def test_eyes_blink_and_open_again(filmed, name):
    blink = filmed[name].truth["blink"]
    assert blink.max() > 0.95
    assert np.median(blink) < 0.15
    assert np.count_nonzero(np.diff((blink[:, 0] > 0.5).astype(int)) == 1) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_heads_turn_and_nod_within_reason_and_without_jumps(filmed, name):
    rotations = filmed[name].truth["viewmats"][:, :3, :3].astype(np.float64)
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-5)
    assert np.allclose(np.linalg.det(rotations), 1.0, atol=1e-5)
    yaw = np.degrees(np.arctan2(-rotations[:, 0, 2], rotations[:, 2, 2]))
    assert np.ptp(yaw) > 3.0
    assert np.abs(yaw).max() < 15.0
    step = np.degrees(np.arccos(np.clip((np.einsum("tij,tij->t", rotations[1:], rotations[:-1]) - 1) / 2, -1, 1)))
    assert step.max() < 2.5


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_soft_disjoint_and_where_their_regions_are(filmed, name):
    film = filmed[name]
    masks = film.truth["masks"]
    assert masks.shape[1:] == (film.result.size, film.result.size, 4)
    assert masks.astype(int).sum(-1).max() <= 255
    assert ((masks > 10) & (masks < 245)).any(axis=(1, 2)).all()  # every region has soft edges in every frame
    names = film.document["landmark_names"]
    for mask, frame in zip(masks, film.truth["mask_frames"], strict=True):
        x, y = film.truth["landmarks"][frame].T
        at = {key: mask[int(y[i]), int(x[i])] for i, key in enumerate(names)}
        assert at["nose_tip"][0] > 250
        lip = names.index("lower_lip_inner")
        assert mask[int(y[lip]) + 3, int(x[lip]), 1] > 200
        assert mask[5, 5].sum() == 0
        assert mask[-3, film.result.size // 2, 3] > 250
        assert (mask[..., 2] > 128).sum() > 0.02 * mask.shape[0] ** 2


@pytest.mark.parametrize("name", NAMES)
def test_the_backdrop_is_what_shows_where_nobody_is(filmed, name):
    film = filmed[name]
    frame = film.truth["mask_frames"][0]
    empty = film.truth["masks"][0].sum(-1) == 0
    difference = np.abs(film.frames[frame].astype(int) - film.truth["backdrop"].astype(int))[empty]
    assert difference.mean() < 3.0
    assert film.truth["backdrop"].std(axis=(0, 1)).min() > 8.0  # not a plain wall


def test_two_presenters_differ_in_face_voice_motion_and_place(filmed):
    one, other = (filmed[name] for name in NAMES[:2])
    assert np.abs(one.truth["backdrop"].astype(int) - other.truth["backdrop"].astype(int)).mean() > 20
    skins = []
    for film in (one, other):
        mask = film.truth["masks"][0][..., 0] > 250
        skins.append(film.frames[film.truth["mask_frames"][0]][mask].mean(0))
    assert np.linalg.norm(skins[0] - skins[1]) > 40
    assert abs(correlation(one.truth["viewmats"][:, 0, 2], other.truth["viewmats"][:, 0, 2])) < 0.95
    assert not np.array_equal(one.truth["blink"], other.truth["blink"])


def test_the_same_seed_gives_the_same_recording_and_another_seed_another(tmp_path):
    made = {}
    for key, seed in (("a", 3), ("b", 3), ("c", 4)):
        result = make_recording(tmp_path / key, person=NAMES[0], seconds=1, size=64, seed=seed)
        made[key] = (result.video.read_bytes(), result.truth.read_bytes())
    assert made["a"] == made["b"]
    assert made["a"][0] != made["c"][0]
    assert made["a"][1] != made["c"][1]


def test_people_of_other_looks_differ_and_keep_voice_and_style():
    person = get_person(NAMES[0])
    looks = [somebody_like(person, seed) for seed in range(1, 6)]
    assert somebody_like(person, 3) == looks[2]
    assert len({(one.skin, one.hair, one.cloth, one.jaw_width) for one in [person, *looks]}) == 6
    assert {(one.name, one.voice, one.sentence, one.hair_style) for one in looks} == {
        (person.name, person.voice, person.sentence, person.hair_style)
    }


def test_a_sentence_of_ones_own_is_said(tmp_path):
    result = make_recording(tmp_path, person=NAMES[1], seconds=1.2, size=64, sentence="Papa.")
    document = json.loads(result.truth_description.read_text(encoding="utf-8"))
    assert document["sentence"] == "Papa."
    assert result.num_frames == 1.2 * FRAME_RATE
    assert [phone[0] for phone in document["phones"]].count("p") == 2
    truth = load_file(result.truth)
    assert truth["lip_opening"].max() > 0.05


def test_progress_rises_to_one(filmed):
    for film in filmed.values():
        assert film.progress == sorted(film.progress)
        assert film.progress[-1] == 1.0
        assert len(film.progress) == film.result.num_frames


@pytest.mark.parametrize(
    ("change", "thing"),
    [({"person": "nobody"}, "nobody"), ({"seconds": 0.2}, "seconds"), ({"size": 33}, "size"), ({"size": 4096}, "size")],
)
def test_arguments_out_of_range_are_refused_by_name(tmp_path, change, thing):
    with pytest.raises(ConfigError, match=thing):
        make_recording(tmp_path, **{"person": NAMES[0], "seconds": 1, "size": 64, **change})
    assert list(tmp_path.iterdir()) == []
