"""Promotes and rolls back: decides with which facts a champion may move, and moves it once.

The state store compares and moves in one step (``cluster/state/champions.py``). What is decided here carries the epoch
that it was decided with, so a decision on old facts is refused.
"""

from __future__ import annotations

from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.state.champions import Champion, ChampionChange, no_previous
from cluster.state.store import StateStore
from m2dao.errors import PromotionConflict


class Champions:
    """The champions of all identities.

    Args:
        state: where it is decided, and where moves are announced.
    """

    def __init__(self, state: StateStore):
        self._state = state

    def current(self, tenant: TenantId, identity: IdentityName) -> Champion:
        """What stands for an identity."""
        return self._state.champions.get(tenant, identity)

    def move(self, ref: ModelRef, *, decided_with: Champion | None = None, request: str = "") -> ChampionChange:
        """Make ``ref`` the champion of its identity, and the champion until now ``previous``.

        Args:
            ref: a complete version.
            decided_with: what stood for the identity when this was decided; None for whatever stands now.
            request: a name for this wish; see ``ChampionTable.promote``.

        Raises:
            PromotionConflict: the champion has moved since.
            UnknownIdentity: there is no such complete version.
        """
        epoch = None if decided_with is None else decided_with.epoch
        return self._state.champions.promote(ref, epoch=epoch, request=request)

    def roll_back(self, tenant: TenantId, identity: IdentityName) -> ChampionChange:
        """Make the champion before the present one the champion again; the present one becomes ``previous``.

        Raises:
            UnknownIdentity: there is no previous champion.
            PromotionConflict: the champion moved meanwhile.
        """
        champion = self.current(tenant, identity)
        if champion.previous is None:
            raise no_previous(tenant, identity)
        return self._state.champions.roll_back(tenant, identity, epoch=champion.epoch)


def require_version(ref: ModelRef, expected: int, champion: Champion) -> None:
    """Return when the champion of ``ref``'s identity is the expected version.

    Raises:
        PromotionConflict: it is another one.
    """
    if champion.version != expected:
        name, now = f"champion of {ref.registry_name}", f"version {champion.version}"
        raise PromotionConflict(name, f"version {expected}", now, "look again and decide anew")
