"""The names of things, each with one parser.

    TenantId   acme                     a customer; every stored key begins with it
    IdentityName   anna                 a person the tenant has fitted
    ModelRef   acme.anna@7              one pinned version of an identity; what the renderer is multiplexed by
    AliasRef   acme.anna@champion       a movable name for a version
    RenderId   r-0b1c...                one render job
    FitId      f-0b1c...                one fit job
    RecordingId   rec-0b1c...           one uploaded recording
    WebhookId   wh-0b1c...              one address that is told of events
    DeliveryId   dl-0b1c...-7           one event that it is told

MLflow refuses ``/`` and ``:`` in names but accepts spaces and 300 characters, and S3 accepts nearly anything, so
the rules here are stricter than any of the services' own and hold for all of them at once.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Self

from m2dao.errors import InvalidId

ALIASES = ("champion", "challenger", "previous")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_NAME_RULE = "1 to 40 lower-case letters, digits and hyphens, not beginning with a hyphen"
# A tenant's name is the first part of key names that other things share a namespace with.
RESERVED_TENANTS = frozenset(
    {
        "api-key",
        "client-token",
        "tenants",
        "turn",
        "wanting",
        "due",
        "totals",
        "script-answer",
        "pulse",
        "events",
        "idempotency",
        "mlflow",
        "ledger",
        "seat",
        "probes",
        "recordings",
        "pepper",
        "maintenance",
        "erasures",
        "outbox",
        "batches",
    }
)


def _shown(text: object) -> str:
    """What came, short enough for a message whatever a client sent."""
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


@dataclass(frozen=True, order=True)
class TenantId:
    """A customer's name."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidId("tenant", _NAME_RULE, _shown(self.name))
        if self.name in RESERVED_TENANTS:
            raise InvalidId("tenant", "a name that is not reserved", _shown(self.name))

    @classmethod
    def parse(cls, text: str) -> TenantId:
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True)
class IdentityName:
    """The name of a fitted person, unique within a tenant."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidId("identity", _NAME_RULE, _shown(self.name))

    @classmethod
    def parse(cls, text: str) -> IdentityName:
        return cls(text)

    def __str__(self) -> str:
        return self.name


def _split_ref(kind: str, text: str) -> tuple[str, str, str]:
    """``acme.anna@7`` -> (``acme``, ``anna``, ``7``)."""
    parts = re.fullmatch(r"([^.@]*)\.([^.@]*)@([^.@]*)", text) if isinstance(text, str) else None
    if parts is None:
        raise InvalidId(kind, "TENANT.IDENTITY@VERSION or @ALIAS", _shown(text))
    return parts.group(1), parts.group(2), parts.group(3)


@dataclass(frozen=True, order=True)
class ModelRef:
    """One pinned version of an identity: ``acme.anna@7``."""

    tenant: TenantId
    identity: IdentityName
    version: int

    def __post_init__(self) -> None:
        if not isinstance(self.tenant, TenantId) or not isinstance(self.identity, IdentityName):
            raise TypeError("ModelRef takes a TenantId and an IdentityName; use ModelRef.parse for text")
        if type(self.version) is not int or not 1 <= self.version < 10**9:
            raise InvalidId("model version", "a whole number from 1", _shown(self.version))

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        tenant, identity, version = _split_ref("model ref", text)
        if not re.fullmatch(r"[1-9][0-9]{0,8}", version):  # one spelling per ref: no "07", no "٧"
            raise InvalidId("model ref", "a whole number after the @", _shown(text))
        return cls(TenantId(tenant), IdentityName(identity), int(version))

    @property
    def registry_name(self) -> str:
        """Name of the registered model."""
        return f"{self.tenant}.{self.identity}"

    @property
    def object_prefix(self) -> str:
        """Where the version's files are in the object store, ending in a slash."""
        return f"{self.tenant}/identities/{self.identity}/{self.version}/"

    def __str__(self) -> str:
        return f"{self.registry_name}@{self.version}"


@dataclass(frozen=True, order=True)
class AliasRef:
    """A movable name for a version of an identity: ``acme.anna@champion``."""

    tenant: TenantId
    identity: IdentityName
    alias: str = "champion"

    def __post_init__(self) -> None:
        if not isinstance(self.tenant, TenantId) or not isinstance(self.identity, IdentityName):
            raise TypeError("AliasRef takes a TenantId and an IdentityName; use AliasRef.parse for text")
        if self.alias not in ALIASES:
            raise InvalidId("alias", " or ".join(ALIASES), _shown(self.alias))

    @classmethod
    def parse(cls, text: str) -> AliasRef:
        tenant, identity, alias = _split_ref("alias", text)
        return cls(TenantId(tenant), IdentityName(identity), alias)

    @property
    def registry_name(self) -> str:
        """Name of the registered model."""
        return f"{self.tenant}.{self.identity}"

    def __str__(self) -> str:
        return f"{self.registry_name}@{self.alias}"


def parse_ref(text: str) -> ModelRef | AliasRef:
    """A pinned ref or an alias, whichever the text is.

    Raises:
        InvalidId: it is neither.
    """
    _, _, last = _split_ref("model ref", text)
    return ModelRef.parse(text) if last[:1].isdigit() else AliasRef.parse(text)


@dataclass(frozen=True, order=True)
class _RandomId:
    """``<prefix>-<32 hex digits>``, from a random UUID so that ids cannot be guessed or counted."""

    text: str
    prefix = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not re.fullmatch(rf"{self.prefix}-[0-9a-f]{{32}}", self.text):
            raise InvalidId(f"{type(self).__name__}", f"{self.prefix}- and 32 hex digits", _shown(self.text))

    @classmethod
    def new(cls) -> Self:
        """An id that nothing has yet."""
        return cls(f"{cls.prefix}-{uuid.uuid4().hex}")

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(text)

    def __str__(self) -> str:
        return self.text


class RenderId(_RandomId):
    """The id of a render job: ``r-`` and 32 hex digits."""

    prefix = "r"


class FitId(_RandomId):
    """The id of a fit job: ``f-`` and 32 hex digits."""

    prefix = "f"


JobId = RenderId | FitId


class RecordingId(_RandomId):
    """The id of an uploaded recording: ``rec-`` and 32 hex digits."""

    prefix = "rec"


class BatchId(_RandomId):
    """The id of a batch: ``b-`` and 32 hex digits."""

    prefix = "b"


class WebhookId(_RandomId):
    """The id of a webhook: ``wh-`` and 32 hex digits."""

    prefix = "wh"


@dataclass(frozen=True, order=True)
class DeliveryId:
    """The id of an event that a webhook is told: ``dl-``, the digits of the webhook, and a number."""

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"dl-[0-9a-f]{32}-[1-9][0-9]{0,14}", self.text):
            raise InvalidId("DeliveryId", "dl-, 32 hex digits, and a number", _shown(self.text))

    @classmethod
    def parse(cls, text: str) -> DeliveryId:
        return cls(text)

    @property
    def webhook(self) -> WebhookId:
        """The webhook that is told."""
        return WebhookId("wh-" + self.text[3:35])

    @property
    def number(self) -> int:
        """Which of its events it is; later ones have greater numbers."""
        return int(self.text[36:])

    def __str__(self) -> str:
        return self.text


def parse_job_id(text: str) -> JobId:
    """A job id of either kind.

    Raises:
        InvalidId: it is neither.
    """
    return FitId.parse(text) if isinstance(text, str) and text.startswith("f-") else RenderId.parse(text)
