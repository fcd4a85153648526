"""The state store: tenants, API keys, durable jobs, limits and messages in Redis.

    StateStore
      .accounts   tenants and their API keys               cluster/state/accounts.py
      .audit      who has done what                        cluster/state/people/audit.py
      .tokens     what web pages may hold                  cluster/state/people/tokens.py
      .jobs       durable jobs with leases and fencing     cluster/state/jobs.py
      .versions   which versions identities have           cluster/state/versions.py
      .champions  which version of an identity serves      cluster/state/champions.py
      .probes     whether versions can be rendered         cluster/state/probes.py
      .orders     what names of orders have led to         cluster/state/resources/orders.py
      .recordings what tenants have uploaded               cluster/state/resources/recordings.py
      .usage      what tenants have used                   cluster/state/resources/usage.py
      .webhooks   who is told of what happens              cluster/state/resources/webhooks.py
      .seats      work that one process at a time does     cluster/state/seats.py
      .tallies    how often what has happened              cluster/state/tallies.py
      .events     messages                                 cluster/state/events.py
      .maintenance  whether new work is accepted           cluster/state/upkeep/maintenance.py
      .erasures   what no backup may bring back            cluster/state/upkeep/erasures.py
      .records    all of it as records, for backups        cluster/state/upkeep/records.py

All of them share one ``RedisLink``. Scripts reach keys by computed names, so this runs on one Redis or Valkey server
(or a failover pair), not on a sharded Redis Cluster.
"""

from __future__ import annotations

from cluster.settings import Settings
from cluster.state.accounts import Accounts
from cluster.state.champions import ChampionTable
from cluster.state.events import Events
from cluster.state.jobs import Jobs
from cluster.state.link import RedisLink
from cluster.state.people.audit import AuditTrail
from cluster.state.people.tokens import ClientTokens
from cluster.state.probes import Probes
from cluster.state.resources.batches import BatchTable
from cluster.state.resources.figures import Figures
from cluster.state.resources.orders import Orders
from cluster.state.resources.outcomes import OutcomeTable
from cluster.state.resources.recordings import RecordingTable
from cluster.state.resources.usage import UsageTable
from cluster.state.resources.webhooks import WebhookTable
from cluster.state.seats import Seats
from cluster.state.tallies import Tallies
from cluster.state.upkeep.erasures import Erasures
from cluster.state.upkeep.maintenance import Maintenance
from cluster.state.upkeep.records import Records
from cluster.state.versions import VersionTable


class StateStore:
    """All that the platform keeps in Redis; threads may share it, processes may be sent it.

    Every method, here and in the parts, raises ``StateUnavailable`` when Redis does not answer; calling again later
    is safe.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._link = RedisLink(settings.require("redis.url"))
        self.audit = AuditTrail(self._link, most_entries=settings.audit.entries)
        other = settings.plain("key_pepper_other") or ""
        self.accounts = Accounts(self._link, self.audit, pepper=settings.require("key_pepper"), other_pepper=other)
        self.tokens = ClientTokens(self._link, self.accounts, self.audit)
        self.jobs = Jobs(self._link, backoff=settings.jobs.backoff)
        self.versions = VersionTable(self._link, self.audit)
        self.champions = ChampionTable(self._link, self.versions, self.audit)
        self.probes = Probes(self._link)
        self.recordings = RecordingTable(self._link)
        self.orders = Orders(self._link)
        self.batches = BatchTable(self._link)
        self.outcomes = OutcomeTable(self._link)
        self.figures = Figures(self._link)
        self.usage = UsageTable(self._link)
        self.webhooks = WebhookTable(self._link, self.audit)
        self.seats = Seats(self._link)
        self.tallies = Tallies(self._link)
        self.events = Events(self._link)
        self.maintenance = Maintenance(self._link)
        self.erasures = Erasures(self._link)
        self.records = Records(self._link)

    def __reduce__(self) -> tuple[type[StateStore], tuple[Settings]]:
        return type(self), (self._settings,)

    def check(self) -> None:
        """Return when the store answers; raise otherwise."""
        self._link.call("PING")

    def close(self) -> None:
        """Close the connections; the store can be used again and opens new ones."""
        self._link.close()
