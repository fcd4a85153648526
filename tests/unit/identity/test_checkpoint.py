"""An identity checkpoint is whole or refused."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from m2dao.errors import CheckpointCorrupt, CheckpointUnsupported, ConfigError, FitDiverged, InputError
from m2dao.identity import Talker, verify_identity
from m2dao.identity.checkpoint import load_identity, save_identity
from m2dao.identity.manifest import FILE_NAMES, file_sha256
from m2dao.identity.tensors import save_tensors
from tests.support.tiny_identity import make_tiny_identity


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna")


@pytest.fixture
def copy(identity, tmp_path):
    import shutil

    return shutil.copytree(identity, tmp_path / "copy")


def test_what_cannot_be_written_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_tensors({"a": torch.zeros(3)}, tmp_path / "nowhere" / "a.safetensors")


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_flipped_byte_is_found_and_the_file_named(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=f"{name}.*sha256"):
        verify_identity(copy)


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(CheckpointCorrupt, match=name):
        Talker.load(copy)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 99}, CheckpointUnsupported),
        ({"format": "other"}, CheckpointUnsupported),
        ({"size": 10**9}, CheckpointCorrupt),
        ({"K": [[1]]}, CheckpointCorrupt),
        ({"files": {}}, CheckpointCorrupt),
        ({"model": {"field": "pickle"}}, ConfigError),
        ({"model": {"embedding_size": 17}}, CheckpointCorrupt),
        ({"speech": {"features": 3}}, CheckpointCorrupt),
        ({"surprise": 1}, CheckpointCorrupt),
    ],
)
def test_a_hostile_manifest_is_refused(copy, change, error):
    path = copy / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error):
        load_identity(copy)


def test_what_is_saved_is_what_is_loaded(identity, tmp_path):
    first = load_identity(identity)
    save_identity(tmp_path / "again", first)
    second = load_identity(tmp_path / "again")
    for name, value in first.head.state_dict().items():
        assert torch.equal(value, second.head.state_dict()[name]), name
    assert np.array_equal(first.plate, second.plate)
    assert first.manifest.files == second.manifest.files


def test_what_is_learned_is_stored_in_half_precision_and_what_is_measured_is_not(identity):
    kinds = {}
    for file in ("gaussians.safetensors", "motion.safetensors"):
        with safe_open(identity / file, "pt") as tensors:
            kinds |= {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    exact = {name for name, kind in kinds.items() if kind == "F32"}
    assert {"facial.means", "oral.means", "torso.means", "head.head_box", "head.oral.lip_probes"} <= exact
    assert kinds["facial.quats"] == kinds["torso.follow"] == kinds["head.facial.field.weights.0"] == "F16"
    learned = [kind for name, kind in kinds.items() if ".planes." in name or ".encoders." in name]
    assert len(learned) > 10
    assert set(learned) == {"F16"}
    assert all(value.dtype == torch.float32 for value in load_identity(identity).head.parameters())


def test_tensors_of_another_kind_are_refused(copy):
    path = copy / "motion.safetensors"
    tensors = load_file(path)
    save_file({name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}, path)
    manifest = json.loads((copy / "identity.json").read_text())
    manifest["files"][path.name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    (copy / "identity.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointCorrupt, match="float64"):
        load_identity(copy)


@pytest.mark.parametrize("cuts", [[0], [40, 20], [20, 20], [150], [-3]])
def test_cuts_that_are_no_rising_frames_are_refused(identity, tmp_path, cuts):
    stored = load_identity(identity)
    stored.signals["cuts"] = torch.tensor(cuts)
    save_identity(tmp_path / "odd", stored)
    with pytest.raises(CheckpointCorrupt, match=r"signals\.safetensors.*cuts"):
        load_identity(tmp_path / "odd")


def test_what_half_precision_cannot_hold_is_not_stored(identity, tmp_path):
    stored = load_identity(identity)
    stored.head.groups["facial"].raw["sh0"].data[0] = 1e6
    with pytest.raises(FitDiverged, match="facial.sh0"):
        save_identity(tmp_path / "new", stored)
    assert not list(tmp_path.iterdir())


def test_saving_never_replaces_a_folder_that_is_not_an_identity(identity, tmp_path):
    (tmp_path / "letter.txt").write_text("dear diary")
    with pytest.raises(InputError, match="other files"):
        save_identity(tmp_path, load_identity(identity))
    assert (tmp_path / "letter.txt").read_text() == "dear diary"


def test_a_failed_save_leaves_nothing_behind(identity, tmp_path, monkeypatch):
    stored = load_identity(identity)
    monkeypatch.setattr("m2dao.identity.checkpoint.file_sha256", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_identity(tmp_path / "new", stored)
    assert not list(tmp_path.iterdir())
