"""How the renders of each version end, counted once in the step that ends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.ids import IdentityName, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How renders of a version ended."""

    num_done: int = 0
    num_failed: int = 0

    @property
    def num(self) -> int:
        return self.num_done + self.num_failed


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """How renders of an identity ended since its champion moved last.

    Args:
        epoch: of the champion that they were counted under.
        of: by version.
    """

    epoch: int
    of: Mapping[int, Outcome]

    def by(self, version: int | None) -> Outcome:
        """Of one version; nothing where there is none."""
        return Outcome() if version is None else self.of.get(version, Outcome())


class OutcomeTable:
    """The outcomes of all identities. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def get(self, tenant: TenantId, identity: IdentityName) -> Outcomes:
        """How renders of an identity ended since its champion moved last."""
        table = {name: int(count) for name, count in self._link.hash(keys.outcomes(tenant, identity)).items()}
        epoch = table.pop("epoch", 0)
        versions = {int(name.partition("|")[0]) for name in table}
        return Outcomes(
            epoch=epoch,
            of={
                number: Outcome(num_done=table.get(f"{number}|done", 0), num_failed=table.get(f"{number}|failed", 0))
                for number in versions
            },
        )

    def failing(self) -> dict[tuple[TenantId, IdentityName], int]:
        """The identities of which renders failed since anybody judged them, with a number for ``judged``."""
        found = {}
        for name, count in self._link.hash(keys.ledger("failing")).items():
            tenant, _, identity = name.partition(".")
            found[TenantId(tenant), IdentityName(identity)] = int(count)
        return found

    def judged(self, tenant: TenantId, identity: IdentityName, number: int) -> None:
        """Note that an identity was judged, unless more has failed since ``failing`` was asked."""
        self._link.run(scripts.LEDGER_TOLD, [keys.ledger("failing")], [f"{tenant}.{identity}", number])
