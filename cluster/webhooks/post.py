"""One signed request to a webhook, as Standard Webhooks has it."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from standardwebhooks.webhooks import Webhook as Signer

from cluster.state.resources.webhooks import Delivery, Outcome, Webhook
from cluster.webhooks.addresses import Address, endpoint_of, resolve
from m2dao.errors import InputError

MAX_ANSWER_BYTES = 16 * 1024
_MOST_DETAIL = 200


@dataclass(frozen=True, kw_only=True)
class Poster:
    """Tells webhooks.

    Args:
        tls: which certificates count.
        answer_s: how long connecting, sending and answering may take together.
        allow_private: whether addresses inside our own networks may be told too.
    """

    tls: ssl.SSLContext
    answer_s: float
    allow_private: bool

    def tell(self, webhook: Webhook, delivery: Delivery) -> Outcome:
        """Tell a webhook of an event, once. Blocks."""
        try:
            endpoint = endpoint_of(webhook.url, allow_private=self.allow_private)
            address = resolve(endpoint, allow_private=self.allow_private)
            status = asyncio.run(self._post(webhook, delivery, address))
        except InputError as error:
            return Outcome(state="failed", detail=f"not told: {error.expected} needed")
        except TimeoutError:
            return Outcome(state="failed", detail=f"no answer within {self.answer_s:g} s")
        except _TooLong:
            return Outcome(state="failed", detail=f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        except (OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as error:
            return Outcome(state="failed", detail=f"{type(error).__name__}: {error}"[:_MOST_DETAIL])
        if 200 <= status < 300:
            return Outcome(state="delivered", status=status)
        return Outcome(state="failed", status=status, detail=f"answered {status}, not 2xx")

    async def _post(self, webhook: Webhook, delivery: Delivery, address: Address) -> int:
        """The status of the answer. Only the deadline over all of it counts: an answer may come byte by byte."""
        endpoint = endpoint_of(webhook.url, allow_private=self.allow_private)
        host = f"[{address}]" if address.version == 6 else str(address)
        body = body_of(delivery)
        async with (
            asyncio.timeout(self.answer_s),
            httpx.AsyncClient(verify=self.tls, trust_env=False, timeout=None) as client,
            client.stream(
                "POST",
                f"{endpoint.scheme}://{host}:{endpoint.port}{endpoint.target}",
                content=body.encode(),
                headers={"Host": endpoint.authority, **_headers(webhook, delivery, body)},
                extensions={"sni_hostname": endpoint.host},  # whose certificate it must be
            ) as answer,
        ):
            num_bytes = 0
            async for piece in answer.aiter_raw():
                num_bytes += len(piece)
                if num_bytes > MAX_ANSWER_BYTES:
                    raise _TooLong
            return answer.status_code


class _TooLong(Exception):
    """The answer is longer than anybody needs."""


def body_of(delivery: Delivery) -> str:
    """What is told: the same bytes at every try."""
    at = datetime.fromtimestamp(delivery.at_s, UTC).isoformat().replace("+00:00", "Z")
    return f'{{"type": {json.dumps(delivery.type)}, "timestamp": "{at}", "data": {delivery.data}}}'


def _headers(webhook: Webhook, delivery: Delivery, body: str) -> dict[str, str]:
    now, name = datetime.now(UTC), str(delivery.id)
    return {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "m2dao-webhooks",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Signer(secret).sign(name, now, body) for secret in webhook.secrets),
    }
