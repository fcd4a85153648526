"""A backup of a platform becomes a platform again: it serves, and what was erased since stays erased."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from cluster.cli import main
from cluster.control.fit_requests import FitOptions, FitRequest
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.operate.backups.backup import make_backup
from cluster.operate.backups.ledger_file import write_ledger
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.stack.stack import Stack
from cluster.state.seats import KEEPER
from m2dao.errors import UnknownIdentity
from tests.support.serve import api_over, do, make_worker, register, speech, take
from tests.support.stack import reaching, tenant_of
from tests.support.tiny_identity import make_tiny_identity

LIGHT = ("redis", "s3", "mlflow")
ACME, GONE = TenantId(f"acme-{os.getpid()}"), TenantId(f"gone-{os.getpid()}")
ANNA, BERT = IdentityName("anna"), IdentityName("bert")
RECORDING = FitRequest(
    batch="b", identity=ANNA, recording_sha256="ab" * 32, recording_name="a.mp4", options=FitOptions()
).recording_key(ACME)


@dataclass(frozen=True)
class Saved:
    """A backup, and what was true when it was made."""

    folder: Path
    ledger: Path  # exported after the erasures
    key: str  # an API key of acme
    revoked: str  # one that was revoked since
    render: str  # an accepted render that nobody had made
    pepper: str
    redis_url: str


@pytest.fixture(scope="module")
def saved(stack, tmp_path_factory) -> Iterator[Saved]:
    """Two tenants are saved; then one of them, an identity, a version and a key are erased."""
    folder = tmp_path_factory.mktemp("saved")
    parts = urlsplit(stack.require("redis.url"))
    bucket = f"saved-{uuid.uuid4().hex[:12]}"
    settings = reaching(stack, redis_url=urlunsplit(parts._replace(path="/5")), s3_bucket=bucket)
    with api_over(settings) as api:
        platform, state = api.platform, api.platform.state
        state._link.call("FLUSHDB")
        state.champions.set_imported()
        platform.store.ensure_bucket()
        identity = make_tiny_identity(folder / "anna", size=32)
        for tenant in (ACME, GONE):
            state.accounts.create_tenant(tenant)
            for name, num_versions in (("anna", 2), ("bert", 1)):
                for _ in range(num_versions):
                    register(platform, tenant, identity, name=name)
        platform.store.put_bytes(RECORDING, b"a recording")
        key, revoked = (state.accounts.create_api_key(ACME, label=label) for label in ("stays", "goes"))
        with httpx.Client(base_url=api.client.base_url, trust_env=False, timeout=120) as client:
            answer = client.post(
                "/v1/renders",
                files={"audio": ("a.wav", speech(1.0), "audio/wav")},
                data={"identity": "anna"},
                headers={"Authorization": f"Bearer {key}"},
            )
        assert answer.status_code == 202, answer.text
        make_backup(
            state, folder / "backup", store=platform.store, mlflow_db=stack.home / "mlflow" / "mlflow.db", say=print
        )
        erase(platform)
        write_ledger(state.erasures, folder / "ledger.json")
        yield Saved(
            folder=folder / "backup",
            ledger=folder / "ledger.json",
            key=key,
            revoked=revoked,
            render=answer.json()["id"],
            pepper=stack.require("key_pepper"),
            redis_url=settings.require("redis.url"),
        )
        state._link.call("FLUSHDB")


def erase(platform: Platform) -> None:
    """What people ask for after the backup."""
    state = platform.state
    state.champions.clear(ACME, ANNA)  # which the first version was the previous one of
    state.champions.promote(ModelRef(ACME, ANNA, 2))
    platform.registry.delete_version(ModelRef(ACME, ANNA, 1))
    platform.registry.delete_identity(ACME, BERT)
    (info,) = (info for info in state.accounts.list_api_keys(ACME) if info.label == "goes")
    state.accounts.revoke(ACME, info.key_id)
    for name in (ANNA, BERT):
        platform.registry.delete_identity(GONE, name)
    state.accounts.delete_tenant(GONE)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs ``m2dao-cluster`` on a home and a pepper; returns exit code and answer."""

    def run(home: Path, pepper: str, *words: str) -> tuple[int, dict]:
        for name in [name for name in os.environ if name.startswith("M2DAO_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("M2DAO_HOME", str(home))
        monkeypatch.setenv("M2DAO_KEY_PEPPER", pepper)
        code = main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def empty(tmp_path, saved) -> Iterator[Settings]:
    """An embedded stack that holds nothing, with the pepper of the saved one."""
    own = Settings(home=tmp_path / "new", start_timeout_s=600).with_env({"M2DAO_KEY_PEPPER": saved.pepper})
    stack = Stack(own)
    try:
        yield stack.up(services=LIGHT, owner_pid=os.getpid())
    finally:
        stack.down()


def test_a_restored_platform_serves_and_what_was_erased_since_stays_erased(saved, empty, command, tmp_path):
    words = ("restore", str(saved.folder), "--erasures", str(saved.ledger))
    holder = Platform(empty)
    seat = holder.state.seats.take(KEEPER, "a keeper", lease_s=60)
    code, answer = command(empty.home, saved.pepper, *words)
    assert (code, answer["error"]) == (2, "conflict")
    assert "keeper" in answer["detail"]
    holder.state.seats.leave(seat)

    code, answer = command(empty.home, saved.pepper, *words)
    assert (code, answer["incomplete"]) == (0, []), answer
    assert answer["num_erased"] > 0
    with api_over(empty) as api:
        state = api.platform.state
        assert state.accounts.list_tenants() == [ACME]
        assert (tenant_of(state, saved.key), tenant_of(state, saved.revoked)) == (ACME, None)
        assert [info.identity for info in state.champions.identities(ACME)] == [ANNA]
        assert state.versions.numbers(ACME, ANNA) == (2,)
        assert api.platform.store.get_bytes(RECORDING) == b"a recording"
        erased = [f"{ACME}/identities/bert/", f"{ACME}/identities/anna/1/", f"{GONE}/"]
        assert [info.key for prefix in erased for info in api.platform.store.list(prefix)] == []
        known = {info.ref for info, _ in api.platform.registry.ledger.versions() if info.ref.tenant in (ACME, GONE)}
        assert known == {ModelRef(ACME, ANNA, 2)}
        with pytest.raises(UnknownIdentity):
            api.platform.registry.describe(ModelRef(ACME, ANNA, 1))
        assert make_render(api, tmp_path) == saved.render
        with httpx.Client(base_url=api.client.base_url, trust_env=False, timeout=120) as client:
            client.headers["Authorization"] = f"Bearer {saved.key}"
            render = client.get(f"/v1/renders/{saved.render}").json()
            assert client.get(render["result"]["url"]).content[4:8] == b"ftyp"

    code, answer = command(empty.home, saved.pepper, *words)
    assert (code, answer["error"]) == (2, "conflict"), "it is not empty any more"


def make_render(api, tmp_path) -> str:
    """Make the render that waits, as a replica does; returns its id."""
    worker, _ = make_worker(api.services, tmp_path / "disk")
    claim = take(api.services, ACME)
    assert do(worker, claim) == "done"
    return str(claim.job.id)


def test_a_restore_refuses_another_pepper_and_another_ledger(saved, stack, command, tmp_path):
    code, answer = command(stack.home, "another pepper, long enough", "restore", str(saved.folder), "--nothing-erased")
    assert (code, answer["error"]) == (2, "invalid-config")
    assert "M2DAO_KEY_PEPPER" in answer["detail"]
    values = json.loads(saved.ledger.read_text())
    assert command(stack.home, saved.pepper, "erasures", "export", str(tmp_path / "other.json"))[0] == 0
    assert json.loads((tmp_path / "other.json").read_text())["key_id"] != values["key_id"]
    words = ("restore", str(saved.folder), "--erasures", str(tmp_path / "other.json"))
    code, answer = command(stack.home, saved.pepper, *words)
    assert (code, answer["error"]) == (2, "invalid-input")


def test_a_backup_is_checked_without_being_used(saved, command, tmp_path):
    code, answer = command(tmp_path, saved.pepper, "restore", str(saved.folder), "--check")
    files = [path for path in saved.folder.rglob("*") if path.is_file()]
    assert (code, answer["num_files"]) == (0, len(files) - 1)  # all but the manifest
