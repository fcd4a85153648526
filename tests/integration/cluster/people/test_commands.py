"""The commands about keys, tokens and the trail do what the API does."""

from __future__ import annotations

import json

import pytest

from cluster.cli import main
from cluster.ids import IdentityName, ModelRef
from cluster.state.versions import VersionFacts
from tests.support.stack import tenant_of


@pytest.fixture
def command(stack, tenant, monkeypatch, capsys):
    """Runs ``m2dao-cluster`` on the services of the tests; returns exit code and answer."""
    for name, value in stack.to_env().items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[int, dict]:
        code = main([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_a_key_is_made_with_scopes_replaced_listed_and_revoked(command, state, tenant):
    scopes = ("--scope", "admin", "--scope", "operator")
    code, made = command("key", "create", str(tenant), "--label", "office", *scopes, "--days", "1")
    assert code == 0
    assert (made["scopes"], made["label"]) == (["admin", "operator"], "office")
    assert made["ends_s"] == pytest.approx(made["created_s"] + 86_400, abs=0.002)
    code, new = command("key", "rotate", str(tenant), made["key_id"], "--overlap-hours", "0.5")
    assert (code, new["scopes"]) == (0, ["admin", "operator"])
    assert tenant_of(state, new["key"]) == tenant
    _, listed = command("key", "list", str(tenant))
    ends = {key["key_id"]: key["ends_s"] for key in listed["keys"]}
    assert ends[made["key_id"]] == pytest.approx(new["created_s"] + 1800, abs=0.002)
    assert command("key", "revoke", str(tenant), made["key_id"])[0] == 0
    code, again = command("key", "revoke", str(tenant), made["key_id"])
    assert (code, again["error"]) == (2, "unknown-key")


def test_a_client_token_is_made_listed_and_revoked(command, state, tenant):
    ref = ModelRef(tenant, IdentityName("anna"), 1)
    state.versions.commit(ref, VersionFacts(files_sha256="a" * 64, num_bytes=3))
    origin = ("--origin", "https://app.example.com")
    code, made = command("token", "create", str(tenant), "anna", *origin, "--minutes", "30")
    assert code == 0
    assert tenant_of(state, made["token"]) == tenant
    assert made["ends_s"] == pytest.approx(made["created_s"] + 1800, abs=0.002)
    listed = command("token", "list", str(tenant))[1]["tokens"]
    assert [token["token_id"] for token in listed] == [made["token_id"]]
    assert command("token", "revoke", str(tenant), made["token_id"])[0] == 0
    assert command("token", "list", str(tenant))[1]["tokens"] == []
    assert command("token", "create", str(tenant), "anna", *origin, "--minutes", "61")[0] == 2


def test_the_trail_tells_who_ran_a_command(command, tenant):
    made = command("key", "create", str(tenant))[1]
    code, trail = command("audit", str(tenant), "--limit", "1")
    (entry,) = trail["entries"]
    assert code == 0
    assert (entry["what"], entry["on"]) == ("create-key", f"key:{made['key_id']}")
    assert entry["by"].startswith("command:")
    _, rest = command("audit", str(tenant), "--before", trail["next"])
    assert [entry["what"] for entry in rest["entries"]] == ["create-tenant"]
