"""What an operator does about tenants."""

from __future__ import annotations

import pytest

from cluster.control.sweep import sweep_all_renders
from cluster.control.tenants import Tenants
from cluster.object_keys import object_key
from cluster.platform import Platform
from m2dao.errors import AlreadyExists, InvalidId


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


def test_a_name_that_cannot_be_a_tenants_is_refused(tenants):
    with pytest.raises(InvalidId):
        tenants.create("Not A Tenant")


def test_a_sweep_goes_through_all_tenants_and_leaves_what_is_young(platform, tenant):
    platform.store.put_bytes(object_key(tenant, "renders", "r-1", "video.mp4"), b"x")
    assert sweep_all_renders(platform.state, platform.store, days=8)[tenant] == 0
