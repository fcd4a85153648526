"""The names of all Redis keys and channels: here, and nowhere else.

A name begins with its tenant (``acme:job:r-...``), so what belongs to whom can be read off the name, and a tenant can
be removed by its prefix. A few names do not, because they are what finds the tenant in the first place; none of them
holds anything a tenant sent, and their first parts cannot be tenant names:

    api-key:<hash>          the hash of an API key -> its tenant
    client-token:<hash>     the hash of a client token -> its tenant, identity and origin
    client-token:origins    origins of pages that have client tokens, by the end of the last one
    tenants                 the set of tenants
    turn:<kind>             the tenants with queued jobs, by the seconds they have been served
    due:<kind>              the tenants with claimed and put-off jobs, by when to look at them
    wanting:<kind>          the tenants whose jobs wait for a worker's place, by when that was said
    totals:<kind>           numbers and costs of the open jobs of all tenants
    totals:happened         how often what has happened, for people who watch
    pepper                  the fingerprint of the secret that API keys are hashed with
    pepper:switched         when it was last changed for another one
    pulse:<kind>            when anybody last spoke of a job
    script-answer:<nonce>   what a script said, for a minute: a number, or which job was claimed
    ledger:<what>           what the model registry has not been told yet
    recordings              uploaded recordings, by the time when the keeper looks at them
    batches                 batches that have not ended
    probes                  versions to be probed, by the time when that was asked
    seat:<name>             who does work that one process at a time does
    outbox                  webhooks with something to tell, by when it is due
    maintenance             why nothing new is accepted; there only while it is not
    erasures                hashes of what was erased for good, by number; and the key of these hashes
    events:<topic>          channels for messages (not keys)

A pattern means the same to Python's ``%`` and to Lua's ``string.format``, so scripts use the same table (``for_lua``).
"""

from __future__ import annotations

from typing import Final

from cluster.ids import BatchId, DeliveryId, FitId, IdentityName, JobId, RecordingId, TenantId, WebhookId

KINDS: Final = ("render", "fit")  # of jobs
TENANTS: Final = "tenants"
PROBES: Final = "probes"
OPEN_BATCHES: Final = "batches"
DUE_RECORDINGS: Final = "recordings"
PEPPER: Final = "pepper"
PEPPER_SWITCHED: Final = "pepper:switched"
CLIENT_ORIGINS: Final = "client-token:origins"
OUTBOXES: Final = "outbox"
TALLIES: Final = "totals:happened"
MAINTENANCE: Final = "maintenance"
ERASURES: Final = "erasures"
ERASURES_KEY: Final = "erasures:key"

