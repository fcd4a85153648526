"""The audit trail: each act is noted by the script that does it, with who did it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cluster.control.people.audit import acting_as_command
from cluster.control.people.keys import Keys
from cluster.control.people.tokens import Tokens
from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.keeper.keeper import Keeper
from cluster.state.people.audit import acting
from cluster.state.people.principals import KeyTerms, Scope
from cluster.state.store import StateStore
from cluster.state.versions import VersionFacts
from m2dao.errors import Conflict, PromotionConflict, UnknownKey, UnknownToken
from tests.support.stack import reaching

ANNA = IdentityName("anna")


def trail(state: StateStore, tenant: TenantId) -> list[tuple[str, str, str, str]]:
    """What was done, on what, from what, to what; oldest first, without the making of the tenant."""
    entries, _ = state.audit.page(tenant)
    return [(entry.what, entry.on, entry.before, entry.after) for entry in entries[::-1]][1:]


def two_versions(state: StateStore, tenant: TenantId) -> tuple[ModelRef, ModelRef]:
    refs = ModelRef(tenant, ANNA, 1), ModelRef(tenant, ANNA, 2)
    for ref in refs:
        state.versions.commit(ref, VersionFacts(files_sha256="a" * 64, num_bytes=3))
    return refs


def test_acts_on_keys_are_noted_and_attempts_are_not(state, tenant):
    keys = Keys(state.accounts)
    first = keys.make(tenant, KeyTerms(scopes=(Scope.ADMIN, Scope.CLIENT))).info.key_id
    second = keys.rotate(tenant, first, overlap_s=60).info.key_id
    with pytest.raises(Conflict):
        keys.rotate(tenant, first, overlap_s=60)
    keys.revoke(tenant, first)
    with pytest.raises(UnknownKey):
        keys.revoke(tenant, first)
    assert trail(state, tenant) == [
        ("create-key", f"key:{first}", "", "admin,client"),
        ("rotate-key", f"key:{second}", first, "admin,client"),
        ("revoke-key", f"key:{first}", "", ""),
    ]


def test_acts_on_client_tokens_are_noted(state, tenant):
    two_versions(state, tenant)
    tokens = Tokens(state.tokens)
    token_id = tokens.make(tenant, "anna", origin="https://a.example", life_s=3600).info.token_id
    tokens.revoke(tenant, token_id)
    with pytest.raises(UnknownToken):
        tokens.revoke(tenant, token_id)
    on = f"token:{token_id}"
    assert trail(state, tenant) == [("create-token", on, "", "anna"), ("revoke-token", on, "", "")]


def test_promotions_and_deletions_are_noted_from_which_version_to_which(state, tenant):
    first, second = two_versions(state, tenant)
    champions = state.champions
    champions.promote(first)
    champions.promote(second, request="wish")
    champions.promote(second, request="wish")  # the same wish again moves nothing
    with pytest.raises(PromotionConflict):
        champions.promote(first, epoch=77)
    champions.challenge(tenant, ANNA, 1)
    champions.roll_back(tenant, ANNA)
    champions.clear(tenant, ANNA)
    state.versions.retire(first)
    state.versions.retire(first)  # as after a crash
    on = "identity:anna"
    assert trail(state, tenant) == [
        ("promote", on, "", "1"),
        ("promote", on, "1", "2"),
        ("challenge", on, "", "1"),
        ("roll-back", on, "2", "1"),
        ("clear-champion", on, "1", ""),
        ("delete-version", on, "1", ""),
    ]


def test_an_act_is_noted_as_done_by_who_acts_at_that_moment(state, tenant):
    def act(by: str) -> None:
        with acting(by):
            state.accounts.create_api_key(tenant)

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(act, f"key:{number}") for number in range(4)))

    asyncio.run(both())
    state.accounts.create_api_key(tenant)
    with acting_as_command():
        state.accounts.create_api_key(tenant)
    by = [entry.by for entry in state.audit.page(tenant)[0]]
    assert by[0].startswith("command:")
    assert len(by[0]) > len("command:")
    assert by[1] == "platform"
    assert sorted(by[2:6]) == [f"key:{number}" for number in range(4)]


def test_what_a_chore_of_the_keeper_does_is_noted_as_the_keepers(state, tenant):
    stop = threading.Event()

    class Making:
        name = "making"

        def do(self, lease):
            if not stop.is_set():
                state.accounts.create_api_key(tenant)
            stop.set()
            return 1.0

    Keeper(state.seats, [Making()]).run(stop)
    assert [entry.by for entry in state.audit.page(tenant)[0]] == ["keeper", "platform"]


def test_a_trail_is_read_in_pages_the_newest_first(state, tenant):
    for _ in range(4):
        state.accounts.create_api_key(tenant)
    whole, _ = state.audit.page(tenant)
    listed, before = [], ""
    while before is not None:
        page, before = state.audit.page(tenant, before=before, limit=2)
        listed.append(page)
    assert [len(page) for page in listed] == [2, 2, 1]
    assert sum(listed, []) == whole
    assert [entry.at_s for entry in whole] == sorted((entry.at_s for entry in whole), reverse=True)
    assert whole[-1].what == "create-tenant"


def test_the_oldest_entries_leave_beyond_the_number_of_the_setting(stack, tenant):
    few = StateStore(reaching(stack, audit_entries="100"))
    for number in range(105):
        two_versions(few, tenant)
        few.champions.promote(ModelRef(tenant, ANNA, number % 2 + 1))
    entries, following = few.audit.page(tenant, limit=1000)
    assert (len(entries), following) == (100, None)
    assert entries[0].after == "1"
    few.close()


def test_a_key_that_makes_many_tokens_pushes_no_other_act_out(stack, tenant):
    few = StateStore(reaching(stack, audit_entries="100"))
    two_versions(few, tenant)
    for _ in range(105):
        Tokens(few.tokens).make(tenant, "anna", origin="https://a.example", life_s=60)
    entries, following = few.audit.page(tenant, limit=1000)
    assert [entry.what for entry in entries] == ["create-token"] * 100 + ["create-tenant"]
    assert following is None
    few.close()


def test_acts_on_tokens_and_others_are_read_as_one_trail_page_by_page(state, tenant):
    first, second = two_versions(state, tenant)
    for number in range(6):
        Tokens(state.tokens).make(tenant, "anna", origin="https://a.example", life_s=60)
        state.champions.promote((first, second)[number % 2])
    whole, _ = state.audit.page(tenant)
    assert [entry.what for entry in whole] == ["promote", "create-token"] * 6 + ["create-tenant"]
    assert len({entry.entry_id for entry in whole}) == 13
    listed, before = [], ""
    while before is not None:
        page, before = state.audit.page(tenant, before=before, limit=3)
        listed += page
    assert listed == whole


def test_a_tenant_sees_its_own_trail_only_and_it_leaves_with_the_tenant(state, tenant):
    other = TenantId(f"{tenant}-other")
    state.accounts.create_tenant(other)
    state.accounts.create_api_key(tenant)
    assert [entry.what for entry in state.audit.page(other)[0]] == ["create-tenant"]
    state.accounts.delete_tenant(other)
    assert state.audit.page(other) == ([], None)
