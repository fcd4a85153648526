"""A bound on the temporary disk that uploads use together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from serve_apps.problems import ApiProblem

_AGAIN_S = 2


class DiskBudget:
    """Bytes of temporary disk, reserved before they are written. For one event loop."""

    def __init__(self, num_bytes: int):
        self._free = num_bytes

    @contextlib.contextmanager
    def reserved(self, num_bytes: int) -> Iterator[None]:
        """Keep room for ``num_bytes`` while inside.

        Raises:
            ApiProblem: 503, there is none.
        """
        if num_bytes > self._free:
            again = {"Retry-After": str(_AGAIN_S), "Connection": "close"}
            raise ApiProblem("service-unavailable", "too many uploads are being received; try again", again)
        self._free -= num_bytes
        try:
            yield
        finally:
            self._free += num_bytes