_PATTERNS: Final = {
    "api_key": "api-key:%s",  # digest -> hash of tenant and key id
    "api_keys": "%s:api-keys",  # tenant -> hash of key id -> what is known of the key
    "client_token": "client-token:%s",  # digest -> hash of tenant, identity, origin and end
    "client_tokens": "%s:client-tokens",  # tenant -> hash of token id -> its end and digest
    "client_token_ends": "%s:client-token-ends",  # tenant -> ends and ids of tokens, by name
    "audit": "%s:audit",  # tenant -> stream of who has done what
    "audit_tokens": "%s:audit-tokens",  # tenant -> stream of who has made and revoked client tokens
    "client_origins": CLIENT_ORIGINS,  # origins of pages with client tokens, by the end of the last one
    "job": "%s:job:%s",  # tenant, job id -> hash
    "files": "%s:files:%s",  # tenant, job id -> hash of name -> bytes, while the job is open
    "kept_failed": "%s:kept-failed",  # tenant -> failed jobs whose files are still there, by the time of their end
    "queue": "%s:queue:%s",  # tenant, kind -> waiting jobs, by time of creation
    "line": "%s:line:%s:%s",  # tenant, kind, hash of needs -> waiting jobs that need the same, by time of creation
    "leases": "%s:leases:%s",  # tenant, kind -> running jobs, by the end of the lease
    "delayed": "%s:delayed:%s",  # tenant, kind -> jobs that are put off, by the end of their wait
    "backlog": "%s:backlog:%s",  # tenant, kind -> hash of sums of costs, by place and by needs; seconds served
    "index": "%s:jobs:%s",  # tenant, kind -> all jobs, by age
    "leaving": "%s:leaving:%s",  # tenant, kind -> ended jobs, by the time when their records leave
    "idempotency": "%s:idempotency:%s",  # tenant, hash of kind and client's key -> job and fingerprint
    "turn": "turn:%s",  # kind -> tenants with queued jobs, by the seconds they have been served
    "due": "due:%s",  # kind -> tenants with claimed and put-off jobs, by when to look at them
    "wanting": "wanting:%s",  # kind -> tenants whose jobs wait for a worker's place, by when that was said
    "totals": "totals:%s",  # kind -> hash of numbers and sums of costs of all tenants, and the clock of turns
    "pulse": "pulse:%s",  # kind -> when anybody last spoke of a job
    "rate": "%s:rate:%s",  # tenant, name -> a token bucket
    "slots": "%s:slots:%s",  # tenant, name -> holders, by the end of their slot
    "answer": "script-answer:%s",  # nonce -> what the script answered
    "champion": "%s:champion:%s",  # tenant, identity -> version, previous, challenger, epoch
    "versions": "%s:versions:%s",  # tenant, identity -> hash of version -> what is known of it
    "details": "%s:details:%s",  # tenant, identity -> hash of version -> how it was made, what was measured
    "verdicts": "%s:verdicts:%s",  # tenant, identity -> hash of version -> what the gate said last
    "moves": "%s:moves:%s",  # tenant, identity -> list of the moves of its champion, the newest first
    "outcomes": "%s:outcomes:%s",  # tenant, identity -> hash of version|done, version|failed -> renders since the move
    "batch": "%s:batch:%s",  # tenant, batch id -> hash
    "batch_items": "%s:batch-items:%s",  # tenant, batch id -> hash of number -> identity and what became of it
    "batches": "%s:batches",  # tenant -> its batches, by age
    "open_batches": OPEN_BATCHES,  # batches that have not ended
    "identities": "%s:identities",  # tenant -> names of its identities, by name
    "version_of": "%s:version-of:%s",  # tenant, fit id -> the version that the fit makes
    "move": "%s:move:%s",  # tenant, request -> what came of a promotion, should it be asked for again
    "ledger": "ledger:%s",  # list -> what the model registry has not been told yet
    "probe": "%s:probe:%s",  # tenant, probe id -> a version to be loaded and rendered once, and what came of it
    "recording": "%s:recording:%s",  # tenant, recording id -> hash
    "recordings": "%s:recordings",  # tenant -> its recordings, by age
    "by_content": "%s:recordings-by-content",  # tenant -> hash of sha256 -> recording id
    "stored": "%s:stored",  # tenant -> hash of bytes of its recordings, and uploads that are open
    "stored_since": "%s:stored-since",  # tenant -> hash of identity -> until when its storage is counted
    "usage": "%s:usage:%s",  # tenant, day -> hash of identity and what -> how much
    "usage_days": "%s:usage-days",  # tenant -> days since 1970 with something used, by day
    "usage_names": "%s:usage-names:%s",  # tenant, day -> identities with something used, by name
    "webhooks": "%s:webhooks",  # tenant -> its webhooks, by age
    "webhook": "%s:webhook:%s",  # tenant, webhook id -> hash
    "deliveries": "%s:deliveries:%s",  # tenant, webhook id -> all that it was or is to be told, by number
    "delivery": "%s:delivery:%s",  # tenant, delivery id -> hash
    "outbox": "%s:outbox:%s",  # tenant, webhook id -> what it is to be told, by when that is due
    "outboxes": OUTBOXES,  # webhooks with something to tell, by when it is due
    "seat": "seat:%s",  # name -> who does work that one process at a time does
    "maintenance": MAINTENANCE,  # why nothing new is accepted, and since when; none while it is accepted
    "tallies": TALLIES,  # hash of what happened, such as ended|render|failed|no-face -> how often
    "channel": "events:%s",  # topic, or the key of a job
}


