"""The commit that versions name: of the image, else of the repository."""

from __future__ import annotations

import subprocess

from cluster.control import lineage
from cluster.environment import COMMIT_VARIABLE

commit = lineage.running_commit.__wrapped__  # as it is before anybody has asked


def test_an_image_names_its_commit(monkeypatch):
    monkeypatch.setenv(COMMIT_VARIABLE, "abc123")
    assert commit() == "abc123"


def test_a_repository_is_asked_and_a_folder_without_one_names_none(monkeypatch, tmp_path):
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    monkeypatch.setattr(lineage, "_ROOT", tmp_path)
    assert commit() == ""
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert commit() == ""
    (tmp_path / ".git").unlink()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(tmp_path), *who, "commit", "-q", "--allow-empty", "-m", "a"], check=True)
    assert len(commit()) == 40
