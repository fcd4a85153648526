"""Tenants, as an operator handles them."""

from __future__ import annotations

from cluster.ids import TenantId
from cluster.state.accounts import Accounts


class Tenants:
    """What an operator can do about tenants. Names come as text, and are checked here.

    Args:
        accounts: where tenants are kept.
    """

    def __init__(self, accounts: Accounts):
        self._accounts = accounts

    def create(self, name: str) -> TenantId:
        """Add a tenant.

        Raises:
            AlreadyExists: there is one of that name.
        """
        tenant = TenantId.parse(name)
        self._accounts.create_tenant(tenant)
        return tenant

    def list(self) -> list[TenantId]:
        """All tenants, by name."""
        return self._accounts.list_tenants()
