"""A support bundle holds what helps, and neither secrets nor names, wherever they stood."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from cluster.cli import main
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.operate.support.bundle import LAST_BYTES
from cluster.operate.support.scrubber import MOST_CHARS
from cluster.settings import Settings
from cluster.state.store import StateStore
from cluster.state.versions import VersionFacts
from tests.support.stack import reaching

TENANT, IDENTITY, LABEL = "northclinic", "annasmith", "websiteofjones"
GONE, GONE_IDENTITY = "erasedcorp", "bertbrown"  # no longer known to the state store
FITTED, CONSENT, FILE = "carlchurch", "signed by Carl Church", "Carl Church takes"  # of a fit that made no version
API_KEY = "m2dao_" + "Kq7" * 14 + "x"
FACE = "iVBORw0KGgo" + "Qm9keU9mQUZhY2U" * 400


@pytest.fixture
def settings(stack, tmp_path) -> Settings:
    parts = urlsplit(stack.require("redis.url"))
    return reaching(stack, redis_url=urlunsplit(parts._replace(path="/4")), home=str(tmp_path), metrics_port="0")


@pytest.fixture
def planted(settings, tmp_path):
    """A platform with people in it, and logs that say too much; returns what nobody may read."""
    state = StateStore(settings)
    state._link.call("FLUSHDB")
    tenant, identity = TenantId(TENANT), IdentityName(IDENTITY)
    state.accounts.create_tenant(tenant)
    key = state.accounts.create_api_key(tenant, label=LABEL)
    state.versions.commit(ModelRef(tenant, identity, 1), VersionFacts(files_sha256="a" * 64, num_bytes=3))
    state.jobs.create(tenant, "render", {"identity": IDENTITY})
    state.jobs.create(tenant, "fit", {"identity": FITTED, "consent": CONSENT, "recording_name": f"{FILE}.mxf"})
    for number in range(101):  # more than one page
        state.jobs.create(tenant, "fit", {"identity": f"x{number}"})
    hidden = [settings.plain(name) for name in ("s3.secret_key", "s3.access_key", "key_pepper")]
    hidden.append(urlsplit(settings.require("redis.url")).password)
    logs = tmp_path / "logs"
    logs.mkdir()
    ours = [
        {"message": "render accepted", "tenant": TENANT, "ref": f"{TENANT}.{IDENTITY}@1", "seconds": 1.5},
        {"message": "a fit failed", "tenant": GONE, "identity": GONE_IDENTITY, "error": "no-face"},
        {
            "message": f"fit of {FITTED} by {CONSENT} from {FILE} failed",
            "trace": 2000 * "a line\n"
            + f"/tmp/x/bert_brown_take2.mp4: {GONE}.{GONE_IDENTITY}@4 of {GONE}; key {API_KEY}",
        },
    ]
    (logs / "keeper.log").write_text("\n".join(map(json.dumps, ours)) + f"\nTraceback: password {hidden[-1]}\n")
    theirs = [
        f'10.4.5.6 - "GET /api/2.0/mlflow/registered-models/get?name={GONE}.{GONE_IDENTITY} HTTP/1.1" 200',
        f"PUT /m2dao/{TENANT}/identities/{IDENTITY}/1/means.safetensors with {hidden[0]}",
        f"X-Amz-Signature=0123456789abcdef&x Bearer {key}",
        f"body {FACE[:3000]}",
        FACE,
    ]
    (logs / "mlflow.log").write_text("\n".join(theirs) + "\n")
    (logs / "s3.log").write_text("old\n" * LAST_BYTES + "the last line of all\n")
    yield [
        *(*hidden, key, API_KEY, TENANT, IDENTITY, LABEL, GONE, GONE_IDENTITY, FITTED, CONSENT, FILE),
        *("bert_brown", FACE[:300], "10.4.5.6"),
    ]
    state._link.call("FLUSHDB")
    state.close()


@pytest.fixture
def bundle(settings, planted, tmp_path, monkeypatch) -> dict[str, str]:
    """The files of a bundle, by name."""
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    assert main(["support-bundle", str(tmp_path / "support.tar.gz"), "--json"]) == 0
    return opened(tmp_path / "support.tar.gz")


def opened(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {member.name.removeprefix("support/"): archive.extractfile(member).read().decode() for member in archive}


def test_no_secret_no_name_no_face_and_no_address_is_in_it_and_what_helps_is(bundle, planted, capsys):
    for name, text in bundle.items():
        for word in planted:
            assert word not in text, (name, word)
            assert word not in name
        assert max(map(len, text.splitlines())) <= 2 * MOST_CHARS
    assert set(bundle) == {
        *("versions.txt", "settings.txt", "doctor.txt", "queues.txt", "names.txt"),
        *("logs/keeper.log", "logs/mlflow.log", "logs/s3.log"),
    }
    assert "m2dao 0." in bundle["versions.txt"]
    assert "M2DAO_KEY_PEPPER=[set]" in bundle["settings.txt"]
    assert "M2DAO_S3_BUCKET=m2dao" in bundle["settings.txt"]
    assert "redis: answers, runs scripts and delivers messages: ok" in bundle["doctor.txt"]
    queues = json.loads(bundle["queues.txt"])
    assert queues["open"][0] == {"kind": "render", "num_queued": 1, "num_running": 0, "num_delayed": 0}
    assert (queues["num_tenants"], queues["under_maintenance"]) == (1, False)
    lines = [json.loads(line) for line in bundle["logs/keeper.log"].splitlines()[:3]]
    assert (lines[0]["message"], lines[0]["seconds"], lines[1]["error"]) == ("render accepted", 1.5, "no-face")
    assert "names were read and are hidden" in bundle["names.txt"]
    assert lines[1]["tenant"] in lines[2]["trace"], "the same name has the same hash in all places"
    assert "GET /api/2.0/mlflow/registered-models/get" in bundle["logs/mlflow.log"]
    assert bundle["logs/s3.log"].endswith("the last line of all\n")
    assert len(bundle["logs/s3.log"]) <= LAST_BYTES


def test_where_nothing_answers_a_bundle_says_so_and_is_made(settings, tmp_path, monkeypatch, capsys):
    away = reaching(settings, redis_url="redis://:longpassword@127.0.0.1:1/0")
    for name, value in away.to_env().items():
        monkeypatch.setenv(name, value)
    assert main(["support-bundle", str(tmp_path / "support.tar.gz")]) == 0
    files = opened(tmp_path / "support.tar.gz")
    assert "could not be had" in files["queues.txt"]
    assert files["names.txt"].startswith("names could not be read: ")
    assert "m2dao 0." in files["versions.txt"]
    assert "longpassword" not in str(files)
