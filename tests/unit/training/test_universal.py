"""Universal motion: learned in rounds from several captures, kept safely, and what a fit starts from."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from m2dao.errors import CheckpointCorrupt, CheckpointUnsupported, ConfigError, InputError
from m2dao.formats import UNIVERSAL
from m2dao.identity.checkpoint import load_identity
from m2dao.identity.manifest import file_sha256
from m2dao.training import universal_fit
from m2dao.training.fit import fit
from m2dao.training.universal import TENSORS_NAME, load_universal, save_universal, shared_names
from m2dao.training.universal_fit import UniversalConfig, learn_universal
from tests.support.small_capture import make_small_capture, small_recipe

CONFIG = UniversalConfig(size=64, rounds=2, steps_per_round=12, speech_steps=40)


@pytest.fixture(scope="module")
def captures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captures")
    return [make_small_capture(folder / f"{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module", autouse=True)
def small_fits():
    """Of the size of the small captures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(universal_fit, "get_recipe", lambda name, size: small_recipe(name))
        yield


@pytest.fixture(scope="module")
def learned(captures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("universal") / "two"
    seen = []
    result = learn_universal(captures, folder, CONFIG, on_progress=lambda what, share: seen.append((what, share)))
    return folder, result, seen


def test_it_learns_from_everybody_and_says_how_far_it_is(learned, captures):
    folder, result, seen = learned
    universal = load_universal(folder)
    assert result.captures == len(universal.sources) == 2
    assert result.steps == 24
    assert all(8 < value < 60 for value in result.psnr_train_db), result.psnr_train_db
    assert result.num_bytes < 4e6
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert seen[-1][0] == "round 2 of 2"
    moved = universal.motion["facial.field.weights.0"]
    assert moved.abs().max() > 0, "fields begin at rest and must have learned to move"
    assert "facial.field.weights.3" not in universal.motion, "what the pose moves is a person's own"


def test_an_interrupted_command_ends_as_if_it_had_not_been(learned, captures, tmp_path, monkeypatch):
    learn, calls = universal_fit.Learner.learn, []

    def interrupted(self, motion, number):
        calls.append(number)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return learn(self, motion, number)

    monkeypatch.setattr(universal_fit.Learner, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn_universal(captures, tmp_path / "again", CONFIG)
    assert not (tmp_path / "again").exists()
    monkeypatch.setattr(universal_fit.Learner, "learn", learn)
    learn_universal(captures, tmp_path / "again", CONFIG)
    first, again = (load_file(folder / TENSORS_NAME) for folder in (learned[0], tmp_path / "again"))
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_a_fit_starts_from_it_and_keeps_the_rest_its_own(learned, captures, tmp_path):
    universal = load_universal(learned[0])
    recipe = replace(small_recipe(), speech_adapting_steps=1)
    fit(captures[0], tmp_path / "ball", recipe=recipe, steps=1, universal=universal)
    head = load_identity(tmp_path / "ball").head
    parameters = dict(head.named_parameters())
    for name in shared_names(head):
        step = (parameters[name] - universal.motion[name]).abs().max()
        assert step < 0.02, f"{name} is {step} away after one step"
    assert parameters["facial.field.weights.2"].abs().max() < 0.02


def test_fields_lie_on_the_same_places_of_another_face(learned):
    universal = load_universal(learned[0])
    scale, shift = torch.tensor([1.1, 0.9, 1.2]), torch.tensor([0.01, -0.02, 0.005])
    for part in ("head", "mouth"):
        found = universal.box_for(part, universal.template * scale + shift)
        torch.testing.assert_close(found, universal.boxes[part] * scale + shift, atol=1e-6, rtol=1e-5)


def test_motion_of_another_kind_of_head_is_refused(learned, captures, tmp_path):
    universal = load_universal(learned[0])
    recipe = small_recipe()
    other = replace(recipe, model=replace(recipe.model, head_sees_pose=False, embedding_size=8))
    with pytest.raises(ConfigError, match="universal motion"):
        fit(captures[0], tmp_path / "ball", recipe=other, steps=1, universal=universal)
    assert not (tmp_path / "ball").exists()


def test_one_person_is_not_everybody(captures, tmp_path):
    with pytest.raises(InputError, match="two people"):
        learn_universal(captures[:1], tmp_path / "one", CONFIG)
    with pytest.raises(InputError, match="every capture once"):
        learn_universal([captures[0], captures[0]], tmp_path / "twice", CONFIG)


def corrupted(folder, change):
    """A copy of tensors or manifest changed in one place, the hash made to fit."""
    tensors, manifest = load_file(folder / TENSORS_NAME), json.loads((folder / UNIVERSAL.manifest).read_text())
    change(tensors, manifest)
    save_file(tensors, folder / TENSORS_NAME)
    manifest["sha256"] = file_sha256(folder / TENSORS_NAME)
    (folder / UNIVERSAL.manifest).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda tensors, manifest: tensors.pop("template"), CheckpointCorrupt),
        (lambda tensors, manifest: tensors.update(template=torch.zeros(3, 3)), CheckpointCorrupt),
        (lambda tensors, manifest: tensors["template"].fill_(float("nan")), CheckpointCorrupt),
        (lambda tensors, manifest: tensors.update({"articulation.axes": torch.zeros(2, 2)}), CheckpointCorrupt),
        (lambda tensors, manifest: manifest.update(version=99), CheckpointUnsupported),
        (lambda tensors, manifest: manifest.update(format="other"), CheckpointUnsupported),
        (lambda tensors, manifest: manifest.pop("speech"), CheckpointCorrupt),
        (lambda tensors, manifest: manifest.update(speech={"surprise": 1}), CheckpointCorrupt),
    ],
)
def test_a_hostile_folder_is_refused(learned, tmp_path, change, error):
    save_universal(tmp_path / "copy", load_universal(learned[0]))
    corrupted(tmp_path / "copy", change)
    with pytest.raises(error):
        load_universal(tmp_path / "copy")


def test_altered_bytes_are_noticed_and_other_folders_are_not_overwritten(learned, tmp_path):
    universal = load_universal(learned[0])
    save_universal(tmp_path / "copy", universal)
    with (tmp_path / "copy" / TENSORS_NAME).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(CheckpointCorrupt, match="sha256"):
        load_universal(tmp_path / "copy")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("precious")
    with pytest.raises(InputError, match="other files"):
        save_universal(tmp_path / "photos", universal)
    assert (tmp_path / "photos" / "one.jpg").read_text() == "precious"
