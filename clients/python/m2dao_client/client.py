"""The two clients: ``Client`` for code that waits, ``AsyncClient`` for code with an event loop."""

from __future__ import annotations

import os
from typing import Self

import httpx

from m2dao_client.drivers import AsyncDriver, SyncDriver
from m2dao_client.errors import ConfigurationError
from m2dao_client.models import Readiness
from m2dao_client.resource import Awaited, Blocking, Resource, operation
from m2dao_client.resources.fits import AsyncFits, Fits
from m2dao_client.resources.identities import AsyncIdentities, Identities
from m2dao_client.resources.people import (
    AsyncAudit,
    AsyncKeys,
    AsyncTokens,
    AsyncUsageReport,
    Audit,
    Keys,
    Tokens,
    UsageReport,
)
from m2dao_client.resources.recordings import AsyncRecordings, Recordings
from m2dao_client.resources.renders import AsyncRenders, Renders
from m2dao_client.resources.webhooks import AsyncWebhooks, Webhooks
from m2dao_client.session import Retries, Session
from m2dao_client.steps import Call

URL, KEY = "M2DAO_API_URL", "M2DAO_API_KEY"
_TIMEOUT_S = 60.0  # of silence; a promotion takes some seconds, an event stream says something every 15


class _Common(Resource):
    @operation
    def ready(self) -> Call[Readiness]:
        """How the services behind the API are."""
        return (yield from self._session.get(Readiness, "/readyz"))


def _session(url: str | None, key: str | None, retries: Retries | None) -> Session:
    url, key = url or os.environ.get(URL), key or os.environ.get(KEY)
    if not url or not key:
        raise ConfigurationError(f"the client needs the API's address and a key: give both, or set {URL} and {KEY}")
    return Session(url, key, retries or Retries())


class Client(_Common, Blocking):
    """The API, for code that waits. Threads may share it.

    Args:
        url: of the API; left out, that of the environment, M2DAO_API_URL.
        key: an API key or client token; left out, M2DAO_API_KEY.
        retries: when a request is sent again.
        http: a client of your own, for proxies or certificates; you close it.

    Raises:
        ConfigurationError: url or key is missing.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ):
        session = _session(url, key, retries)
        self._own = http is None
        self._http = httpx.Client(timeout=_TIMEOUT_S) if http is None else http
        driver = SyncDriver(self._http)
        super().__init__(session, driver)
        self.audit = Audit(session, driver)
        self.fits = Fits(session, driver)
        self.identities = Identities(session, driver)
        self.keys = Keys(session, driver)
        self.recordings = Recordings(session, driver)
        self.renders = Renders(session, driver)
        self.tokens = Tokens(session, driver)
        self.usage = UsageReport(session, driver)
        self.webhooks = Webhooks(session, driver)

    def close(self) -> None:
        """Close the connections."""
        if self._own:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Common, Awaited):
    """The API, for code with an event loop; arguments as of ``Client``."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ):
        session = _session(url, key, retries)
        self._own = http is None
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S) if http is None else http
        driver = AsyncDriver(self._http)
        super().__init__(session, driver)
        self.audit = AsyncAudit(session, driver)
        self.fits = AsyncFits(session, driver)
        self.identities = AsyncIdentities(session, driver)
        self.keys = AsyncKeys(session, driver)
        self.recordings = AsyncRecordings(session, driver)
        self.renders = AsyncRenders(session, driver)
        self.tokens = AsyncTokens(session, driver)
        self.usage = AsyncUsageReport(session, driver)
        self.webhooks = AsyncWebhooks(session, driver)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
