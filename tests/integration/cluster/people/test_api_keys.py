"""API keys: scopes, ends, last use, and a rotation with overlap."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.control.people.keys import Keys
from cluster.state import keys as names
from cluster.state.door import Answer, Door, Terms, Verdict
from cluster.state.link import AsyncRedisLink
from cluster.state.new_jobs import Once
from cluster.state.people.principals import KeyTerms, Needed, Scope
from m2dao.errors import Conflict, IdempotencyConflict, InputError, UnknownKey
from tests.support.stack import tenant_of

ALL = (Scope.ADMIN, Scope.CLIENT, Scope.OPERATOR)


@pytest.fixture
def keys(state) -> Keys:
    return Keys(state.accounts)


@pytest.fixture
def enter(stack, state):
    """Knock at the door with a key."""

    def ask(key: str, scope: Scope = Scope.CLIENT) -> Answer:
        async def act() -> Answer:
            link = AsyncRedisLink(stack.require("redis.url"))
            try:
                terms = Terms(rate=1000, burst=1000, uploads=1, open_renders=1)
                return await Door(link, state.accounts, terms).enter(key, Needed(scope=scope))
            finally:
                await link.close()

        return asyncio.run(act())

    return ask


def entry_of(state, key: str) -> str:
    entry = state.accounts.key_of(key)
    assert entry is not None
    return entry


def end_now(state, key: str) -> None:
    """Let a key's time be over, without waiting for it."""
    state._link.call("HSET", entry_of(state, key), "ends", "1")


def test_a_key_is_good_for_its_scopes_only(keys, tenant, enter):
    new = keys.make(tenant, KeyTerms(scopes=(Scope.OPERATOR,)))
    assert {scope: enter(new.key, scope).verdict for scope in Scope} == {
        Scope.ADMIN: Verdict.FORBIDDEN,
        Scope.OPERATOR: Verdict.IN,
        Scope.CLIENT: Verdict.FORBIDDEN,
    }
    principal = enter(new.key, Scope.OPERATOR).principal
    assert (principal.tenant, principal.key_id, principal.scopes) == (tenant, new.info.key_id, (Scope.OPERATOR,))


def test_a_key_made_before_there_were_scopes_still_renders_and_manages_nothing(state, keys, tenant, enter):
    key = state.accounts.create_api_key(tenant)
    state._link.call("HDEL", entry_of(state, key), "scopes", "life")  # as it was stored then
    (info,) = keys.page(tenant)[0]
    assert info.scopes == (Scope.CLIENT,)
    assert enter(key, Scope.CLIENT).verdict is Verdict.IN
    assert enter(key, Scope.ADMIN).verdict is enter(key, Scope.OPERATOR).verdict is Verdict.FORBIDDEN
    new = keys.rotate(tenant, info.key_id, overlap_s=1800)
    assert (new.info.scopes, new.info.ends_s) == ((Scope.CLIENT,), None)


def test_a_key_lets_in_until_its_end_and_stays_in_the_list(state, keys, tenant, enter):
    new = keys.make(tenant, KeyTerms(life_s=3600))
    assert new.info.ends_s == pytest.approx(new.info.created_s + 3600, abs=0.002)
    assert enter(new.key).verdict is Verdict.IN
    end_now(state, new.key)
    assert enter(new.key).verdict is Verdict.UNKNOWN
    assert [info.key_id for info in keys.page(tenant)[0]] == [new.info.key_id]


def test_the_last_use_is_noted_and_written_at_most_once_a_minute(state, keys, tenant, enter):
    new = keys.make(tenant, KeyTerms())
    assert new.info.used_s is None
    enter(new.key)
    used_s = keys.get(tenant, new.info.key_id).used_s
    assert used_s >= int(new.info.created_s)
    entry = entry_of(state, new.key)
    now_s = int(state._link.call("TIME")[0])
    state._link.call("HSET", entry, "used", now_s + 1000)  # so that a write would be seen, however slow this is
    enter(new.key)
    assert keys.get(tenant, new.info.key_id).used_s == now_s + 1000
    state._link.call("HSET", entry, "used", now_s - 60)
    enter(new.key)
    assert keys.get(tenant, new.info.key_id).used_s >= now_s


def test_a_rotated_key_and_its_successor_let_in_for_the_overlap_only(state, keys, tenant, enter):
    old = keys.make(tenant, KeyTerms(label="web", scopes=ALL, life_s=3600))
    new = keys.rotate(tenant, old.info.key_id, overlap_s=1800)
    assert (new.info.label, new.info.scopes, new.info.key_id != old.info.key_id) == ("web", ALL, True)
    assert new.info.ends_s == pytest.approx(new.info.created_s + 3600, abs=0.002)
    assert enter(old.key).verdict is enter(new.key).verdict is Verdict.IN
    replaced = keys.get(tenant, old.info.key_id)
    assert replaced.successor == new.info.key_id
    assert replaced.ends_s == pytest.approx(new.info.created_s + 1800, abs=0.002)
    end_now(state, old.key)
    assert enter(old.key).verdict is Verdict.UNKNOWN
    assert enter(new.key).verdict is Verdict.IN


def test_a_rotation_never_lengthens_the_life_of_the_old_key(keys, tenant):
    old = keys.make(tenant, KeyTerms(life_s=1800))
    keys.rotate(tenant, old.info.key_id, overlap_s=3600)
    assert keys.get(tenant, old.info.key_id).ends_s == old.info.ends_s