def api_key(digest: str) -> str:
    """The entry of an API key, found by the key's hash."""
    return _PATTERNS["api_key"] % digest


def api_keys(tenant: TenantId) -> str:
    """The list of a tenant's API keys."""
    return _PATTERNS["api_keys"] % tenant


def client_token(digest: str) -> str:
    """The entry of a client token, found by the token's hash."""
    return _PATTERNS["client_token"] % digest


def client_tokens(tenant: TenantId) -> tuple[str, str]:
    """The list of a tenant's client tokens, and their ends."""
    return _PATTERNS["client_tokens"] % tenant, _PATTERNS["client_token_ends"] % tenant


def audit(tenant: TenantId) -> tuple[str, str]:
    """Who has done what on behalf of a tenant, and what with client tokens."""
    return _PATTERNS["audit"] % tenant, _PATTERNS["audit_tokens"] % tenant


def job(tenant: TenantId, job_id: JobId) -> str:
    """One job."""
    return _PATTERNS["job"] % (tenant, job_id)


def files(tenant: TenantId, job_id: JobId) -> str:
    """The small files that are kept with an open job."""
    return _PATTERNS["files"] % (tenant, job_id)


def job_lists(tenant: TenantId, kind: str) -> tuple[str, str, str]:
    """The tenant's queue, leases and index of a kind of job."""
    return (
        _PATTERNS["queue"] % (tenant, kind),
        _PATTERNS["leases"] % (tenant, kind),
        _PATTERNS["index"] % (tenant, kind),
    )


def delayed(tenant: TenantId, kind: str) -> str:
    """The tenant's jobs of a kind that are put off."""
    return _PATTERNS["delayed"] % (tenant, kind)


def wanting(kind: str) -> str:
    """The tenants whose jobs of a kind wait for a worker's place."""
    return _PATTERNS["wanting"] % kind


def idempotency(tenant: TenantId, digest: str) -> str:
    """What a client's own name for a request led to."""
    return _PATTERNS["idempotency"] % (tenant, digest)


def rate(tenant: TenantId, name: str) -> str:
    """One of a tenant's token buckets."""
    return _PATTERNS["rate"] % (tenant, name)


def slots(tenant: TenantId, name: str) -> str:
    """One of a tenant's sets of slots."""
    return _PATTERNS["slots"] % (tenant, name)


def answer(nonce: str) -> str:
    """What a script answered that was run with this nonce."""
    return _PATTERNS["answer"] % nonce


def champion(tenant: TenantId, identity: IdentityName) -> str:
    """The champion of an identity."""
    return _PATTERNS["champion"] % (tenant, identity)


def versions(tenant: TenantId, identity: IdentityName) -> str:
    """The versions of an identity."""
    return _PATTERNS["versions"] % (tenant, identity)


def details(tenant: TenantId, identity: IdentityName) -> str:
    """How the versions of an identity were made."""
    return _PATTERNS["details"] % (tenant, identity)


def verdicts(tenant: TenantId, identity: IdentityName) -> str:
    """What the gate said of the versions of an identity."""
    return _PATTERNS["verdicts"] % (tenant, identity)


def moves(tenant: TenantId, identity: IdentityName) -> str:
    """How the champion of an identity has moved."""
    return _PATTERNS["moves"] % (tenant, identity)


def outcomes(tenant: TenantId, identity: IdentityName) -> str:
    """How renders of an identity ended since its champion moved last."""
    return _PATTERNS["outcomes"] % (tenant, identity)


def batch(tenant: TenantId, batch_id: BatchId) -> str:
    """One batch."""
    return _PATTERNS["batch"] % (tenant, batch_id)


def batch_items(tenant: TenantId, batch_id: BatchId) -> str:
    """The items of a batch."""
    return _PATTERNS["batch_items"] % (tenant, batch_id)


