"""Client tokens in Redis: they leave by themselves, and are listed while they let in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.control.people.tokens import Tokens
from cluster.ids import IdentityName, ModelRef
from cluster.state import keys as names
from cluster.state.new_jobs import Once
from cluster.state.people.principals import Scope, scopes_of
from cluster.state.versions import VersionFacts
from m2dao.errors import Conflict, InputError, InvalidId, UnknownIdentity, UnknownToken

PAGE = "https://app.example.com"


@pytest.fixture
def tokens(state, tenant) -> Tokens:
    state.versions.commit(ModelRef(tenant, IdentityName("anna"), 1), VersionFacts(files_sha256="a" * 64, num_bytes=3))
    return Tokens(state.tokens)


def make(tokens, tenant, life_s: float = 900, once: Once | None = None):
    return tokens.make(tenant, "anna", origin=PAGE, life_s=life_s, once=once)


def test_a_token_leaves_the_store_by_itself_when_it_ends(state, tokens, tenant):
    new = make(tokens, tenant, life_s=3600)
    entry = state.accounts.key_of(new.token)
    assert 0 < state._link.call("PTTL", entry) <= 3_600_000
    assert new.info.ends_s == pytest.approx(new.info.created_s + 3600, abs=0.002)
    state._link.call("DEL", entry)  # what its end does
    for act in (tokens.get, tokens.revoke):
        with pytest.raises(UnknownToken):
            act(tenant, new.info.token_id)
    assert tokens.page(tenant)[0] == []


def test_the_names_of_ended_tokens_leave_with_the_next_that_is_made(state, tokens, tenant):
    table, ends = names.client_tokens(tenant)
    for number in range(3):
        name = f"{number:012x}"
        state._link.call("HSET", table, name, f"{1:015d}-digest")
        state._link.call("ZADD", ends, 0, f"{1:015d}-{name}")
    new = make(tokens, tenant)
    assert list(state._link.hash(table)) == [new.info.token_id]
    assert state._link.call("ZCARD", ends) == 1


def test_no_token_is_in_the_store_in_a_form_that_lets_in(state, tokens, tenant):
    new = make(tokens, tenant, once=Once(key="k"))
    secret = new.token.rpartition("_")[2]
    hashes = [name for name in state._link.scan(f"{tenant}:*") if state._link.call("TYPE", name) == "hash"]
    texts = [f"{name} {state._link.hash(name)}" for name in hashes]
    entry = state.accounts.key_of(new.token)
    assert secret not in " ".join([*texts, entry, str(state._link.hash(entry))])


def test_asking_again_under_one_name_makes_one_token(tokens, tenant):
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: make(tokens, tenant, once=Once(key="k")), range(6)))
    assert len({new.token for new in made}) == len(tokens.page(tenant)[0]) == 1
    tokens.revoke(tenant, made[0].info.token_id)
    with pytest.raises(Conflict, match="has ended"):
        make(tokens, tenant, once=Once(key="k"))


def test_asking_again_once_the_token_has_ended_is_a_conflict(state, tokens, tenant):
    new = make(tokens, tenant, once=Once(key="k"))
    state._link.call("DEL", state.accounts.key_of(new.token))  # what its end does
    with pytest.raises(Conflict, match="has ended"):
        make(tokens, tenant, once=Once(key="k"))


def test_asking_again_with_another_pepper_gives_no_token_that_lets_nobody_in(state, tokens, tenant, monkeypatch):
    make(tokens, tenant, once=Once(key="k"))
    monkeypatch.setattr(state.accounts, "_pepper", b"another pepper")
    monkeypatch.setattr(state.accounts, "check_pepper", lambda: None)  # both are accepted, as in a rotation
    with pytest.raises(Conflict, match="pepper"):
        make(tokens, tenant, once=Once(key="k"))


def test_scopes_of_a_later_release_are_left_out():
    assert scopes_of("client,painter") == (Scope.CLIENT,)
    assert scopes_of("painter") == ()


def test_tokens_are_listed_in_pages_the_next_to_end_first(tokens, tenant):
    made = [make(tokens, tenant, life_s=600 * (5 - number)).info.token_id for number in range(5)]
    listed, after = [], ""
    while after is not None:
        page, after = tokens.page(tenant, after=after, limit=2)
        listed.append([info.token_id for info in page])
    assert [len(page) for page in listed] == [2, 2, 1]
    assert sum(listed, []) == made[::-1]


def test_a_deleted_tenant_leaves_no_token_behind(state, tokens, tenant):
    new = make(tokens, tenant)
    entry = state.accounts.key_of(new.token)
    state.accounts.delete_tenant(tenant)
    assert state._link.call("EXISTS", entry) == 0
    assert list(state._link.scan(f"{tenant}:*")) == []


@pytest.mark.parametrize("life_s", [0, 3600.5, 1e9])
def test_a_token_lives_an_hour_at_most(tokens, tenant, life_s):
    with pytest.raises(InputError):
        make(tokens, tenant, life_s=life_s)


@pytest.mark.parametrize(
    "origin", ["", "*", "app.example.com", "https://App.example.com", f"{PAGE},{PAGE}", "file://x"]
)
def test_an_origin_that_no_browser_sends_is_refused(tokens, tenant, origin):
    with pytest.raises(InputError):
        tokens.make(tenant, "anna", origin=origin, life_s=60)


def test_a_token_is_for_an_identity_that_is_there(tokens, tenant):
    with pytest.raises(UnknownIdentity):
        tokens.make(tenant, "nobody", origin=PAGE, life_s=60)
    with pytest.raises(InvalidId):
        tokens.make(tenant, "Not A Name", origin=PAGE, life_s=60)