def test_a_rotation_without_overlap_ends_the_old_key_at_once(keys, tenant, enter):
    old = keys.make(tenant, KeyTerms())
    new = keys.rotate(tenant, old.info.key_id, overlap_s=0, life_s=1800)
    assert enter(old.key).verdict is Verdict.UNKNOWN
    assert enter(new.key).verdict is Verdict.IN
    assert new.info.ends_s == pytest.approx(new.info.created_s + 1800, abs=0.002)


def test_a_key_is_rotated_once_whoever_asks_at_the_same_time(keys, tenant):
    old = keys.make(tenant, KeyTerms())

    def rotate(_: int) -> str:
        try:
            return keys.rotate(tenant, old.info.key_id, overlap_s=1800).info.key_id
        except Conflict:
            return ""

    with ThreadPoolExecutor(8) as pool:
        made = sorted(pool.map(rotate, range(8)))
    assert made[:7] == [""] * 7
    assert {info.key_id for info in keys.page(tenant)[0]} == {old.info.key_id, made[7]}


def test_a_successor_that_was_revoked_leaves_the_old_key_free_to_be_rotated_again(keys, tenant):
    old = keys.make(tenant, KeyTerms())
    keys.revoke(tenant, keys.rotate(tenant, old.info.key_id, overlap_s=1800).info.key_id)
    assert keys.rotate(tenant, old.info.key_id, overlap_s=1800).info.key_id


def test_a_key_that_has_ended_or_is_not_there_cannot_be_rotated(state, keys, tenant):
    old = keys.make(tenant, KeyTerms())
    end_now(state, old.key)
    with pytest.raises(Conflict, match="has ended"):
        keys.rotate(tenant, old.info.key_id, overlap_s=1800)
    for act in (keys.get, keys.revoke, lambda tenant, name: keys.rotate(tenant, name, overlap_s=1)):
        with pytest.raises(UnknownKey):
            act(tenant, "0" * 12)


def test_asking_again_under_one_name_makes_one_key_and_shows_it_again(keys, tenant, state):
    once = Once(key="k")
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: keys.make(tenant, KeyTerms(label="web"), once=once), range(6)))
    assert len({new.key for new in made}) == len(keys.page(tenant)[0]) == 1
    assert tenant_of(state, made[0].key) == tenant
    with pytest.raises(IdempotencyConflict):
        keys.make(tenant, KeyTerms(label="other"), once=once)
    with pytest.raises(IdempotencyConflict):
        keys.rotate(tenant, made[0].info.key_id, overlap_s=1, once=once)
    keys.revoke(tenant, made[0].info.key_id)
    with pytest.raises(Conflict, match="revoked"):  # a late repetition must not let in again
        keys.make(tenant, KeyTerms(label="web"), once=once)


def test_a_repeated_rotation_under_one_name_is_one(keys, tenant):
    old = keys.make(tenant, KeyTerms())
    made = {keys.rotate(tenant, old.info.key_id, overlap_s=1800, once=Once(key="k")).key for _ in range(3)}
    assert len(made) == 1
    assert len(keys.page(tenant)[0]) == 2


def test_what_lies_in_the_store_for_a_repetition_makes_no_key_without_the_pepper(state, keys, tenant):
    new = keys.make(tenant, KeyTerms(), once=Once(key="k"))
    (entry,) = list(state._link.scan(f"{tenant}:idempotency:*"))
    assert new.key.removeprefix("m2dao_") not in str(state._link.hash(entry))
    assert 0 < state._link.call("TTL", entry) <= 24 * 3600


def test_keys_are_listed_in_pages_oldest_first(keys, tenant):
    made = [keys.make(tenant, KeyTerms(label=f"k{n}")).info.key_id for n in range(5)]
    listed, after = [], ""
    while after is not None:
        page, after = keys.page(tenant, after=after, limit=2)
        listed.append([info.key_id for info in page])
    order = {info.key_id: info.created_s for info in keys.page(tenant)[0]}
    assert [len(page) for page in listed] == [2, 2, 1]
    assert sorted(made, key=lambda name: (order[name], name)) == sum(listed, [])


def test_a_page_begins_where_it_was_to_begin_although_that_key_was_revoked(keys, tenant):
    for _ in range(3):
        keys.make(tenant, KeyTerms())
    first, after = keys.page(tenant, limit=1)
    keys.revoke(tenant, first[0].key_id)
    assert len(keys.page(tenant, after=after, limit=10)[0]) == 2


def test_a_tenant_has_no_more_keys_than_anybody_can_oversee(state, keys, tenant):
    for number in range(200):
        state._link.call("HSET", names.api_keys(tenant), f"{number:012x}", '{"hash":"x","label":"","created_s":1}')
    with pytest.raises(Conflict, match="at most 200"):
        keys.make(tenant, KeyTerms())


@pytest.mark.parametrize(
    "terms", [KeyTerms(scopes=()), KeyTerms(life_s=0), KeyTerms(life_s=1e12), KeyTerms(label="a\nb")]
)
def test_terms_that_cannot_be_are_refused(keys, tenant, terms):
    with pytest.raises(InputError):
        keys.make(tenant, terms)
    assert keys.page(tenant) == ([], None)


@pytest.mark.parametrize("overlap_s", [-1, 1e9])
def test_an_overlap_that_cannot_be_is_refused(keys, tenant, overlap_s):
    old = keys.make(tenant, KeyTerms())
    with pytest.raises(InputError):
        keys.rotate(tenant, old.info.key_id, overlap_s=overlap_s)
