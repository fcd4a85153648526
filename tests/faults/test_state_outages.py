"""Outages of Redis, S3 and MLflow: a clear error in bounded time, and all works again afterwards."""

import json
import urllib.parse

import pytest

from cluster.ids import AliasRef, IdentityName
from cluster.object_keys import object_key
from cluster.registry import Registry
from cluster.state import keys
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import RegistryUnavailable, ServiceUnavailable, StateUnavailable, StorageUnavailable, UnknownIdentity
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import reaching, tenant_of


def publish(state, topic, message):
    """What the scripts do; returns how many heard it."""
    return state._link.call("PUBLISH", keys.channel(topic), json.dumps(message))


@pytest.fixture
def behind_proxy(stack):
    """Makes (settings, proxy) for a service, the settings reaching it through the proxy."""
    proxies = []

    def make(setting):
        address = stack.require(setting)
        port = urllib.parse.urlsplit(address).port
        proxy = FaultProxy(port)
        proxies.append(proxy.__enter__())
        return reaching(stack, **{setting.replace(".", "_"): address.replace(f":{port}", f":{proxy.port}")}), proxy

    yield make
    for proxy in proxies:
        proxy.__exit__(None, None, None)


def test_redis_down_is_state_unavailable_and_it_recovers(behind_proxy, tenant):
    settings, proxy = behind_proxy("redis.url")
    state = StateStore(settings)
    state.jobs.create(tenant, "render", {})
    claim = state.jobs.claim("render", worker="w", lease_s=60, tenant=tenant)
    proxy.refuse()
    for act in (
        state.check,
        lambda: state.jobs.create(tenant, "render", {}),
        lambda: state.jobs.heartbeat(claim, lease_s=60),
        lambda: tenant_of(state, "m2dao_" + "A" * 43),
        lambda: publish(state, "champion", {}),
    ):
        with pytest.raises(StateUnavailable) as caught:
            act()
        assert caught.value.__cause__ is not None
    proxy.heal()
    assert state.jobs.finish(claim, {"n": 1}).status == "done"
    state.close()


def test_a_connection_that_broke_while_idle_is_not_noticed(behind_proxy, tenant):
    settings, proxy = behind_proxy("redis.url")
    state = StateStore(settings)
    state.check()
    proxy.refuse()
    proxy.heal()
    assert tenant in state.accounts.list_tenants()
    assert proxy.num_connections >= 2
    state.close()


def test_a_listener_learns_of_the_outage_and_hears_again_afterwards(behind_proxy):
    settings, proxy = behind_proxy("redis.url")
    state = StateStore(settings)
    with state.events.subscribe("champion") as messages:
        publish(state, "champion", {"n": 1})
        assert messages.get(5) == ("champion", {"n": 1})
        proxy.refuse()
        with pytest.raises(StateUnavailable):
            messages.get(5)
        proxy.heal()
        heard = None
        for _ in range(200):  # until it has subscribed again
            publish(state, "champion", {"n": 2})
            heard = messages.get(0.05)
            if heard:
                break
        assert heard == ("champion", {"n": 2})
    state.close()


def test_redis_hanging_is_state_unavailable_in_bounded_time(behind_proxy, monkeypatch):
    monkeypatch.setattr("cluster.state.link.ANSWER_TIMEOUT_S", 0.2)
    settings, proxy = behind_proxy("redis.url")
    state = StateStore(settings)
    state.check()
    proxy.stall()
    with pytest.raises(StateUnavailable):
        state.check()
    proxy.heal()
    state.check()
    state.close()


def test_s3_down_is_storage_unavailable_and_it_recovers(behind_proxy, tenant, tmp_path):
    settings, proxy = behind_proxy("s3.endpoint")
    store = ObjectStore(settings)
    key = object_key(tenant, "x")
    store.put_bytes(key, b"x")
    (tmp_path / "f").write_bytes(b"y")
    proxy.refuse()
    for act in (
        store.check,
        lambda: store.get_bytes(key),
        lambda: store.put_bytes(key, b"z"),
        lambda: store.put_file(key, tmp_path / "f"),
        lambda: store.exists(key),
        lambda: list(store.list(f"{tenant}/")),
        lambda: store.get_file(key, tmp_path / "g"),
    ):
        with pytest.raises(StorageUnavailable) as caught:
            act()
        assert caught.value.__cause__ is not None
    assert not (tmp_path / "g").exists()
    proxy.heal()
    assert store.get_bytes(key) == b"x"


def test_mlflow_down_is_registry_unavailable_and_what_serves_is_known_all_the_same(behind_proxy, tenant, tmp_path):
    settings, proxy = behind_proxy("mlflow.url")
    registry = Registry(settings)
    (tmp_path / "identity.json").write_text("{}")
    ref = registry.register_version(tenant, IdentityName("anna"), tmp_path, metrics={}, tags={})
    proxy.refuse()
    for act in (registry.check, lambda: registry.describe(ref), lambda: registry.ledger.tag(ref, {"a": "b"})):
        with pytest.raises(RegistryUnavailable) as caught:
            act()
        assert caught.value.__cause__ is not None
        assert isinstance(caught.value, ServiceUnavailable)
    assert registry.resolve(ref) == ref
    with pytest.raises(UnknownIdentity):
        registry.resolve(AliasRef(tenant, IdentityName("anna")))
    proxy.heal()
    assert registry.describe(ref).ref == ref


def test_s3_down_in_a_registration_leaves_no_version_that_counts(behind_proxy, stack, tenant, tmp_path):
    settings, proxy = behind_proxy("s3.endpoint")
    registry = Registry(settings)
    anna = IdentityName("anna")
    (tmp_path / "identity.json").write_text("{}")
    proxy.refuse()
    with pytest.raises(StorageUnavailable):
        registry.register_version(tenant, anna, tmp_path, metrics={}, tags={})
    assert StateStore(stack).champions.identities(tenant) == []
    proxy.heal()
    ref = registry.register_version(tenant, anna, tmp_path, metrics={}, tags={})
    assert registry.resolve(ref) == ref
