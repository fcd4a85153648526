"""Every script can run twice: the second run answers the same and changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.ids import TenantId
from cluster.state import scripts
from cluster.state.store import StateStore
from tests.integration.cluster.state.script_ways import WAYS, hooked

SCRIPTS = {name: text for name, text in vars(scripts).items() if name.isupper() and not name.startswith("_")}
READING = {"LONGEST_WAIT"}  # changes nothing, and answers with a time that goes on


def kept(state: StateStore, tenant: TenantId) -> dict[str, Any]:
    """What is stored of a tenant, but for times."""
    found: dict[str, Any] = {}
    for key in state._link.scan(f"{tenant}*"):
        kind = state._link.call("TYPE", key)
        if kind == "hash":
            found[key] = {
                name: value for name, value in state._link.hash(key).items() if name not in ("updated", "at", "until")
            }
        elif kind == "list":
            moves = [json.loads(text) for text in state._link.call("LRANGE", key, 0, -1)]
            found[key] = [{name: value for name, value in move.items() if name != "at"} for move in moves]
        elif kind == "stream":
            found[key] = state._link.call("XRANGE", key, "-", "+")
        elif kind == "zset":
            found[key] = state._link.call("ZRANGE", key, 0, -1)
        else:
            found[key] = state._link.call("GET", key)
    return found


def test_every_script_is_run_twice_here():
    assert {*WAYS, *READING} == set(SCRIPTS)


TELLING = ("END_JOB", "CANCEL_JOB", "HEARTBEAT_JOB", "REQUEUE_JOBS", "MOVE_CHAMPION", "MOVE_RECORDING")


@pytest.mark.parametrize(("name", "way"), [(name, way) for name in TELLING for way in WAYS[name]])
def test_webhooks_hear_once_of_what_a_script_does_that_runs_twice(state, tenant, monkeypatch, name, way):
    hooked(state, tenant)
    run_each_script_twice(state, tenant, monkeypatch, name, way)


@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in WAYS.items() for way in ways])
def test_a_script_that_runs_twice_answers_the_same_and_changes_nothing(state, tenant, monkeypatch, name, way):
    run_each_script_twice(state, tenant, monkeypatch, name, way)


def run_each_script_twice(
    state: StateStore, tenant: TenantId, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
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
