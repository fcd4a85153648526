"""An identity checkpoint is whole or refused."""

import json

import numpy as np
import pytest
import torch

from m2dao.errors import CheckpointCorrupt, CheckpointUnsupported, InputError
from m2dao.identity import Talker, verify_identity
from m2dao.identity.checkpoint import load_identity, save_identity
from m2dao.identity.manifest import FILE_NAMES
from tests.support.tiny_identity import make_tiny_identity


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna")


@pytest.fixture()
def copy(identity, tmp_path):
    import shutil

    return shutil.copytree(identity, tmp_path / "copy")


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
        ({"model": {"field": "pickle"}}, InputError),
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
