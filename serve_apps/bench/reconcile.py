"""How late the state store learns of what people change in the model registry, by its size."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

from cluster.folders import put_folder
from cluster.ids import FitId, IdentityName, TenantId
from cluster.mlflow_link import MlflowLink
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.stack.stack import Stack
from cluster.state.champions import Champion
from cluster.state.versions import VersionFacts
from m2dao.errors import ServiceError
from serve_apps.bench.engine import SMALL, make_identity
from serve_apps.bench.site import Say

STACK = ("redis", "s3", "mlflow")  # the keeper comes when there is something to keep
_TENANT = TenantId("people")
_TABLES = ("registered_models", "model_versions", "model_version_tags", "registered_model_aliases")
_AT_ONCE = 10  # identities that people change in the same moment
_LATEST_S = 300.0


def measure_reconcile(
    settings: Settings, stack: Stack, *, num_identities: int, num_changes: int, say: Say
) -> dict[str, Any]:
    """Set aliases with MLflow's own client, at any moment, until Redis knows of each.

    The identities are registered by copying the rows of one in MLflow's database, and taken over in Redis: ten thousand
    requests would take an hour, and are not what is measured.
    """
    platform, client = Platform(settings), MlflowLink(settings.require("mlflow.url")).client
    began = time.monotonic()
    names = _register(platform, client, settings.home / "mlflow" / "mlflow.db", num_identities)
    say(f"registered {num_identities} identities in {time.monotonic() - began:.0f} s")
    stack.up(services=(*STACK, "keeper"), progress=say)  # those that run are left alone
    _noticed(platform, client, names[:1])  # the keeper has the seat, and has imported what it needs
    chance, left = random.Random(0), names[1:]
    noticed_s: list[float] = []
    while len(noticed_s) < num_changes and left:
        time.sleep(chance.uniform(0, 3))  # people come at any moment of the keeper's round
        chosen = [left.pop(chance.randrange(len(left))) for _ in range(min(_AT_ONCE, len(left)))]
        noticed_s += _noticed(platform, client, chosen)
        latest_s = max(noticed_s[-len(chosen) :])
        say(f"{len(noticed_s)} changes, the last {len(chosen)} noticed after up to {latest_s:.1f} s")
    return {
        "num_identities": num_identities,
        "num_changes": len(noticed_s),
        "noticed_p50_s": round(statistics.median(noticed_s), 2),
        "noticed_max_s": round(max(noticed_s), 2),
    }


def _register(platform: Platform, client: Any, database: Path, num_identities: int) -> list[IdentityName]:
    """Identities of two versions, the first of them the champion, in MLflow and in Redis."""
    names = [IdentityName(f"p{number}") for number in range(num_identities)]
    first = f"{_TENANT}.{names[0]}"
    client.create_registered_model(first)
    folder = make_identity(database.parent / "specimen", SMALL)
    for number in (1, 2):
        client.create_model_version(first, f"s3://people/{names[0]}", tags={"state": "ready"}, await_creation_for=0)
        files = put_folder(platform.store, f"{_TENANT}/identities/{names[0]}/{number}/", folder)
    client.set_registered_model_alias(first, "champion", "1")
    client.set_registered_model_alias(first, "challenger", "2")
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for table in _TABLES:
            _copy(connection, table, first, [f"{_TENANT}.{name}" for name in names[1:]])
    platform.state.accounts.create_tenant(_TENANT)
    platform.state.champions.set_imported()
    facts = VersionFacts(files_sha256=files.sha256, num_bytes=files.num_bytes)
    for name in names:
        known: dict[int, tuple[VersionFacts, FitId | None]] = dict.fromkeys((1, 2), (facts, None))
        platform.state.champions.take_over(_TENANT, name, Champion(version=1, challenger=2), known)
    return names


def _copy(connection: sqlite3.Connection, table: str, name: str, others: list[str]) -> None:
    """Copy the rows of one model for others, whatever other columns the table has."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    at, marks = columns.index("name"), ",".join("?" * len(columns))
    for row in connection.execute(f"SELECT * FROM {table} WHERE name = ?", (name,)).fetchall():
        copies = ((*row[:at], other, *row[at + 1 :]) for other in others)
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)


def _noticed(platform: Platform, client: Any, names: list[IdentityName]) -> list[float]:
    """Take the challenger of each away, which needs no gate; the seconds until Redis says so."""
    set_at = {}
    for name in names:
        client.delete_registered_model_alias(f"{_TENANT}.{name}", "challenger")
        set_at[name] = time.monotonic()
    taken_s: dict[IdentityName, float] = {}
    while len(taken_s) < len(names):
        for name in names:
            if name not in taken_s and platform.state.champions.get(_TENANT, name).challenger is None:
                taken_s[name] = time.monotonic() - set_at[name]
        if time.monotonic() - max(set_at.values()) > _LATEST_S:
            raise ServiceError("changes in the model registry", f"to be noticed in {_LATEST_S:g} s", f"{len(taken_s)}")
        time.sleep(0.01)
    return list(taken_s.values())
