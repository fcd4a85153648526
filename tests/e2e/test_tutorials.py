"""The tutorials as a newcomer follows them: every block marked ``bash run``, with small budgets."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from m2dao.media.video import probe_video
from tests.unit.docs.markdown import code_blocks

# What a test may not take the time for; each must be in the tutorial, so that both stay the same but for it.
FIRST_IDENTITY = {
    "--seconds 20": "--seconds 6 --size 256",
    "--out captures/mira": "--out captures/mira --size 256",
    "--size 256 --minutes 4": "--size 64 --steps 60",
}


def script(page: str, changes: Mapping[str, str]) -> str:
    """A tutorial's marked blocks with other budgets."""
    text = "".join(block for block in code_blocks(Path(page), "bash run"))
    for written, ours in changes.items():
        assert written in text, f"{page} no longer says {written}"
        text = text.replace(written, ours)
    return text


def follow(text: str, home: Path, env: Mapping[str, str] | None = None) -> str:
    """Run the text as one shell, to the first command that fails; returns standard output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=home,
        env={**os.environ, **(env or {}), "PATH": path},
        text=True,
        capture_output=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("newcomer")


@pytest.fixture(scope="module")
def first_identity(home) -> str:
    return follow(script("docs/start/first-identity.md", FIRST_IDENTITY), home)


@pytest.fixture
def platform() -> Iterator[dict[str, str]]:
    """Variables that give the tutorial a stack and a port of its own; what it starts is stopped."""
    stack_home = tempfile.mkdtemp(prefix="m2dao-")  # a short path, because sockets live under it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"M2DAO_HOME": stack_home, "M2DAO_API_PORT": str(port), "M2DAO_RAY_NUM_CPUS": "2"}
    try:
        yield env
    finally:
        follow("m2dao-cluster down", Path(stack_home), env)
        shutil.rmtree(stack_home, ignore_errors=True)


def test_first_identity_ends_with_a_film_and_its_figures(home, first_identity):
    film = probe_video(home / "mira-speaks.mp4")
    assert (film.width, film.height) == (64, 64)
    assert json.loads(first_identity.splitlines()[-1])["psnr_db"] > 15
    assert (home / "captures/mira/contact_sheet.jpg").exists()
    assert (home / "identities/mira.fit/strip.jpg").exists()


@pytest.mark.usefixtures("first_identity")
def test_filming_ends_with_a_verdict_and_the_files_to_look_at(home):
    report = json.loads(follow(script("docs/start/filming.md", {}), home))
    assert report["verdict"] in ("good", "usable")
    assert {"contact_sheet.jpg", "plots.png"} <= {path.name for path in (home / "captures/mira").iterdir()}


@pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="the tutorial speaks HTTP by curl"
)  # continuous integration installs curl and must not skip
@pytest.mark.usefixtures("first_identity")
def test_first_service_ends_with_a_film_from_the_api(home, platform):
    changes = {
        "make up": f"m2dao-cluster up --owner-pid {os.getpid()}; m2dao-serve deploy",
        "make down": "m2dao-cluster down",
        "127.0.0.1:8000": f"127.0.0.1:{platform['M2DAO_API_PORT']}",
        "--size 256 --minutes 4": "--size 64 --steps 60 --capture-size 256",
        "identity=mira ": "identity=mira@1 ",  # so small a fit need not pass the gate
    }
    (home / "mira-speaks.mp4").unlink()
    follow(script("docs/start/first-service.md", changes), home, platform)
    assert probe_video(home / "mira-speaks.mp4").width == 64
