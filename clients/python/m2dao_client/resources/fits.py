"""Fits: the way from a recording to a version of an identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Unpack

from m2dao_client.models import Fit, FitList
from m2dao_client.models.requests import FitOrder
from m2dao_client.paths import path_of
from m2dao_client.resource import Awaited, Blocking, Resource, iteration, operation
from m2dao_client.session import new_key
from m2dao_client.steps import Call, Items
from m2dao_client.waiting import Watch, checked, last_of

Status = Literal["queued", "running", "done", "failed", "cancelled"]
_ENDED = ("done", "failed", "cancelled")


class FitOperations(Resource):
    """What can be done with fits."""

    @operation
    def create(self, *, once: str | None = None, **order: Unpack[FitOrder]) -> Call[Fit]:
        """Queue a fit of a person from a recording.

        Args:
            once: your own name for this request; the same name makes nothing a second time.
            order: `identity` and `recording`, and for example `quality`, `minutes`, `size`, `promote`.
        """
        request = self._session.request("POST", "/v1/fits", once=once or new_key(), json=order)
        return self._session.body(Fit, (yield from self._session.send(request)))

    @iteration
    def list(self, *, status: Status | None = None, identity: str | None = None) -> Items[Fit]:
        """All your fits, the newest first."""
        yield from self._session.items(FitList, "/v1/fits", lambda page: page.fits, status=status, identity=identity)

    @operation
    def get(self, fit_id: str) -> Call[Fit]:
        """How far a fit is."""
        return (yield from self._session.get(Fit, path_of("v1", "fits", fit_id)))

    @operation
    def cancel(self, fit_id: str) -> Call[Fit]:
        """Cancel a queued or running fit; of a cancelled one, nothing changes."""
        request = self._session.request("DELETE", path_of("v1", "fits", fit_id), repeatable=True)
        return self._session.body(Fit, (yield from self._session.send(request)))

    @operation
    def resume(self, fit_id: str) -> Call[Fit]:
        """Go on with a fit that failed or was cancelled, under a new id."""
        request = self._session.request("POST", path_of("v1", "fits", fit_id, "resume"))
        return self._session.body(Fit, (yield from self._session.send(request)))

    @iteration
    def watch(self, fit_id: str, *, timeout_s: float | None = None) -> Items[Fit]:
        """Each change of a fit, until it has ended."""
        yield from self._watch(fit_id, timeout_s).states()

    @operation
    def wait(
        self, fit_id: str, *, on_progress: Callable[[Fit], None] | None = None, timeout_s: float | None = None
    ) -> Call[Fit]:
        """Wait for a fit to be done.

        Raises:
            JobFailed: it failed or was cancelled.
            WaitedTooLong: it goes on.
        """
        fit = yield from last_of(self._watch(fit_id, timeout_s).states(), on_progress)
        checked(fit, good=fit.status == "done")
        return fit

    def _watch(self, fit_id: str, timeout_s: float | None) -> Watch[Fit]:
        return Watch(
            session=self._session,
            kind=Fit,
            path=path_of("v1", "fits", fit_id),
            ended=lambda fit: fit.status in _ENDED,
            has_events=True,
            timeout_s=timeout_s,
        )


class Fits(FitOperations, Blocking):
    """Fits, for code that waits."""


class AsyncFits(FitOperations, Awaited):
    """Fits, for code with an event loop."""
