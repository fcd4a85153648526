"""Tells webhooks of events: many at once and few of one tenant, so dead ones hold up no others."""

from __future__ import annotations

import logging
import ssl
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from cluster.faults import Backoff
from cluster.ids import TenantId, WebhookId
from cluster.platform import Platform
from cluster.state.lease import Lease
from cluster.state.resources.webhooks import Delivery, Outcome, Webhook
from cluster.webhooks.post import Poster
from m2dao.errors import M2daoError

logger = logging.getLogger(__name__)

LOOK_S = 0.3  # how late an event is told
_AT_ONCE, _PER_TENANT, _PER_WEBHOOK = 256, 4, 2
_CLAIMS_PER_ANSWER = 3.0  # how long a claim lasts; looking up a name is not part of the time for an answer
_BACKOFF = Backoff(base_s=5.0, max_s=24 * 3600.0)
_MOST_TRIES = 17  # in a row: two days and a half
_DAY_S = 24 * 3600.0


class WebhooksChore:
    """Does what is due in the outboxes."""

    name = "webhooks"

    def __init__(self, platform: Platform):
        settings = platform.settings.webhooks
        self._platform, self._settings = platform, settings
        self._poster = Poster(
            tls=ssl.create_default_context(), answer_s=settings.answer_s, allow_private=settings.allow_private
        )
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")
        self._lock = threading.Lock()
        self._telling: Counter[TenantId | WebhookId] = Counter()

    def do(self, lease: Lease) -> float:
        table, claim_s = self._platform.state.webhooks, self._settings.answer_s * _CLAIMS_PER_ANSWER
        for tenant, webhook_id in table.due():
            lease.check()
            while self._takes_one(tenant, webhook_id):
                try:
                    claimed = table.claim(tenant, webhook_id, claim_s=claim_s)
                except BaseException:
                    self._gives_back(tenant, webhook_id)
                    raise
                if claimed is None:
                    self._gives_back(tenant, webhook_id)
                    break
                self._threads.submit(self._tell, *claimed)
        return LOOK_S

    def _takes_one(self, tenant: TenantId, webhook_id: WebhookId) -> bool:
        """Take a place among those who tell, if there is one."""
        with self._lock:
            full = self._telling[tenant] >= _PER_TENANT or self._telling[webhook_id] >= _PER_WEBHOOK
            if not full:
                self._telling[tenant] += 1
                self._telling[webhook_id] += 1
            return not full

    def _gives_back(self, tenant: TenantId, webhook_id: WebhookId) -> None:
        with self._lock:
            self._telling.subtract((tenant, webhook_id))
            self._telling += Counter()  # without those that have none

    def _tell(self, webhook: Webhook, delivery: Delivery) -> None:
        try:
            outcome = self._poster.tell(webhook, delivery)
            if outcome.state == "failed":
                outcome = _after_failure(delivery, outcome)
            keep_s = self._settings.keep_days * _DAY_S
            self._platform.state.webhooks.settle(delivery, outcome, keep_s=keep_s)
        except M2daoError as error:  # its claim ends, and it is told again
            logger.warning("a delivery was not settled", extra={"delivery": str(delivery.id), "error": str(error)})
        except Exception:
            logger.exception("a delivery failed", extra={"delivery": str(delivery.id)})
        finally:
            self._gives_back(webhook.tenant, webhook.id)


def _after_failure(delivery: Delivery, outcome: Outcome) -> Outcome:
    over = delivery.num_failures + 1 >= _MOST_TRIES
    state, wait_s = ("dead", 0.0) if over else ("failed", _BACKOFF.wait_s(delivery.num_failures))
    return Outcome(state=state, status=outcome.status, detail=outcome.detail, wait_s=wait_s)
