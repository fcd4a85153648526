"""The command line of the API, as far as it needs no cluster."""

from __future__ import annotations

import json

import pytest

from serve_apps.api.ingress import create_api
from serve_apps.cli import main


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("M2DAO_HOME", str(tmp_path))
    for name in ("M2DAO_REDIS_URL", "M2DAO_S3_ENDPOINT", "M2DAO_MLFLOW_URL", "M2DAO_RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("arguments", [["openapi"], ["openapi", "--json"]])
def test_the_description_is_printed_as_one_object(capsys, arguments):
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == create_api(None).openapi()


def test_deploying_without_a_stack_says_what_is_missing(capsys):
    assert main(["deploy", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"] == "invalid-config"
    assert "M2DAO_REDIS_URL" in err
    assert "m2dao-cluster up" in err


def test_a_misspelt_setting_stops_a_deployment(capsys, monkeypatch):
    monkeypatch.setenv("M2DAO_SERVE_LEASE", "5")
    assert main(["deploy"]) == 2
    assert "M2DAO_SERVE_LEASE" in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "m2dao-serve deploy" in capsys.readouterr().out


def test_a_wrong_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2
