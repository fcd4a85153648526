"""What is to be made and has a secret: its name, its seed, and what a repeated request is known by."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from cluster.ids import TenantId
from cluster.state import keys
from cluster.state.new_jobs import Once, idempotency_digest

_IDEMPOTENCY_S = 24 * 3600


class Draft:
    """A key or a token that is to be made.

    Args:
        kind: what a client's own name for the request is unique within.
        tenant: whose it is.
        wanted: what was asked for.
        once: a client's own name for the request.
    """

    def __init__(self, kind: str, tenant: TenantId, wanted: Sequence[Any], once: Once | None):
        self.name, self.seed = secrets.token_hex(6), secrets.token_hex(32)
        self.entry = "" if once is None else keys.idempotency(tenant, idempotency_digest(kind, once.key))
        self.rest = [self.seed, json.dumps(list(wanted)), _IDEMPOTENCY_S]
