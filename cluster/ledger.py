"""The model registry as people read it in MLflow's pages: aliases and tags beside versions.

Nothing is decided by what stands here. ``cluster/state/champions.py`` decides; ``cluster/control/reconciler.py`` copies
its decisions here, and reads here what people have changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.ids import ALIASES, IdentityName, ModelRef, TenantId
from cluster.mlflow_link import MlflowLink, translated
from cluster.state.champions import Champion
from cluster.state.versions import VersionFacts
from cluster.versions import FILES_SHA256_TAG, NUM_BYTES_TAG, STATE_TAG, VersionInfo, version_info
from m2dao.errors import InvalidId, UnknownIdentity

PAGE = 1000  # identities that are read at once


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """An identity as the model registry shows it: the version each of our aliases stands for."""

    tenant: TenantId
    identity: IdentityName
    aliases: dict[str, int]

    @property
    def champion(self) -> Champion:
        """What it would be, if the registry decided."""
        shown = self.aliases.get
        return Champion(version=shown("champion"), previous=shown("previous"), challenger=shown("challenger"))


class Ledger:
    """Aliases and tags in MLflow. Every method raises ``RegistryUnavailable`` when MLflow does not answer."""

    def __init__(self, link: MlflowLink):
        self._link, self._client = link, link.client

    # -- reading ----------------------------------------------------------------------------------------------

    def identities(self) -> Iterator[LedgerEntry]:
        """Every identity of every tenant; models that others put into MLflow are left out."""
        for model in self._link.pages("search_registered_models", "", max_results=PAGE):
            if entry := _entry(model):
                yield entry

    def identity(self, tenant: TenantId, identity: IdentityName) -> LedgerEntry | None:
        """One identity; None when the registry does not know it."""
        with contextlib.suppress(UnknownIdentity), translated(f"{tenant}.{identity}"):
            return _entry(self._client.get_registered_model(f"{tenant}.{identity}"))
        return None

    def versions(self) -> Iterator[tuple[VersionInfo, str]]:
        """Every version of every identity, with its state: "ready", "incomplete" or "deleting"."""
        for version in self._link.pages("search_model_versions", "", max_results=PAGE):
            if owner := _owner(version.name):
                yield version_info(*owner, version, []), version.tags.get(STATE_TAG, "")

    def version(self, ref: ModelRef) -> VersionInfo:
        """One version, whether it counts or not.

        Raises:
            UnknownIdentity: the registry does not know it.
        """
        with translated(str(ref)):
            found = self._client.get_model_version(ref.registry_name, str(ref.version))
        return version_info(ref.tenant, ref.identity, found, [])

    # -- writing ----------------------------------------------------------------------------------------------

    def show(self, tenant: TenantId, identity: IdentityName, champion: Champion) -> None:
        """Let the aliases stand for what they should."""
        entry = self.identity(tenant, identity)
        if entry is None:
            return
        name = f"{tenant}.{identity}"
        for alias in ALIASES:
            wanted = champion.of(alias)
            if wanted == entry.aliases.get(alias):
                continue
            # A version that somebody deleted in MLflow's own pages cannot be shown; it serves all the same.
            with contextlib.suppress(UnknownIdentity), translated(f"{name}@{alias}"):
                if wanted is None:
                    self._client.delete_registered_model_alias(name, alias)
                else:
                    self._client.set_registered_model_alias(name, alias, str(wanted))

    def show_ready(self, ref: ModelRef, facts: VersionFacts) -> None:
        """Show that a version counts, and the hash of its files."""
        tags = {FILES_SHA256_TAG: facts.files_sha256, NUM_BYTES_TAG: str(facts.num_bytes), STATE_TAG: "ready"}
        self.tag(ref, tags)

    def tag(self, ref: ModelRef, tags: Mapping[str, str]) -> None:
        """Add tags to a version, or change them.

        Raises:
            UnknownIdentity: there is no such version.
        """
        with translated(str(ref)):
            for key, value in tags.items():
                self._client.set_model_version_tag(ref.registry_name, str(ref.version), key, value)


def _owner(name: str) -> tuple[TenantId, IdentityName] | None:
    tenant, dot, identity = name.partition(".")
    with contextlib.suppress(InvalidId):
        if dot:
            return TenantId(tenant), IdentityName(identity)
    return None


def _entry(model: Any) -> LedgerEntry | None:
    owner = _owner(model.name)
    if owner is None:
        return None
    aliases = {alias: int(number) for alias, number in model.aliases.items() if alias in ALIASES}
    return LedgerEntry(tenant=owner[0], identity=owner[1], aliases=aliases)
