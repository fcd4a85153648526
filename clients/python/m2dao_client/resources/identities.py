"""Identities, their versions, and which version serves."""

from __future__ import annotations

from typing import Unpack

from m2dao_client.models import (
    Challenger,
    Champion,
    Export,
    Identity,
    IdentityEntry,
    IdentityList,
    Move,
    MoveList,
    Version,
    VersionList,
)
from m2dao_client.models.requests import ChallengeRequest
from m2dao_client.paths import path_of
from m2dao_client.resource import Awaited, Blocking, Resource, iteration, operation
from m2dao_client.session import new_key
from m2dao_client.steps import Call, Items


def _path(identity: str, *more: str | int) -> str:
    return path_of("v1", "identities", identity, *more)


class IdentityOperations(Resource):
    """What can be done with identities."""

    @iteration
    def list(self) -> Items[IdentityEntry]:
        """All people you can render, by name."""
        yield from self._session.items(IdentityList, "/v1/identities", lambda page: page.identities)

    @operation
    def get(self, identity: str) -> Call[Identity]:
        """One person, with what stands for them."""
        return (yield from self._session.get(Identity, _path(identity)))

    @operation
    def delete(self, identity: str) -> Call[None]:
        """Delete a person with all versions."""
        yield from self._session.send(self._session.request("DELETE", _path(identity)))

    @iteration
    def versions(self, identity: str) -> Items[Version]:
        """All versions of a person, the newest first."""
        yield from self._session.items(VersionList, _path(identity, "versions"), lambda page: page.versions)

    @operation
    def version(self, identity: str, version: int) -> Call[Version]:
        """One version, with its lineage, its metrics and what the gate said."""
        return (yield from self._session.get(Version, _path(identity, "versions", version)))

    @operation
    def delete_version(self, identity: str, version: int) -> Call[None]:
        """Delete a version for which no alias stands."""
        yield from self._session.send(self._session.request("DELETE", _path(identity, "versions", version)))

    @operation
    def export(self, identity: str, version: int) -> Call[Export]:
        """Where a version can be fetched as one file."""
        path = _path(identity, "versions", version, "export")
        request = self._session.request("POST", path, repeatable=True)  # it is made once
        return self._session.body(Export, (yield from self._session.send(request)))

    @operation
    def champion(self, identity: str) -> Call[Champion]:
        """Which version serves."""
        return (yield from self._session.get(Champion, _path(identity, "champion")))

    @operation
    def promote(
        self, identity: str, version: int, *, seen: Champion | None = None, force: bool = False
    ) -> Call[Champion]:
        """Make a version the champion, if it passes the gate.

        Args:
            seen: the champion that you decided by; if it has moved since, nothing happens. Left out: the one of now.
            force: promote against the gate.

        Raises:
            PromotionConflict: it has moved.
            PromotionRefused: the gate refuses; the checks are in ``version(...).gate``.
        """
        if seen is None:
            seen = yield from self._session.get(Champion, _path(identity, "champion"))
        wish = {"version": version, "force": force}
        headers = {"If-Match": f'"{seen.epoch}"'}
        request = self._session.request("PUT", _path(identity, "champion"), headers=headers, json=wish)
        return self._session.body(Champion, (yield from self._session.send(request)))

    @operation
    def roll_back(self, identity: str, *, seen: Champion | None = None, once: str | None = None) -> Call[Champion]:
        """Make the previous champion the champion again.

        Args:
            seen: the champion that you decided by; if it has moved since, nothing happens.
        """
        headers = {"If-Match": None if seen is None else f'"{seen.epoch}"'}
        path = _path(identity, "rollback")
        request = self._session.request("POST", path, once=once or new_key(), headers=headers)
        return self._session.body(Champion, (yield from self._session.send(request)))

    @operation
    def challenger(self, identity: str) -> Call[Challenger]:
        """Which version is tried beside the champion, and how the renders of both end."""
        return (yield from self._session.get(Challenger, _path(identity, "challenger")))

    @operation
    def challenge(
        self, identity: str, *, seen: Champion | None = None, **wish: Unpack[ChallengeRequest]
    ) -> Call[Challenger]:
        """Let a share of the renders go to a version; where too many fail, it is withdrawn.

        Args:
            seen: the champion that you decided by; if it has moved since, nothing happens. Left out: the one of now.
            wish: `version` and `share`.
        """
        if seen is None:
            seen = yield from self._session.get(Champion, _path(identity, "champion"))
        headers = {"If-Match": f'"{seen.epoch}"'}
        request = self._session.request("PUT", _path(identity, "challenger"), headers=headers, json=wish)
        return self._session.body(Challenger, (yield from self._session.send(request)))

    @operation
    def withdraw_challenger(self, identity: str) -> Call[Challenger]:
        """Let all renders go to the champion again."""
        request = self._session.request("DELETE", _path(identity, "challenger"))
        return self._session.body(Challenger, (yield from self._session.send(request)))

    @iteration
    def history(self, identity: str) -> Items[Move]:
        """How the champion has moved, the newest move first."""
        yield from self._session.items(MoveList, _path(identity, "champion", "history"), lambda page: page.moves)


class Identities(IdentityOperations, Blocking):
    """Identities, for code that waits."""


class AsyncIdentities(IdentityOperations, Awaited):
    """Identities, for code with an event loop."""
