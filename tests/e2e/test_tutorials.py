"""The tutorials as a newcomer follows them: every block marked ``bash run``, in order, with small budgets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2dao.media.video import probe_video
from tests.unit.docs.markdown import code_blocks

# What a test may not take the time for; each must be in the tutorial, so that both stay the same but for it.
SMALL = {"--seconds 20": "--seconds 6 --size 256", "--size 256 --minutes 4": "--size 64 --steps 60"}
PREPARED_SMALL = {"--out captures/mira": "--out captures/mira --size 256"}


def commands(page: str, budgets: dict[str, str]) -> list[str]:
    """The lines of a tutorial's marked blocks, with other budgets."""
    text = "".join(block for block in code_blocks(Path(page), "bash run"))
    for written, small in budgets.items():
        assert written in text, f"{page} no longer says {written}"
        text = text.replace(written, small)
    return text.replace("\\\n", " ").splitlines()


def follow(lines: list[str], home: Path) -> list[str]:
    """Run the lines as a shell would; returns what each printed on standard output."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = []
    for line in lines:
        done = subprocess.run(
            line, shell=True, cwd=home, env={**os.environ, "PATH": path}, text=True, capture_output=True
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
        said.append(done.stdout)
    return said


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("newcomer")


@pytest.fixture(scope="module")
def first_identity(home) -> list[str]:
    return follow(commands("docs/start/first-identity.md", SMALL | PREPARED_SMALL), home)


def test_first_identity_ends_with_a_film_and_its_figures(home, first_identity):
    film = probe_video(home / "mira-speaks.mp4")
    assert (film.width, film.height) == (64, 64)
    assert json.loads(first_identity[-1])["psnr_db"] > 15
    assert (home / "captures/mira/contact_sheet.jpg").exists()
    assert (home / "identities/mira.fit/strip.jpg").exists()


@pytest.mark.usefixtures("first_identity")
def test_filming_ends_with_a_verdict_and_the_files_to_look_at(home):
    report = json.loads(follow(commands("docs/start/filming.md", {}), home)[-1])
    assert report["verdict"] in ("good", "usable")
    assert {"contact_sheet.jpg", "plots.png"} <= {path.name for path in (home / "captures/mira").iterdir()}
