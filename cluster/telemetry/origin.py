"""Where a job comes from: the request that made it, and the span of a trace that it belongs to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from cluster.telemetry.scope import REQUEST, new_request_id, scope, working_for
from cluster.telemetry.traces import spans


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a job comes from. It is stored with the job, and is no part of what is asked for.

    Args:
        request_id: of the request that made it.
        traceparent: its span, as W3C writes it; empty where no traces are made.
    """

    request_id: str = ""
    traceparent: str = ""

    @classmethod
    def here(cls) -> Origin:
        """That of a job which is made now. Where no request is at work, as in a command, it gets a new name."""
        return cls(request_id=scope().get(REQUEST) or new_request_id(), traceparent=spans.traceparent())

    def as_text(self) -> str:
        """As JSON; ``Origin.from_text`` reads it."""
        return json.dumps({name: value for name, value in asdict(self).items() if value})

    @classmethod
    def from_text(cls, text: str) -> Origin:
        """Read what ``as_text`` wrote, also by another release; empty for a job of a release that wrote none."""
        values = json.loads(text) if text else {}
        return cls(**{field.name: str(values.get(field.name, "")) for field in fields(cls)})

    @contextlib.contextmanager
    def continued(self, *, tenant: str, job: str) -> Iterator[None]:
        """Let log lines and spans inside belong to the job and to what it comes from."""
        with working_for(request=self.request_id, tenant=tenant, job=job), spans.continuing(self.traceparent):
            yield
