"""Records of the state store come back as they were; the ledger of erasures outlives what it is about."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from cluster.ids import IdentityName, ModelRef, RenderId, TenantId
from cluster.operate.backups.backup import make_backup
from cluster.operate.backups.ledger_file import LedgerFile, read_ledger, write_ledger
from cluster.operate.backups.restore import restore
from cluster.platform import Platform
from cluster.state import keys
from cluster.state.new_jobs import Files, NewJob
from cluster.state.people.tokens import TokenTerms
from cluster.state.store import StateStore
from cluster.state.upkeep.erasures import Erased
from cluster.state.upkeep.records import Record
from cluster.state.versions import VersionFacts
from m2dao.errors import InputError, ObjectCorrupt
from tests.support.stack import reaching, tenant_of

ACME, ANNA = TenantId("acme"), IdentityName("anna")
FACTS = VersionFacts(files_sha256="a" * 64, num_bytes=3)


def database(stack, number: int) -> StateStore:
    parts = urlsplit(stack.require("redis.url"))
    store = StateStore(reaching(stack, redis_url=urlunsplit(parts._replace(path=f"/{number}"))))
    store._link.call("FLUSHDB")
    return store


@pytest.fixture
def alone(stack) -> Iterator[StateStore]:
    """A database of its own, in which all records are this test's."""
    store = database(stack, 7)
    store.accounts.create_tenant(ACME)
    yield store
    store._link.call("FLUSHDB")
    store.close()


@pytest.fixture
def empty(stack) -> Iterator[StateStore]:
    store = database(stack, 6)
    yield store
    store._link.call("FLUSHDB")
    store.close()


def moved(there: StateStore, here: StateStore) -> None:
    """Put all records into another store, by way of JSON."""
    here.records.put(json.loads(json.dumps(list(there.records.all()))))


def test_tenants_keys_versions_and_champions_come_back(alone, empty):
    key = alone.accounts.create_api_key(ACME, label="web")
    for number in (1, 2):
        alone.versions.commit(ModelRef(ACME, ANNA, number), FACTS)
        alone.champions.promote(ModelRef(ACME, ANNA, number))
    alone.champions.set_imported()
    moved(alone, empty)
    assert empty.accounts.list_tenants() == [ACME]
    assert tenant_of(empty, key) == ACME
    assert empty.accounts.list_api_keys(ACME) == alone.accounts.list_api_keys(ACME)
    assert empty.champions.get(ACME, ANNA) == alone.champions.get(ACME, ANNA)
    assert empty.versions.all(ACME, ANNA) == alone.versions.all(ACME, ANNA)
    assert empty.champions.untold() == alone.champions.untold()
    assert empty.champions.is_imported()


def test_an_open_job_is_queued_again_with_its_files_and_an_ended_one_is_as_it_was(alone, empty):
    done, _ = alone.jobs.create(ACME, "render", {"n": 1})
    done = alone.jobs.finish(alone.jobs.claim("render", worker="w", lease_s=60), {"key": "k"})
    files = Files(contents={"speech": b"\xff\x00\xfe"}, most_open=10)
    new = NewJob(tenant=ACME, kind="render", job_id=RenderId.new(), request={"n": 2}, files=files, cost=7.0)
    running = alone.jobs.add(new)[0]
    lost = alone.jobs.claim("render", worker="gone", lease_s=60)
    fit, _ = alone.jobs.create(ACME, "fit", {"n": 3})
    moved(alone, empty)
    assert empty.jobs.get(ACME, done.id) == done
    assert empty.jobs.backlog("render").num_queued == empty.jobs.backlog("fit").num_queued == 1
    assert empty.jobs.backlog("render").queued_cost == 7.0
    claim = empty.jobs.claim("render", worker="w", lease_s=60)
    assert claim.job.id == running.id
    assert claim.fence > lost.fence
    assert empty.jobs.files(claim) == {"speech": b"\xff\x00\xfe"}
    assert empty.jobs.claim("fit", worker="w", lease_s=60).job.id == fit.id
    assert {job.id for job in empty.jobs.list(ACME, "render")} == {done.id, running.id}


def test_what_leaves_by_itself_keeps_its_time_and_every_type_of_redis_comes_back(alone, empty):
    until_ms = int(time.time() * 1000) + 3_600_000
    alone._link.call("SET", "acme:a", "ü", "PXAT", until_ms)
    alone._link.call("RPUSH", "acme:l", "b", "a")
    alone._link.call("XADD", "acme:s", "1-2", "k", "v")
    alone._link.call("SET", "acme:gone", "x", "PX", 1)
    moved(alone, empty)
    assert empty._link.call("PEXPIRETIME", "acme:a") == until_ms
    assert empty._link.call("GET", "acme:a") == "ü"
    assert empty._link.call("LRANGE", "acme:l", 0, -1) == ["b", "a"]
    assert empty._link.call("XRANGE", "acme:s", "-", "+") == [("1-2", {"k": "v"})]
    assert not empty._link.call("EXISTS", "acme:gone")


