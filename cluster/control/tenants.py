"""Tenants and their API keys, as an operator handles them."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.ids import TenantId
from cluster.state.accounts import Accounts, ApiKeyInfo


@dataclass(frozen=True, kw_only=True)
class NewApiKey:
    """An API key at the one moment at which it can be seen."""

    tenant: TenantId
    key: str


class Tenants:
    """What an operator can do about tenants. Names come as text, and are checked here.

    Every method raises ``InvalidId`` for a name that cannot be a tenant's.

    Args:
        accounts: where tenants and keys are kept.
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

    def create_key(self, name: str, *, label: str = "") -> NewApiKey:
        """Make an API key.

        Raises:
            UnknownTenant: there is no such tenant.
            InputError: the label is too long.
        """
        tenant = TenantId.parse(name)
        return NewApiKey(tenant=tenant, key=self._accounts.create_api_key(tenant, label=label))

    def keys(self, name: str) -> tuple[ApiKeyInfo, ...]:
        """A tenant's API keys, oldest first."""
        return tuple(self._accounts.list_api_keys(TenantId.parse(name)))

    def revoke_key(self, name: str, key_id: str) -> bool:
        """Void an API key at once; returns whether there was such a key."""
        return self._accounts.revoke(TenantId.parse(name), key_id)
