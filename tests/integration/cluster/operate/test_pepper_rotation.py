"""The pepper is changed while keys go on letting in, whichever process is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from cluster.ids import TenantId
from cluster.settings import Settings
from cluster.state.door import Door, Needed, Terms, Verdict
from cluster.state.link import AsyncRedisLink
from cluster.state.people.principals import Scope
from cluster.state.store import StateStore
from m2dao.errors import ConfigError
from tests.support.stack import reaching

ACME = TenantId("acme")
TERMS = Terms(rate=1000, burst=1000, uploads=3, open_renders=3)
OLD, NEW = "the pepper until now", "the pepper from now on"


@pytest.fixture
def settings(stack) -> Iterator[Settings]:
    """A database of its own: a site has one pepper."""
    parts = urlsplit(stack.require("redis.url"))
    settings = reaching(stack, redis_url=urlunsplit(parts._replace(path="/3")))
    with contextlib.closing(StateStore(settings)) as store:
        store._link.call("FLUSHDB")
        store.accounts.create_tenant(ACME)
        yield settings
        store._link.call("FLUSHDB")


@pytest.fixture
def process(settings):
    """The state store of a process with some peppers."""
    with contextlib.ExitStack() as opened:

        def start(pepper: str, other: str = "") -> StateStore:
            changed = settings.with_env({"M2DAO_KEY_PEPPER": pepper, "M2DAO_KEY_PEPPER_OTHER": other})
            return opened.enter_context(contextlib.closing(StateStore(changed)))

        yield start


def lets_in(state: StateStore, key: str) -> bool:
    async def ask() -> Verdict:
        link = AsyncRedisLink(state._settings.require("redis.url"))
        try:
            return (await Door(link, state.accounts, TERMS).enter(key, Needed(scope=Scope.CLIENT))).verdict
        finally:
            await link.close()

    return asyncio.run(ask()) is Verdict.IN


def test_at_every_step_every_process_lets_keys_in(process):
    before = process(OLD)
    used, unused = (before.accounts.create_api_key(ACME, label=label) for label in ("used", "unused"))
    knows_both = process(OLD, NEW)
    assert lets_in(knows_both, used)
    exchanged = process(NEW, OLD)
    assert lets_in(exchanged, used), "before the switch, by who was rolled out too early"
    assert lets_in(before, used), "and nothing was moved"

    exchanged.accounts.switch_pepper()
    exchanged.accounts.switch_pepper()
    assert {info.label for info in exchanged.accounts.keys_of_old_pepper(ACME)} == {"used", "unused"}
    assert lets_in(knows_both, used), "it moves nothing to the pepper that goes"
    assert len(exchanged.accounts.keys_of_old_pepper(ACME)) == 2
    assert lets_in(exchanged, used)
    assert lets_in(knows_both, used), "under the new pepper"
    made = knows_both.accounts.create_api_key(ACME, label="made meanwhile")
    assert {info.label for info in exchanged.accounts.keys_of_old_pepper(ACME)} == {"unused", "made meanwhile"}
    assert lets_in(exchanged, made)
    exchanged.accounts.create_api_key(ACME, label="made by the new one")
    assert [info.label for info in exchanged.accounts.keys_of_old_pepper(ACME)] == ["unused"]

    after = process(NEW)
    assert [lets_in(after, key) for key in (used, made, unused)] == [True, True, False]
    with pytest.raises(ConfigError, match="M2DAO_KEY_PEPPER"):
        before.accounts.check_pepper()
    after.accounts.check_pepper()


def test_a_key_that_was_hashed_anew_is_revoked_and_listed_as_before(process):
    before, exchanged = process(OLD), process(NEW, OLD)
    key = before.accounts.create_api_key(ACME, label="web")
    (info,) = before.accounts.list_api_keys(ACME)
    exchanged.accounts.switch_pepper()
    assert lets_in(exchanged, key)
    (again,) = exchanged.accounts.list_api_keys(ACME)
    assert (again.key_id, again.label, again.scopes) == (info.key_id, info.label, info.scopes)
    assert exchanged.accounts.revoke(ACME, info.key_id)
    assert not lets_in(exchanged, key)
    assert not lets_in(process(OLD, NEW), key)


def test_a_pepper_that_is_neither_is_refused_and_changes_nothing(process):
    before = process(OLD)
    key = before.accounts.create_api_key(ACME)
    with pytest.raises(ConfigError, match="M2DAO_KEY_PEPPER_OTHER"):
        process(NEW, "a third pepper").accounts.switch_pepper()
    with pytest.raises(ConfigError, match="M2DAO_KEY_PEPPER"):
        process(NEW, "a third pepper").accounts.check_pepper()
    assert lets_in(before, key)
    assert not lets_in(process(NEW, "a third pepper"), key)
