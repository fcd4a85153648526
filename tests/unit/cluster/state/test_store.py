"""What the state store needs to be told."""

from __future__ import annotations

import pytest

from cluster.settings import Settings
from cluster.state.store import StateStore
from m2dao.errors import ConfigError


@pytest.mark.parametrize("pepper", [{}, {"M2DAO_KEY_PEPPER": ""}])
def test_no_keys_are_made_or_looked_up_without_a_pepper(pepper):
    settings = Settings.from_env({"M2DAO_REDIS_URL": "redis://127.0.0.1:1", **pepper}, use_stack=False)
    with pytest.raises(ConfigError, match="M2DAO_KEY_PEPPER"):
        StateStore(settings)
