"""Promotes and rolls back: decides with which facts a champion may move, and moves it once.

The state store compares and moves in one step (``cluster/state/champions.py``). What is decided here carries the epoch
that it was decided with, so a decision on old facts is refused.
"""

from __future__ import annotations

import time

from cluster.ids import IdentityName, ModelRef, TenantId
from cluster.state.champions import Champion, ChampionChange, no_previous
from cluster.state.store import StateStore
from cluster.state.tallies import MOVES
from m2dao.errors import PromotionConflict, PromotionRefused

PROBE_S = 30.0


class Champions:
    """The champions of all identities.

    Args:
        state: where it is decided, and where moves are announced.
        probe_s: how long a version has to show that it can be rendered.
    """

    def __init__(self, state: StateStore, *, probe_s: float = PROBE_S):
        self._state, self._probe_s = state, probe_s

    def current(self, tenant: TenantId, identity: IdentityName) -> Champion:
        """What stands for an identity."""
        return self._state.champions.get(tenant, identity)

    def prove(self, ref: ModelRef) -> str:
        """Return once a replica that serves the identity has ``ref`` warm and has rendered a frame of it.

        Where no replica serves the identity, the keeper renders the frame.

        Returns:
            by what backend it was rendered.

        Raises:
            PromotionRefused: it cannot be loaded, its frame shows nobody, or nobody has answered in time.
        """
        probes, deadline = self._state.probes, time.monotonic() + self._probe_s
        probe = probes.new_id()
        with self._state.events.subscribe(probes.topic(ref, probe)) as answers:
            probes.ask(ref, probe)
            while (fault := probes.fault(ref, probe)) is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    fault = f"nobody has probed it within {self._probe_s:g} s"
                    break
                answers.get(min(left_s, 1.0))
        if fault:
            remedy = "fit it again, or see whether a keeper is running"
            raise PromotionRefused(str(ref), "a version that can be loaded and rendered", fault, remedy)
        return probes.backend(ref, probe)

    def note_refusal(self) -> None:
        """Count a promotion that was refused, for people who watch."""
        self._state.tallies.add(MOVES, "promote", "refused")

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

    def challenge(self, ref: ModelRef, *, share: int, decided_with: Champion) -> ChampionChange:
        """Make ``ref`` the challenger of its identity, with a share of its renders in percent; see ``move``.

        Raises:
            Conflict: it is the champion.
        """
        return self._state.champions.challenge(
            ref.tenant, ref.identity, ref.version, share=share, epoch=decided_with.epoch
        )

    def withdraw(self, tenant: TenantId, identity: IdentityName, *, epoch: int | None = None) -> ChampionChange:
        """Let an identity have no challenger; see ``move``."""
        return self._state.champions.challenge(tenant, identity, None, epoch=epoch)

    def roll_back(
        self, tenant: TenantId, identity: IdentityName, *, epoch: int | None = None, request: str = ""
    ) -> ChampionChange:
        """Make the champion before the present one the champion again; the present one becomes ``previous``.

        Args:
            epoch: the epoch of the champion that the caller has seen; None for any.
            request: a name for this wish; see ``ChampionTable.promote``.

        Raises:
            Conflict: there is no previous champion.
            PromotionConflict: the champion moved meanwhile.
            PromotionRefused: it cannot be rendered any more; see ``prove``.
        """
        champions = self._state.champions
        if request and champions.answer(tenant, request) is not None:
            return champions.roll_back(tenant, identity, request=request)  # it says again what it did
        champion = self.current(tenant, identity)
        if epoch is not None:
            require_epoch(tenant, identity, epoch, champion)
        if champion.previous is None:
            raise no_previous(tenant, identity)
        self.prove(ModelRef(tenant, identity, champion.previous))
        return champions.roll_back(tenant, identity, epoch=champion.epoch, request=request)


def require_epoch(tenant: TenantId, identity: IdentityName, expected: int, champion: Champion) -> None:
    """Return when the champion of an identity has not moved since the expected epoch.

    Raises:
        PromotionConflict: it has.
    """
    if champion.epoch != expected:
        name = f"champion of {tenant}.{identity}"
        raise PromotionConflict(name, f"epoch {expected}", f"epoch {champion.epoch}", "look again and decide anew")


def require_version(ref: ModelRef, expected: int, champion: Champion) -> None:
    """Return when the champion of ``ref``'s identity is the expected version.

    Raises:
        PromotionConflict: it is another one.
    """
    if champion.version != expected:
        name, now = f"champion of {ref.registry_name}", f"version {champion.version}"
        raise PromotionConflict(name, f"version {expected}", now, "look again and decide anew")
