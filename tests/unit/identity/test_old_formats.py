"""Identities outlive a change of their format: those of the format before are read as well."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from m2dao.files import file_sha256
from m2dao.formats import IDENTITY
from m2dao.identity import Talker
from m2dao.identity.checkpoint import load_identity, save_identity
from m2dao.identity.manifest import SIGNALS_NAME
from tests import support
from tests.support.tiny_identity import make_tiny_identity

STORED = Path(support.__file__).parent / "identities"
FIRST = 4  # those before it name audio features that nothing computes any more


@pytest.mark.parametrize("version", range(max(FIRST, IDENTITY.version - 1), IDENTITY.version + 1))
def test_an_identity_that_was_stored_in_this_format_or_the_one_before_speaks(version, tmp_path):
    """When a format's number rises, store an identity of the new one beside this, and read the old one."""
    with tarfile.open(STORED / f"identity-{version}.tar.xz") as stored:
        stored.extractall(tmp_path, filter="data")
    talker = Talker.load(tmp_path)
    frames = list(talker.frames(np.zeros(16_000, np.float32)))
    assert (len(frames), frames[0].shape) == (25, (16, 16, 3))
    assert frames[0].std() > 0


def test_an_identity_of_version_4_is_cut_where_the_head_leaps_and_is_stored_in_the_new_format(tmp_path):
    folder = make_tiny_identity(tmp_path / "old")
    signals = load_file(folder / SIGNALS_NAME)
    del signals["cuts"]
    signals["poses"][70:] += 0.3
    save_file(signals, folder / SIGNALS_NAME)
    manifest = json.loads((folder / IDENTITY.manifest).read_text())
    size, sha256 = (folder / SIGNALS_NAME).stat().st_size, file_sha256(folder / SIGNALS_NAME)
    manifest["files"][SIGNALS_NAME] = {"sha256": sha256, "bytes": size}
    (folder / IDENTITY.manifest).write_text(json.dumps({**manifest, "version": 4}))
    stored = load_identity(folder)
    assert stored.signals["cuts"].tolist() == [70]
    assert save_identity(tmp_path / "new", stored).files[SIGNALS_NAME]["sha256"] != sha256
    assert json.loads((tmp_path / "new" / IDENTITY.manifest).read_text())["version"] == IDENTITY.version
    assert load_identity(tmp_path / "new").signals["cuts"].tolist() == [70]
