"""Moves the champion: checks, swaps and announces as one, though MLflow only sets aliases.

A lock in Redis keeps two promotions of one identity apart; the expected version catches the one that decided on old
facts; and the message lets every ingress forget the old answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.ids import AliasRef, ModelRef
from cluster.registry import Registry
from cluster.state.store import StateStore
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
            "previous": self.previous and self.previous.version,
        }


def move_champion(
    registry: Registry, state: StateStore, ref: ModelRef, *, expected: int | None = ANY_VERSION, wait_s: float = 10.0
) -> ChampionChange:
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
    registry.describe(ref)
    with state.limits.lock(ref.tenant, f"promote:{ref.identity}", ttl_s=_LOCK_S, wait_s=wait_s):
        try:
            previous = registry.resolve(AliasRef(ref.tenant, ref.identity, "champion"))
        except UnknownIdentity:
            previous = None
        now = previous and previous.version
        if expected != ANY_VERSION and now != expected:
            raise PromotionConflict(
                f"champion of {ref.registry_name}",
                f"version {expected}",
                f"version {now}",
                "look again and decide anew",
            )
        if previous is not None and previous != ref:
            registry.set_alias(previous, "previous")
        registry.set_alias(ref, "champion")
    change = ChampionChange(champion=ref, previous=previous)
    state.events.publish(TOPIC, change.message())
    return change
