"""The installed command `m2dao-client` against the real API, as a person and a script use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.serve import renderers, speech

PROGRAM = Path(sys.executable).with_name("m2dao-client")


@pytest.fixture
def call(own):
    """Runs the command with the tenant's key; returns exit code, standard output and standard error."""

    def run(*words: object, key: str = own.key) -> tuple[int, str, str]:
        env = {**os.environ, "M2DAO_API_URL": str(own.client.base_url), "M2DAO_API_KEY": key}
        done = subprocess.run([PROGRAM, *map(str, words)], env=env, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return run


def test_a_film_is_uploaded_and_shown(call, keeper, video):
    code, out, err = call("upload", video)
    assert (code, out.split()[1:]) == (0, ["is", "ready"]), err
    assert err.startswith("upload 100%")  # no terminal: lines
    name = out.split()[0]
    assert json.loads(call("show", name, "--json")[1])["state"] == "ready"
    head, row = call("list", "recordings")[1].splitlines()
    assert head.split()[0] == "id"
    assert row.split()[:3] == [name, "ready", video.name]


def test_an_identity_speaks(api, call, tmp_path):
    audio = tmp_path / "speech.wav"
    audio.write_bytes(speech(0.5))
    with renderers(api.platform.settings, tmp_path / "disk"):
        code, out, err = call("say", "anna", audio, "--out", tmp_path / "anna.mp4", "--json")
    assert code == 0, err
    assert json.loads(out)["result"]["num_bytes"] == (tmp_path / "anna.mp4").stat().st_size
    assert "download 100%" in err


def test_a_version_is_promoted_and_rolled_back(api, own, call, keeper, folder):
    second = api.register(own.tenant, folder, promote=False).version
    code, out, _ = call("promote", "anna", second, "--force")
    assert (code, out) == (0, f"anna@{second} is the champion; before: {second - 1}\n")
    assert json.loads(call("rollback", "anna", "--json")[1])["version"] == second - 1
    rows = call("list", "versions", "--identity", "anna")[1].splitlines()
    assert [row.split()[0] for row in rows] == ["version", str(second), str(second - 1)]


def test_what_the_api_refuses_ends_with_code_2_and_says_why(call):
    code, out, err = call("show", "nobody", "--json")
    assert (code, json.loads(out)["error"]) == (2, "unknown-identity")
    assert err.startswith("m2dao-client: There is no such identity")
    assert call("list", "fits", key="wrong")[0] == 2


def test_a_service_that_does_not_answer_ends_with_code_1(call):
    code, out, _ = call("list", "fits", "--json", "--url", "http://127.0.0.1:9")
    assert (code, json.loads(out)["error"]) == (1, "ConnectionFailed")
