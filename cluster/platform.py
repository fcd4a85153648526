"""Every service of a deployment in one hand, made once per process."""

from __future__ import annotations

from functools import cached_property

from cluster.registry import Registry
from cluster.settings import Settings
from cluster.state.store import StateStore
from cluster.storage import ObjectStore


class Platform:
    """The services that ``settings`` name. Each is made when it is first used, and then only once.

    A command that needs one service neither waits for the others (MLflow takes seconds to import) nor asks for their
    settings.

    Args:
        settings: where the services are.
        state, store, registry: what stands in for a service of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        state: StateStore | None = None,
        store: ObjectStore | None = None,
        registry: Registry | None = None,
    ):
        self.settings = settings
        given = {"state": state, "store": store, "registry": registry}
        vars(self).update({name: part for name, part in given.items() if part is not None})

    @cached_property
    def state(self) -> StateStore:
        """Tenants, jobs, versions, champions and messages."""
        return StateStore(self.settings)

    @cached_property
    def store(self) -> ObjectStore:
        """Files."""
        return ObjectStore(self.settings)

    @cached_property
    def registry(self) -> Registry:
        """Versions of identities."""
        return Registry(self.settings, store=self.store, state=self.state)
