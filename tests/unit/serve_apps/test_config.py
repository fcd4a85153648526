"""The limits of the API: checked, round-tripped, documented."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from m2dao.errors import ConfigError
from serve_apps.config import ServeConfig, env_name

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_settings_come_from_the_environment_and_go_back():
    config = ServeConfig.from_env({"M2DAO_SERVE_LEASE_S": "7.5", "M2DAO_SERVE_MAX_REPLICAS": "9", "PATH": "/bin"})
    assert (config.lease_s, config.max_replicas) == (7.5, 9)
    assert ServeConfig.from_env(config.to_env()) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE_S", "soon"), ("LEASE_S", "0"), ("LEASE_S", "nan"), ("MAX_REPLICAS", "2.5"), ("MAX_REPLICAS", "0")],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"M2DAO_SERVE_{name}"):
        ServeConfig.from_env({f"M2DAO_SERVE_{name}": value})


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ConfigError, match="M2DAO_SERVE_LEASE_SECONDS"):
        ServeConfig.from_env({"M2DAO_SERVE_LEASE_SECONDS": "5"})


def test_replica_bounds_must_agree():
    with pytest.raises(ConfigError, match="at least 5"):
        ServeConfig(min_replicas=5, max_replicas=4)


def test_every_setting_is_documented_with_its_default():
    table = dict(re.findall(r"^\| `(M2DAO_SERVE_\w+)` \| ([^|]+) \|", DOCS.read_text(), re.MULTILINE))
    expected = {env_name(field): f"{field.default:g}" for field in dataclasses.fields(ServeConfig)}
    assert {name: default.strip() for name, default in table.items()} == expected
