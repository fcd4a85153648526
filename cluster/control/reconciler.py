"""Keeps the model registry, which people read and change, in step with the state store, which decides.

``tell`` writes what has moved: always what stands now, so an old move cannot undo a newer one. ``look`` reads every
identity and finds what people have changed in MLflow's own pages or with its client. A champion that they chose is
judged like any other: it becomes the champion, or the alias is set back and a tag of the version says why.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections import defaultdict
from collections.abc import Iterator

from cluster.control.gate import Promotions, verdict_tags
from cluster.ids import FitId, IdentityName, ModelRef, TenantId
from cluster.ledger import PAGE, Ledger, LedgerEntry
from cluster.state.champions import Champion
from cluster.state.store import StateStore
from cluster.state.versions import VersionDetails, VersionFacts
from cluster.versions import VersionInfo
from m2dao.errors import Conflict, PromotionConflict, PromotionRefused, ServiceUnavailable, UnknownIdentity

logger = logging.getLogger(__name__)

SET_BACK_TAG = "alias_set_back"  # why an alias that somebody set on this version was taken away again
_Owner = tuple[TenantId, IdentityName]


class Reconciler:
    """Copies decisions to the model registry, and takes wishes from it. Every step is safe to repeat.

    Args:
        state: decides.
        ledger: shows.
        promotions: judges what people have chosen.
    """

    def __init__(self, state: StateStore, ledger: Ledger, promotions: Promotions):
        self._state, self._ledger, self._promotions = state, ledger, promotions

    def take_over(self) -> int:
        """Take over what the model registry knew when it was the authority, once; returns how many identities."""
        champions = self._state.champions
        num_identities = 0 if champions.is_imported() else self._take_over_identities()
        if not champions.is_described():
            for info, state in self._ledger.versions():
                if state == "ready":
                    self._state.versions.describe(_details(info))
            champions.set_described()
        return num_identities

    def _take_over_identities(self) -> int:
        champions = self._state.champions
        versions: dict[_Owner, dict[int, tuple[VersionFacts, FitId | None]]] = defaultdict(dict)
        for info, state in self._ledger.versions():
            if state == "ready":
                facts = VersionFacts(files_sha256=info.files_sha256, num_bytes=info.num_bytes)
                versions[info.ref.tenant, info.ref.identity][info.ref.version] = facts, info.fit_id
        aliases = {(entry.tenant, entry.identity): entry.aliases for entry in self._ledger.identities()}
        for owner, known in versions.items():
            shown = {alias: number for alias, number in aliases.get(owner, {}).items() if number in known}
            champions.take_over(*owner, LedgerEntry(tenant=owner[0], identity=owner[1], aliases=shown).champion, known)
        champions.set_imported()
        return len(versions)

    def tell(self) -> int:
        """Write what the model registry does not show yet; returns how much that was."""
        champions, versions = self._state.champions, self._state.versions
        untold = champions.untold()
        for tenant, identity in untold:
            champion = champions.get(tenant, identity)
            self._ledger.show(tenant, identity, champion)
            champions.told(tenant, identity, champion.epoch)
        new = versions.untold()
        for ref in new:
            try:
                self._ledger.show_ready(ref, versions.facts(ref))
            except UnknownIdentity:
                logger.info("version %s was deleted before it was shown", ref)
            versions.told(ref)
        return len(untold) + len(new) + self._tell_verdicts()

    def _tell_verdicts(self) -> int:
        """Write as tags of versions what the gate said of them; returns how many."""
        untold = self._state.versions.untold_verdicts()
        for ref, text in untold.items():
            with contextlib.suppress(UnknownIdentity):  # somebody deleted it in MLflow's own pages
                self._ledger.tag(ref, verdict_tags(json.loads(text)))
            self._state.versions.verdict_told(ref, text)
        return len(untold)

    def look(self) -> int:
        """Read every identity of the model registry and follow what people changed; returns how many changes.

        What a worker of an earlier release has registered is described on the way: the gate judges by that.
        """
        count = 0
        for page in _batched(self._ledger.identities(), PAGE):
            owners = [(entry.tenant, entry.identity) for entry in page]
            for ref in self._state.versions.undescribed(owners):
                self._describe(ref)
            for entry, champion in zip(page, self._state.champions.get_all(owners), strict=True):
                if not _agree(entry, champion):
                    count += self._follow_or_wait(entry)
        return count

    def _describe(self, ref: ModelRef) -> None:
        try:
            self._state.versions.describe(_details(self._ledger.version(ref)))
        except UnknownIdentity:
            logger.debug("version %s is not in the model registry", ref)

    def _follow_or_wait(self, seen: LedgerEntry) -> bool:
        """``_follow``; what cannot be judged yet is looked at again the next time, and holds nobody else up."""
        try:
            return self._follow(seen)
        except ServiceUnavailable as error:
            if type(error) is not ServiceUnavailable:  # a service that is down is down for everybody
                raise
            logger.warning("a change in the model registry waits", extra={"reason": str(error)})
            return False

    def _follow(self, seen: LedgerEntry) -> bool:
        """Follow what people changed of one identity; returns whether they did.

        What was read before may be old: we look again, and leave alone what we are still to write ourselves.
        """
        owner = seen.tenant, seen.identity
        champion = self._state.champions.get(*owner)
        entry = self._ledger.identity(*owner)
        moved = owner in self._state.champions.untold() or self._state.champions.get(*owner).epoch != champion.epoch
        if entry is None or moved or _agree(entry, champion):
            return False
        chosen = entry.aliases.get("champion")
        if chosen != champion.version:
            self._follow_champion(entry, champion, chosen)
        elif entry.aliases.get("challenger") != champion.challenger:
            self._follow_challenger(entry, champion)
        else:
            self._state.champions.tell_again(*owner)  # previous is what it was, not what somebody wishes
        return True

    def _follow_champion(self, entry: LedgerEntry, champion: Champion, chosen: int | None) -> None:
        owner = entry.tenant, entry.identity
        if chosen is None:
            assert champion.version is not None, "two that differ are not both none"
            self._set_back(owner, champion.version, "the alias champion was deleted; a champion leaves by promotion")
            return
        ref = ModelRef(*owner, chosen)
        try:
            promotion = self._promotions.promote(ref, epoch=champion.epoch)  # the epoch sees to it that it is done once
            logger.info("champion chosen in the model registry", extra={"ref": str(ref), **promotion.as_dict()})
        except (PromotionRefused, PromotionConflict, UnknownIdentity) as error:
            self._set_back(owner, chosen, str(error))

    def _follow_challenger(self, entry: LedgerEntry, champion: Champion) -> None:
        owner, chosen = (entry.tenant, entry.identity), entry.aliases.get("challenger")
        try:
            if chosen is None:
                self._state.champions.challenge(*owner, None, epoch=champion.epoch)
            else:  # of renders it gets none: how many is not said in MLflow
                self._promotions.challenge(ModelRef(*owner, chosen), share=0, epoch=champion.epoch)
        except (Conflict, PromotionRefused, UnknownIdentity) as error:
            self._set_back(owner, chosen, str(error))

    def _set_back(self, owner: _Owner, version: int | None, reason: str) -> None:
        logger.warning("an alias is set back", extra={"identity": ".".join(map(str, owner)), "reason": reason})
        self._state.champions.tell_again(*owner)
        if version is not None:
            try:
                self._ledger.tag(ModelRef(*owner, version), {SET_BACK_TAG: reason[:500]})
            except UnknownIdentity:
                logger.warning("version %d of %s.%s is not in the model registry", version, *owner)


def _agree(entry: LedgerEntry, champion: Champion) -> bool:
    shown = entry.champion
    return (shown.version, shown.previous, shown.challenger) == (
        champion.version,
        champion.previous,
        champion.challenger,
    )


def _details(info: VersionInfo) -> VersionDetails:
    return VersionDetails(
        ref=info.ref, metrics=info.metrics, tags=info.tags, created_s=info.created_s, fit_id=info.fit_id
    )


def _batched(entries: Iterator[LedgerEntry], size: int) -> Iterator[list[LedgerEntry]]:
    while batch := list(itertools.islice(entries, size)):
        yield batch
