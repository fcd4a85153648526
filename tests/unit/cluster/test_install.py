"""The install script in a clean folder, and the image around it.

What the suite has fetched already is not fetched again: the clean environment finds the packages of this one, pip may
ask no index, and the model files are copied from the cache. Compiling kernels is tests/unit/assets/test_compile.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from m2dao.assets import AssetStore, fetch_all
from tests.unit.cluster.kubelet import environment_of
from tests.unit.cluster.test_pods import PODS, SECRETS, SERVICES

ROOT = Path(__file__).parents[3]
INSTALL = ROOT / "install"
TRY = """
import cluster, m2dao
from m2dao.assets import asset_path
from serve_apps.app import build_from_env
print(m2dao.__file__, cluster.__file__, asset_path("face_landmarker"), sep="\\n")
print(build_from_env({})._bound_deployment.name)
"""


def run(*words, env=None):
    ran = subprocess.run([*map(str, words)], env=env, capture_output=True, text=True, cwd="/")  # away from the checkout
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """A folder with an empty environment, in which the script has run all but its steps that take minutes."""
    prefix = tmp_path_factory.mktemp("opt")
    run(sys.executable, "-m", "venv", "--without-pip", prefix / "venv")
    site = prefix / "venv" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (site / "packages-of-the-suite.pth").write_text(sysconfig.get_path("purelib") + "\n")
    fetch_all(progress=False)  # nothing where the suite has fetched them
    env = {"PATH": os.environ["PATH"], "HOME": str(prefix), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    env["M2DAO_ASSETS_DIR"] = str(AssetStore.from_env().folder)
    steps = ("packages", "gsplat", "assets", "environment")
    said = run(INSTALL / "install.sh", prefix, *steps, env=env)
    assert re.findall("^== (.*)$", said, re.MULTILINE) == list(steps)
    assert re.search("^gsplat: not built", said, re.MULTILINE)  # there is no CUDA build of PyTorch here
    yield prefix
    shutil.rmtree(prefix)  # it holds all model files


def variables(prefix):
    return dict(line.split("=", 1) for line in (prefix / "environment").read_text().splitlines())


def test_what_is_installed_stands_alone_and_the_application_is_built_from_it(prefix):
    spec = {**PODS["serve-cpu"], "enableServiceLinks": True}
    env = environment_of(spec, secrets=SECRETS, services=SERVICES, image=variables(prefix))
    said = run("env", "-i", *(f"{name}={value}" for name, value in env.items()), "python", "-W", "ignore", "-c", TRY)
    engine, platform, model, name = said.split()
    for path in (engine, platform, model):
        assert Path(path).is_relative_to(prefix), path
    assert name == "ingress"
    lua = prefix.glob("venv/lib/*/site-packages/cluster/state/scripts/**/*.lua")
    assert len(list(lua)) == len(list((ROOT / "cluster" / "state" / "scripts").rglob("*.lua")))


def test_commands_run_from_it_without_what_led_to_them(prefix):
    for command in ("m2dao", "m2dao-cluster", "m2dao-train", "m2dao-serve"):
        assert run("env", "-i", prefix / "venv" / "bin" / command, "--help")


def test_an_unknown_step_is_refused(tmp_path):
    ran = subprocess.run([INSTALL / "install.sh", tmp_path, "kernel"], capture_output=True, text=True)
    assert ran.returncode == 2
    assert "unknown step kernel, one of system packages gsplat assets kernels environment" in ran.stderr


def test_the_image_sets_what_the_script_says_runs_its_steps_and_is_that_of_the_manifests(prefix):
    text = re.sub(r"\\\n", " ", (INSTALL / "Dockerfile").read_text())
    said = re.findall("^ENV (.*)$", text, re.MULTILINE)
    image = dict(word.split("=", 1) for line in said for word in line.split())
    expected = {name: value.replace(str(prefix), "/opt/m2dao") for name, value in variables(prefix).items()}
    assert image == {**expected, "HOME": "/tmp", "M2DAO_COMMIT": "${COMMIT}"}
    ran = " ".join(re.findall(r"install\.sh /opt/m2dao (.*)", text)).split()
    script = (INSTALL / "install.sh").read_text()
    assert ran == re.search(r"^steps=\((.*)\)$", script, re.MULTILINE).group(1).split()
    (user,) = re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)
    assert {spec["securityContext"]["runAsUser"] for spec in PODS.values()} == {int(user)}
