"""All that the state store keeps, as plain records: for backups.

A record is a key with its type, its value and the time when it leaves. What says who works just now (leases, queues,
places, seats) is left out. Open jobs are queued again when records are put back.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict

from cluster.ids import TenantId, parse_job_id
from cluster.state import keys, scripts
from cluster.state.link import RedisLink
from m2dao.errors import InputError

_AT_ONCE = 200
# The second part of a tenant's keys, and the first of others, that say only how things stand at the moment.
_MOMENTARY = {
    "queue",
    "line",
    "leases",
    "delayed",
    "backlog",
    "rate",
    "slots",
    "probe",
    "outcomes",
    "client-tokens",
    "client-token-ends",
}
_MOMENTARY_FIRST = {
    "turn",
    "wanting",
    "due",
    "totals",
    "pulse",
    "script-answer",
    "seat",
    "probes",
    "maintenance",
    "client-token",
}
_READ = {
    "string": ("GET", ()),
    "hash": ("HGETALL", ()),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", (0, -1, "WITHSCORES")),
    "list": ("LRANGE", (0, -1)),
    "stream": ("XRANGE", ("-", "+")),
}
_FILES = "files"  # of open jobs: bytes


class Record(TypedDict):
    """One key as JSON can hold it."""

    key: str
    type: str  # of Redis, or "bytes" for a hash of bytes
    value: Any
    until_ms: int | None  # Unix time; None for ever


class Records:
    """Reads and writes records. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def all(self) -> Iterator[Record]:
        """Every record that lasts. What belongs to one identity is read in one step."""
        names = sorted({name for name in self._link.scan("*") if _lasts(name)}, key=_group_of)
        groups = [list(group) for _, group in itertools.groupby(names, key=_group_of)]
        for batch in _batched(groups, _AT_ONCE):
            yield from self._read(batch)

    def put(self, records: Iterable[Record]) -> int:
        """Write records into an empty store and queue the jobs that are open; returns how many records."""
        count, jobs = 0, []
        for record in records:
            self._write(record)
            count += 1
            if record["type"] == "hash" and _part(record["key"], 1) == "job":
                jobs.append(record)
        for job in jobs:
            self._readmit(job)
        return count

    def _read(self, names: Sequence[str]) -> Iterator[Record]:
        kinds = self._link.steps([("TYPE", name) for name in names])
        plain = [(name, kind) for name, kind in zip(names, kinds, strict=True) if kind != "none"]
        plain = [(name, "bytes" if _part(name, 1) == _FILES else kind) for name, kind in plain]
        asked: list[tuple[Any, ...]] = []
        for name, kind in plain:
            if kind not in _READ and kind != "bytes":
                raise InputError(f"key {name}", "a type of Redis itself", kind)
            command, words = ("EXISTS", ()) if kind == "bytes" else _READ[kind]
            asked += [(command, name, *words), ("PEXPIRETIME", name)]
        answers = self._link.steps(asked)
        for (name, kind), value, until in zip(plain, answers[::2], answers[1::2], strict=True):
            if kind == "bytes":
                value = {k: base64.b64encode(v).decode() for k, v in self._link.blobs(name).items()}
            if value not in (None, {}, [], set()):  # gone meanwhile
                yield Record(key=name, type=kind, value=_as_json(kind, value), until_ms=until if until > 0 else None)

    def _write(self, record: Record) -> None:
        key, value = record["key"], record["value"]
        match record["type"]:
            case "string":
                commands = [("SET", key, value)]
            case "hash":
                commands = [("HSET", key, *itertools.chain.from_iterable(value.items()))]
            case "bytes":
                words = [(name, base64.b64decode(text)) for name, text in value.items()]
                commands = [("HSET", key, *itertools.chain.from_iterable(words))]
            case "set":
                commands = [("SADD", key, *value)]
            case "list":
                commands = [("RPUSH", key, *value)]
            case "zset":
                commands = [("ZADD", key, *itertools.chain.from_iterable((score, name) for name, score in value))]
            case "stream":
                commands = [("XADD", key, number, *itertools.chain.from_iterable(row.items())) for number, row in value]
            case other:
                raise InputError(f"record {key}", "a known type", other, "use the release that made the backup")
        if record["until_ms"] is not None:
            commands.append(("PEXPIREAT", key, record["until_ms"]))
        self._link.steps([("DEL", key), *commands])

    def _readmit(self, record: Record) -> None:
        job_id, tenant = parse_job_id(record["value"]["id"]), TenantId(record["value"]["tenant"])
        words = [str(job_id), str(tenant), record["value"]["kind"]]
        self._link.run(scripts.READMIT_JOB, [keys.job(tenant, job_id)], words)


def _as_json(kind: str, value: Any) -> Any:
    if kind == "set":
        return sorted(value)
    if kind in ("zset", "stream"):
        return [list(pair) for pair in value]
    return value


def _lasts(name: str) -> bool:
    return _part(name, 0) not in _MOMENTARY_FIRST and _part(name, 1) not in _MOMENTARY


def _part(name: str, number: int) -> str:
    parts = name.split(":")
    return parts[number] if number < len(parts) else ""


def _group_of(name: str) -> tuple[str, str]:
    """What is read in one step: an identity's champion and versions have the same tenant and last part."""
    return _part(name, 0), name.rpartition(":")[2]


def _batched(groups: Sequence[list[str]], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for group in groups:
        if batch and len(batch) + len(group) > size:
            yield batch
            batch = []
        batch += group
    if batch:
        yield batch
