"""A tenant's API keys: make, list, rotate, revoke."""

from __future__ import annotations

from cluster.ids import TenantId
from cluster.state.accounts import Accounts
from cluster.state.new_jobs import Once
from cluster.state.people.principals import ApiKeyInfo, KeyTerms, NewApiKey, unknown_key


class Keys:
    """What may be done about API keys, by whoever may.

    Args:
        accounts: where keys are kept.
    """

    def __init__(self, accounts: Accounts):
        self._accounts = accounts

    def make(self, tenant: TenantId, terms: KeyTerms, *, once: Once | None = None) -> NewApiKey:
        """Make a key.

        Raises:
            UnknownTenant: there is no such tenant.
            InputError: the terms cannot be.
            IdempotencyConflict: another key was asked for under the same name.
            Conflict: the tenant has as many keys as it may have.
        """
        return self._accounts.make_api_key(tenant, terms, once=once)

    def page(self, tenant: TenantId, *, after: str = "", limit: int = 100) -> tuple[list[ApiKeyInfo], str | None]:
        """Some of the keys, oldest first, and where the next page begins.

        Args:
            after: what the page before gave; empty for the first.
            limit: how many at most.
        """
        rest = [info for info in self._accounts.list_api_keys(tenant) if _cursor(info) > _padded(after)]
        return rest[:limit], _cursor(rest[limit - 1]).lstrip("0") if len(rest) > limit else None

    def get(self, tenant: TenantId, key_id: str) -> ApiKeyInfo:
        """One key.

        Raises:
            UnknownKey: the tenant has no such key.
        """
        return self._accounts.api_key(tenant, key_id)

    def rotate(
        self, tenant: TenantId, key_id: str, *, overlap_s: float, life_s: float | None = None, once: Once | None = None
    ) -> NewApiKey:
        """Make a key in place of another, which goes on letting in for ``overlap_s`` seconds.

        Raises:
            UnknownKey: the tenant has no such key.
            Conflict: it was rotated already, or has ended.
            InputError: an overlap or a life that cannot be.
        """
        return self._accounts.rotate_api_key(tenant, key_id, overlap_s=overlap_s, life_s=life_s, once=once)

    def revoke(self, tenant: TenantId, key_id: str) -> None:
        """Void a key at once.

        Raises:
            UnknownKey: the tenant has no such key.
        """
        self._accounts.api_key(tenant, key_id)  # the ledger of erasures keeps every name that it is told
        if not self._accounts.revoke(tenant, key_id):
            raise unknown_key()


def _cursor(info: ApiKeyInfo) -> str:
    return _padded(f"{round(info.created_s * 1000)}-{info.key_id}")


def _padded(cursor: str) -> str:
    return cursor.rjust(15 + 1 + 12, "0") if cursor else ""
