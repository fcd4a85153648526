"""A webhook is believed when one of the secrets signed it, lately."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from m2dao_client import InvalidSignature, verified

SECRET, OTHER = (f"whsec_{base64.b64encode(name * 8).decode()}" for name in (b"abcd", b"wxyz"))
BODY = json.dumps({"type": "render.done", "data": {"id": "r-1"}}).encode()


def headers(body: bytes = BODY, secret: str = SECRET, *, age_s: float = 0.0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    signature = Webhook(secret).sign(msg_id="m-1", timestamp=at, data=body.decode())
    return {
        "Webhook-Id": "m-1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": signature,
    }


def test_what_the_platform_signed_is_believed():
    assert verified(BODY, headers(), SECRET)["data"] == {"id": "r-1"}


def test_while_a_secret_rotates_the_old_one_is_believed_too():
    assert verified(BODY, headers(secret=OTHER), [SECRET, OTHER])["type"] == "render.done"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (BODY, headers(secret=OTHER)),
        (BODY.replace(b"r-1", b"r-2"), headers()),
        (BODY, headers(age_s=3600)),
        (BODY, {}),
        (BODY, {**headers(), "Webhook-Signature": "v1"}),
        (BODY, {**headers(), "Webhook-Signature": "v1,!!!"}),
        (b"\xff\xfe", headers()),
    ],
)
def test_what_nobody_signed_is_refused(body, told):
    with pytest.raises(InvalidSignature):
        verified(body, told, SECRET)