def test_who_works_just_now_is_no_record(alone):
    alone.seats.take("keeper", "me", lease_s=60)
    alone.jobs.create(ACME, "render", {})
    alone.jobs.claim("render", worker="w", lease_s=60)
    alone.versions.commit(ModelRef(ACME, ANNA, 1), FACTS)
    alone.tokens.make(ACME, TokenTerms(identity=ANNA, origin="https://a"))
    alone.maintenance.begin()
    names = {record["key"].split(":")[0] for record in alone.records.all()}
    assert not {"client-token", "seat", "maintenance", "turn", "due", "totals", "script-answer", "pulse"} & names
    kinds = {record["key"].split(":")[1] for record in alone.records.all() if record["key"].startswith("acme:")}
    assert kinds == {"job", "jobs", "audit", "audit-tokens", "identities", "versions", "stored-since"}


# -- the ledger of erasures ---------------------------------------------------------------------------------------


def test_an_erasure_covers_what_lies_below_it_and_counts_up(alone):
    first = alone.erasures.note("acme/identities/anna")
    second = alone.erasures.note("acme/identities/bert/7")
    assert (first, second, alone.erasures.last()) == (1, 2, 2)
    erased = Erased(alone.erasures.key(), frozenset(alone.erasures.all()))
    assert erased.covers("acme/identities/anna")
    assert erased.covers("acme/identities/anna/1/means.safetensors")
    assert erased.covers("acme/identities/bert/7")
    assert not erased.covers("acme/identities/bert")
    assert not erased.covers("acme/identities/anna2")
    again = alone.erasures.note("acme/identities/anna")
    assert (again, len(alone.erasures.all())) == (3, 2)


def test_the_ledger_outlives_its_tenant_and_holds_no_name(alone, tmp_path):
    alone.erasures.note("acme/identities/anna")
    alone.accounts.delete_tenant(ACME)
    ledger = write_ledger(alone.erasures, tmp_path / "ledger.json")
    assert len(ledger.entries) == 2
    text = (tmp_path / "ledger.json").read_text()
    assert "anna" not in text
    assert "acme" not in text
    assert alone.erasures.key().hex() not in text
    assert read_ledger(tmp_path / "ledger.json") == ledger


def test_a_ledger_that_was_altered_or_is_none_is_refused(alone, tmp_path):
    path = tmp_path / "ledger.json"
    alone.erasures.note("acme")
    write_ledger(alone.erasures, path)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "entries": {}}))
    with pytest.raises(ObjectCorrupt):
        read_ledger(path)
    path.write_text("[]")
    with pytest.raises(InputError):
        read_ledger(path)


@dataclass(frozen=True)
class Erasing:
    """A backup made between two erasures, what the ledger was before it, and what it is now."""

    backup: Path
    before: LedgerFile
    now: LedgerFile


@pytest.fixture
def erasing(alone, tmp_path) -> Erasing:
    tenant = f"tenant-{uuid.uuid4().hex[:12]}"  # the model registry is everybody's
    alone.erasures.note(f"{tenant}/identities/anna")
    before = write_ledger(alone.erasures, tmp_path / "before.json")
    alone.erasures.note(f"{tenant}/identities/bert")
    make_backup(alone, tmp_path / "backup", store=None, mlflow_db=None)
    for name in ("carl", "anna"):  # the second one once more: its number is a higher one now
        alone.erasures.note(f"{tenant}/identities/{name}")
    return Erasing(tmp_path / "backup", before, write_ledger(alone.erasures, tmp_path / "now.json"))


@pytest.fixture
def services(stack, empty) -> Platform:
    """Services that hold nothing."""
    parts = urlsplit(stack.require("redis.url"))._replace(path="/6")
    return Platform(reaching(stack, redis_url=urlunsplit(parts), s3_bucket=f"empty-{uuid.uuid4().hex[:12]}"))


def test_a_restore_that_is_cut_off_amid_the_records_knows_all_erasures(erasing, services, empty, monkeypatch):
    records = services.state.records
    write = records._write

    def cut_off(record: Record) -> None:
        if record["key"] == keys.TENANTS:
            raise KeyboardInterrupt
        write(record)

    monkeypatch.setattr(records, "_write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        restore(services, erasing.backup, ledger=erasing.now, put_mlflow=None)
    assert empty.erasures.all() == erasing.now.entries
    assert sorted(erasing.now.entries.values()) == [2, 3, 4]


@pytest.mark.parametrize("which", ["now", "none"])
def test_a_restore_takes_over_the_ledger_or_keeps_its_own(erasing, services, empty, which):
    restore(services, erasing.backup, ledger=erasing.now if which == "now" else None, put_mlflow=None)
    assert sorted(empty.erasures.all().values()) == ([2, 3, 4] if which == "now" else [1, 2])
    assert empty.erasures.note("acme/a") == (5 if which == "now" else 3)


def test_a_ledger_that_is_older_than_the_backup_is_refused(erasing, services, empty):
    with pytest.raises(InputError, match=r"erasure 2.*ends with erasure 1.*exported last"):
        restore(services, erasing.backup, ledger=erasing.before, put_mlflow=None)
    assert empty.accounts.list_tenants() == []


def test_revoking_a_key_is_an_erasure(alone):
    alone.accounts.create_api_key(ACME)
    (info,) = alone.accounts.list_api_keys(ACME)
    alone.accounts.revoke(ACME, info.key_id)
    assert Erased(alone.erasures.key(), frozenset(alone.erasures.all())).covers(f"acme/api-keys/{info.key_id}")
    assert keys.ERASURES in {record["key"] for record in alone.records.all()}