def batches(tenant: TenantId) -> str:
    """All batches of a tenant."""
    return _PATTERNS["batches"] % tenant


def identities(tenant: TenantId) -> str:
    """The names of a tenant's identities."""
    return _PATTERNS["identities"] % tenant


def version_of(tenant: TenantId, fit_id: FitId) -> str:
    """The version that a fit makes."""
    return _PATTERNS["version_of"] % (tenant, fit_id)


def move(tenant: TenantId, request: str) -> str:
    """What came of a request to move a champion."""
    return _PATTERNS["move"] % (tenant, request)


def ledger(what: str) -> str:
    """What the model registry has not been told yet."""
    return _PATTERNS["ledger"] % what


def probe(tenant: TenantId, name: str) -> str:
    """A version to be probed."""
    return _PATTERNS["probe"] % (tenant, name)


def recording(tenant: TenantId, recording_id: RecordingId) -> str:
    """One recording."""
    return _PATTERNS["recording"] % (tenant, recording_id)


def recordings(tenant: TenantId) -> str:
    """All recordings of a tenant."""
    return _PATTERNS["recordings"] % tenant


def recordings_by_content(tenant: TenantId) -> str:
    """The recordings of a tenant by their hashes."""
    return _PATTERNS["by_content"] % tenant


def stored(tenant: TenantId) -> str:
    """What room the recordings of a tenant take."""
    return _PATTERNS["stored"] % tenant


def usage(tenant: TenantId, day: int) -> tuple[str, str]:
    """What a tenant used on a day, counted in days since 1970, and the names of what used it."""
    return _PATTERNS["usage"] % (tenant, day), _PATTERNS["usage_names"] % (tenant, day)


def usage_days(tenant: TenantId) -> str:
    """The days on which a tenant used something."""
    return _PATTERNS["usage_days"] % tenant


def webhooks(tenant: TenantId) -> str:
    """The webhooks of a tenant."""
    return _PATTERNS["webhooks"] % tenant


def webhook(tenant: TenantId, webhook_id: WebhookId) -> str:
    """One webhook."""
    return _PATTERNS["webhook"] % (tenant, webhook_id)


def deliveries(tenant: TenantId, webhook_id: WebhookId) -> str:
    """All that a webhook was or is to be told."""
    return _PATTERNS["deliveries"] % (tenant, webhook_id)


def delivery(tenant: TenantId, delivery_id: DeliveryId) -> str:
    """One event that a webhook was or is to be told."""
    return _PATTERNS["delivery"] % (tenant, delivery_id)


def outbox(tenant: TenantId, webhook_id: WebhookId) -> str:
    """What a webhook is to be told."""
    return _PATTERNS["outbox"] % (tenant, webhook_id)


def seat(name: str) -> str:
    """Who does some work that one process at a time does."""
    return _PATTERNS["seat"] % name


def everything_of(tenant: TenantId) -> str:
    """The pattern that all keys of a tenant match, and no others."""
    return f"{tenant}:*"


def channel(topic: str) -> str:
    """The channel of a topic."""
    return _PATTERNS["channel"] % topic


def job_channel(tenant: TenantId, job_id: JobId) -> str:
    """The channel on which every change of a job is announced."""
    return channel(job(tenant, job_id))


def jobs_channel(tenant: TenantId, kind: str) -> str:
    """The channel on which every change of the tenant's jobs of a kind is announced."""
    return channel(_PATTERNS["index"] % (tenant, kind))


def topic_of(channel_name: str) -> str:
    """The topic of a channel."""
    return channel_name.removeprefix(channel(""))


def for_lua() -> str:
    """One line of Lua: a function ``key_of`` that makes any of these names."""
    table = ", ".join(f"{name} = '{pattern}'" for name, pattern in _PATTERNS.items())
    function = "local function key_of(name, ...) return string.format(key_patterns[name], ...) end"
    return f"local key_patterns = {{{table}}} {function}\n"
