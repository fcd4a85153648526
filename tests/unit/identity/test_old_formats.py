"""Identities outlive a change of their format: those of the format before are read as well."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from m2dao.formats import IDENTITY
from m2dao.identity import Talker
from tests import support

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
