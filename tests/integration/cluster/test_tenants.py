"""What an operator does about tenants and keys."""

from __future__ import annotations

import pytest

from cluster.control.sweep import sweep_all_renders
from cluster.control.tenants import Tenants
from cluster.object_keys import object_key
from cluster.platform import Platform
from m2dao.errors import AlreadyExists, InvalidId
from tests.support.stack import tenant_of


@pytest.fixture(scope="module")
def platform(stack):
    return Platform(stack)


@pytest.fixture
def tenants(platform):
    return Tenants(platform.state.accounts)


def test_a_tenant_is_made_once_and_listed(tenants, tenant):
    made = tenants.create(f"{tenant}-more")
    assert {tenant, made} <= set(tenants.list())
    with pytest.raises(AlreadyExists):
        tenants.create(str(made))


def test_a_key_lets_in_until_it_is_revoked(tenants, platform, tenant):
    new = tenants.create_key(str(tenant), label="web")
    assert tenant_of(platform.state, new.key) == new.tenant == tenant
    (info,) = tenants.keys(str(tenant))
    assert info.label == "web"
    assert tenants.revoke_key(str(tenant), info.key_id)
    assert not tenants.revoke_key(str(tenant), info.key_id)
    assert tenant_of(platform.state, new.key) is None


def test_a_name_that_cannot_be_a_tenants_is_refused_everywhere(tenants):
    for act in (tenants.create, tenants.create_key, tenants.keys, lambda name: tenants.revoke_key(name, "k")):
        with pytest.raises(InvalidId):
            act("Not A Tenant")


def test_a_sweep_goes_through_all_tenants_and_leaves_what_is_young(platform, tenant):
    platform.store.put_bytes(object_key(tenant, "renders", "r-1", "video.mp4"), b"x")
    assert sweep_all_renders(platform.state, platform.store, days=8)[tenant] == 0
