"""Checks that a webhook was sent by the platform (Standard Webhooks)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from m2dao_client.errors import M2daoClientError


class InvalidSignature(M2daoClientError):
    """The webhook was not sent by the platform, or too long ago: do not act on it."""


def verified(body: bytes, headers: Mapping[str, str], secrets: str | Sequence[str]) -> dict[str, Any]:
    """The content of a webhook, once its signature is checked.

    Args:
        body: the bytes of the request, exactly as they came.
        headers: those of the request.
        secrets: the webhook's secret `whsec_...`; while it rotates, the new one and the old one.

    Raises:
        InvalidSignature: no secret fits, or it is more than five minutes old.
    """
    known = [secrets] if isinstance(secrets, str) else list(secrets)
    for secret in known:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError):  # the second: headers or bytes that nobody signs
            continue
        content = json.loads(body)
        if isinstance(content, dict):
            return content
    raise InvalidSignature(f"none of {len(known)} secrets fits the signature, or the webhook is too old")
