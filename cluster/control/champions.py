"""Moves the champion: checks, swaps and announces as one, though MLflow only sets aliases.

A lock in Redis keeps two promotions of one identity apart; the expected version catches the one that decided on old
facts; and the message lets every ingress forget the old answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.ids import AliasRef, IdentityName, ModelRef, TenantId
from cluster.registry import Registry
from cluster.state.store import StateStore
from cluster.versions import VersionInfo
from m2dao.errors import PromotionConflict, UnknownIdentity

TOPIC = "champion"
ANY_VERSION = -1
_LOCK_S = 60.0


@dataclass(frozen=True, kw_only=True)
class ChampionChange:
    """What a promotion did."""

    champion: ModelRef
    previous: ModelRef | None

    def message(self) -> dict[str, str | int | None]:
        """What listeners of the topic ``champion`` are told."""
        ref = self.champion
        return {
            "tenant": str(ref.tenant),
            "identity": str(ref.identity),
            "version": ref.version,
            "ref": str(ref),
            "previous": None if self.previous is None else self.previous.version,
        }


class Champions:
    """The champions of all identities.

    Args:
        registry: where the aliases are.
        state: where the locks are, and where moves are announced.
    """

    def __init__(self, registry: Registry, state: StateStore):
        self._registry, self._state = registry, state

    def current(self, tenant: TenantId, identity: IdentityName) -> VersionInfo | None:
        """The champion of an identity, if it has one."""
        try:
            return self._registry.describe(AliasRef(tenant, identity, "champion"))
        except UnknownIdentity:
            return None

    def move(self, ref: ModelRef, *, expected: int | None = ANY_VERSION, wait_s: float = 10.0) -> ChampionChange:
        """Make ``ref`` the champion of its identity, and the champion until now the alias ``previous``.

        Args:
            ref: a complete version.
            expected: the version that must be the champion now, None for no champion yet, ``ANY_VERSION`` for any.
            wait_s: how long to wait for another promotion of this identity to end.

        Raises:
            PromotionConflict: another version than the expected one is the champion.
            UnknownIdentity: there is no such complete version.
            LockBusy: another promotion did not end in time.
        """
        self._registry.describe(ref)
        with self._state.limits.lock(ref.tenant, f"promote:{ref.identity}", ttl_s=_LOCK_S, wait_s=wait_s):
            champion = self.current(ref.tenant, ref.identity)
            previous = None if champion is None else champion.ref
            if expected != ANY_VERSION:
                require_version(ref, expected, previous)
            if previous is not None and previous != ref:
                self._registry.set_alias(previous, "previous")
            self._registry.set_alias(ref, "champion")
        change = ChampionChange(champion=ref, previous=previous)
        self._state.events.publish(TOPIC, change.message())
        return change


def require_version(ref: ModelRef, expected: int | None, champion: ModelRef | None) -> None:
    """Return when the champion of ``ref``'s identity is the expected version, or rightly none.

    Raises:
        PromotionConflict: it is another one.
    """
    now = None if champion is None else champion.version
    if now != expected:
        raise PromotionConflict(
            f"champion of {ref.registry_name}", f"version {expected}", f"version {now}", "look again and decide anew"
        )
