"""Tenants, API keys, messages and limits, against a real Valkey."""

import json
import pickle

import pytest
import redis

from cluster.ids import TenantId
from cluster.state import keys
from cluster.state.new_jobs import Once
from cluster.state.store import StateStore
from m2dao.errors import AlreadyExists, ConfigError, InputError, ServiceError, UnknownTenant
from tests.support.stack import reaching, tenant_of


def publish(state, topic, message):
    """What the scripts do; returns how many heard it."""
    return state._link.call("PUBLISH", keys.channel(topic), json.dumps(message))


def test_a_tenant_is_made_once_and_listed(state, tenant):
    with pytest.raises(AlreadyExists):
        state.accounts.create_tenant(tenant)
    assert tenant in state.accounts.list_tenants()
    assert TenantId("nobody") not in state.accounts.list_tenants()


def test_an_api_key_lets_in_its_tenant_and_nobody_else(state, tenant):
    key, another = state.accounts.create_api_key(tenant), state.accounts.create_api_key(tenant, label="web")
    assert key != another
    assert len(key) >= len("m2dao_") + 43
    assert tenant_of(state, key) == tenant == tenant_of(state, another)
    flipped = key[:-2] + ("A" if key[-2] != "A" else "B") + key[-1]
    for wrong in ("", "m2dao_", flipped, key + "A", key.upper(), f" {key}", f"{key}\n", "*"):
        assert tenant_of(state, wrong) is None


def test_no_key_is_in_the_store_in_any_form_that_lets_in(state, tenant, stack):
    key = state.accounts.create_api_key(tenant, label="web")
    everything = []
    with redis.Redis.from_url(stack.require("redis.url")) as raw:  # other tests' jobs hold sounds, which are no text
        for name in raw.scan_iter("*"):
            content = raw.hgetall(name) if raw.type(name) == b"hash" else {}
            everything += [name, *content.keys(), *content.values()]
    text = b"\n".join(everything)
    assert str(tenant).encode() in text
    assert key.encode() not in text
    assert key.removeprefix("m2dao_").encode() not in text
    # Without the pepper a copy of the store cannot even confirm a key.
    thief = StateStore(reaching(stack, key_pepper="guessed"))
    assert tenant_of(thief, key) is None


def test_a_process_with_another_pepper_makes_no_keys(stack, state, tenant):
    state.accounts.create_api_key(tenant)
    other = StateStore(reaching(stack, key_pepper="another"))
    with pytest.raises(ConfigError, match=r"M2DAO_KEY_PEPPER: expected the one with the fingerprint \w+; got that of"):
        other.accounts.create_api_key(tenant)
    assert len(state.accounts.list_api_keys(tenant)) == 1
    other.close()


def test_a_revoked_key_stops_at_once_and_the_others_go_on(state, tenant):
    keys = [state.accounts.create_api_key(tenant, label=f"k{n}") for n in range(2)]
    infos = state.accounts.list_api_keys(tenant)
    assert [info.label for info in infos] == ["k0", "k1"]
    assert infos[0].created_s <= infos[1].created_s
    assert state.accounts.revoke(tenant, infos[0].key_id)
    assert tenant_of(state, keys[0]) is None
    assert tenant_of(state, keys[1]) == tenant
    assert not state.accounts.revoke(tenant, infos[0].key_id)
    assert [info.label for info in state.accounts.list_api_keys(tenant)] == ["k1"]


def test_a_tenant_cannot_revoke_anothers_key(state, tenant):
    other = TenantId(f"{tenant}-x")
    state.accounts.create_tenant(other)
    key = state.accounts.create_api_key(tenant)
    (info,) = state.accounts.list_api_keys(tenant)
    assert not state.accounts.revoke(other, info.key_id)
    assert tenant_of(state, key) == tenant


def test_a_deleted_tenant_leaves_nothing_and_its_neighbour_loses_nothing(state, tenant):
    neighbour = TenantId(f"{tenant}-2")  # the names begin the same
    for name in (tenant, neighbour):
        if name not in state.accounts.list_tenants():
            state.accounts.create_tenant(name)
    keys = {name: state.accounts.create_api_key(name) for name in (tenant, neighbour)}
    for name in keys:
        state.jobs.create(name, "render", {}, once=Once(key="k"))
    state.accounts.delete_tenant(tenant)
    assert tenant_of(state, keys[tenant]) is None
    assert list(state._link.scan(f"{tenant}:*")) == []
    assert tenant not in state.accounts.list_tenants()
    assert tenant_of(state, keys[neighbour]) == neighbour
    assert len(state.jobs.list(neighbour, "render")) == 1
    with pytest.raises(UnknownTenant):
        state.accounts.delete_tenant(tenant)


def test_keys_are_made_for_tenants_that_exist_with_labels_that_print(state, tenant):
    with pytest.raises(UnknownTenant):
        state.accounts.create_api_key(TenantId("nobody"))
    for label in ("x" * 81, "a\nb", "\x1b[31m"):
        with pytest.raises(InputError):
            state.accounts.create_api_key(tenant, label=label)


def test_a_message_reaches_every_listener_of_its_topic_only(state):
    with state.events.subscribe("champion") as one, state.events.subscribe("champion", "other") as two:
        assert publish(state, "champion", {"ref": "acme.anna@7"}) == 2
        assert one.get(5) == two.get(5) == ("champion", {"ref": "acme.anna@7"})
        publish(state, "other", {"n": 1})
        assert two.get(5) == ("other", {"n": 1})
        assert one.get(0.01) is None
    assert publish(state, "champion", {}) == 0


def test_a_store_can_be_sent_to_another_process(state, tenant):
    copy = pickle.loads(pickle.dumps(state))
    assert tenant in copy.accounts.list_tenants()
    copy.close()


def test_a_wrong_password_says_which_setting_to_check(stack):
    stranger = StateStore(reaching(stack, redis_url=stack.require("redis.url").replace("redis://:", "redis://:wrong")))
    with pytest.raises(ServiceError, match="M2DAO_REDIS_URL"):
        stranger.check()
