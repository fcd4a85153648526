"""What keeps a backup from being made is said by name, before anything is written."""

from __future__ import annotations

import json

import pytest

from cluster.cli import main
from cluster.operate.backups.backup import copy_database
from m2dao.errors import SystemFault


def test_no_backup_is_made_while_the_pepper_is_being_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("M2DAO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("M2DAO_KEY_PEPPER", "the new one")
    monkeypatch.setenv("M2DAO_KEY_PEPPER_OTHER", "the one until now")
    assert main(["backup", str(tmp_path / "monday"), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"] == "invalid-config"
    assert "M2DAO_KEY_PEPPER_OTHER" in answer["detail"]
    assert not (tmp_path / "monday").exists()


@pytest.mark.parametrize("content", [None, b"this is no database, but it is long enough to look like one" * 40])
def test_a_database_that_is_not_there_or_damaged_is_named(tmp_path, content):
    source = tmp_path / "mlflow.db"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(SystemFault, match="mlflow.db"):
        copy_database(source, tmp_path / "copy.db")
