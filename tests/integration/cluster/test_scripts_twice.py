"""Every script can run twice: the second run answers the same and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster.ids import TenantId
from cluster.state import scripts
from cluster.state.jobs import Once
from cluster.state.problems import Problem
from cluster.state.records import Claim
from cluster.state.store import StateStore

SCRIPTS = {name: text for name, text in vars(scripts).items() if name.isupper() and not name.startswith("_")}
PROBLEM = Problem(code="x")


@pytest.fixture
def state(stack):
    state = StateStore(stack)
    yield state
    state.close()


def taken(state: StateStore, tenant: TenantId, **more: Any) -> Claim:
    state.jobs.create(tenant, "render", {"n": 1}, **more)
    claim = state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant)
    assert claim is not None
    return claim


def ended(how: Callable[[StateStore, Claim], Any]) -> Callable[[StateStore, TenantId], Any]:
    return lambda state, tenant: how(state, taken(state, tenant))


def expired(state: StateStore, tenant: TenantId) -> None:
    claim = taken(state, tenant)
    state._link.call("ZADD", f"{tenant}:leases:render", 1, str(claim.job.id))
    state.jobs.requeue_expired("render")


def revoke(state: StateStore, tenant: TenantId) -> None:
    state.accounts.create_api_key(tenant)
    (key,) = state.accounts.list_api_keys(tenant)
    assert state.accounts.revoke(tenant, key.key_id)


# script -> what runs it, one way or several
WAYS: dict[str, dict[str, Callable[[StateStore, TenantId], Any]]] = {
    "CREATE_JOB": {
        "plain": lambda state, tenant: state.jobs.create(tenant, "render", {}),
        "with a key": lambda state, tenant: state.jobs.create(tenant, "render", {}, once=Once(key="k")),
        "at the quota": lambda state, tenant: state.jobs.create(tenant, "render", {}, max_open=1),
    },
    "CLAIM_JOB": {"one": taken},
    "HEARTBEAT_JOB": {
        "news": ended(lambda state, claim: state.jobs.heartbeat(claim, lease_s=60, progress=0.5, stage="x")),
    },
    "END_JOB": {
        "done": ended(lambda state, claim: state.jobs.finish(claim, {"n": 1})),
        "failed": ended(lambda state, claim: state.jobs.fail(claim, PROBLEM)),
        "retry": ended(lambda state, claim: state.jobs.fail(claim, PROBLEM, retry=True)),
        "released": ended(lambda state, claim: state.jobs.release(claim)),
    },
    "CANCEL_JOB": {
        "queued": lambda state, tenant: state.jobs.cancel(tenant, state.jobs.create(tenant, "render", {})[0].id),
        "running": ended(lambda state, claim: state.jobs.cancel(claim.job.tenant, claim.job.id)),
    },
    "REQUEUE_JOBS": {"expired": expired},
    "BACKLOG_OF_JOBS": {"some": ended(lambda state, claim: state.jobs.backlog("render", tenant=claim.job.tenant))},
    "CREATE_TENANT": {"new": lambda state, tenant: state.accounts.create_tenant(TenantId(f"{tenant}-x"))},
    "DELETE_TENANT": {"known": lambda state, tenant: state.accounts.delete_tenant(tenant)},
    "CREATE_API_KEY": {"new": lambda state, tenant: state.accounts.create_api_key(tenant)},
    "REVOKE_API_KEY": {"known": revoke},
    "TAKE_FROM_BUCKET": {
        "some": lambda state, tenant: state.limits.take(tenant, "x", capacity=10, per_second=0.001, cost=4),
        "too much": lambda state, tenant: [
            state.limits.take(tenant, "x", capacity=10, per_second=0.001, cost=6) for _ in range(2)
        ],
    },
    "HOLD_SLOT": {
        "free": lambda state, tenant: state.limits.hold(tenant, "x", "me", limit=1, ttl_s=60),
        "none free": lambda state, tenant: [
            state.limits.hold(tenant, "x", holder, limit=1, ttl_s=60) for holder in ("me", "you")
        ],
    },
}


def kept(state: StateStore, tenant: TenantId) -> dict[str, Any]:
    """What is stored of a tenant, but for times."""
    found: dict[str, Any] = {}
    for key in state._link.scan(f"{tenant}*"):
        kind = state._link.call("TYPE", key)
        if kind == "hash":
            found[key] = {name: value for name, value in state._link.hash(key).items() if name not in ("updated", "at")}
        elif kind == "zset":
            found[key] = state._link.call("ZRANGE", key, 0, -1)
        else:
            found[key] = state._link.call("GET", key)
    return found


def test_every_script_is_run_twice_here():
    assert set(WAYS) == set(SCRIPTS)


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in WAYS.items() for way in ways])
def test_a_script_that_runs_twice_answers_the_same_and_changes_nothing(state, tenant, monkeypatch, name, way):
    run, runs = state._link.run, []

    def twice(script, names, args):
        answer = run(script, names, args)
        if script == SCRIPTS[name]:
            before = kept(state, tenant)
            again = run(script, names, args)
            runs.append((answer, again, before, kept(state, tenant)))
            return again
        return answer

    monkeypatch.setattr(state._link, "run", twice)
    WAYS[name][way](state, tenant)
    assert runs
    for answer, again, before, after in runs:
        assert again == answer
        assert after == before


def test_a_lock_that_was_taken_by_a_command_whose_answer_was_lost_is_ours(state, tenant, monkeypatch):
    client, lost = state._link._client, []
    command = client.execute_command

    def losing(*args, **options):
        answer = command(*args, **options)
        if args[0] == "SET" and not lost:
            lost.append(answer)
            return command(*args, **options)  # what redis-py does when the connection breaks before the answer
        return answer

    monkeypatch.setattr(client, "execute_command", losing)
    with state.limits.lock(tenant, "x", ttl_s=60):
        assert lost
    with state.limits.lock(tenant, "x", ttl_s=60):  # it was let go as well
        pass
