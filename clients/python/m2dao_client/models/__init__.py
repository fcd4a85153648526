"""The bodies of the API, as typed objects.

Written from the API's own description by `make docs`: do not edit.
"""

from m2dao_client.models.audit import AuditEntry, AuditList
from m2dao_client.models.batches import Batch, BatchItem, BatchList
from m2dao_client.models.fits import Fit, FitList, FitResult, Picture
from m2dao_client.models.health import Health, Readiness
from m2dao_client.models.identities import (
    Challenger,
    Champion,
    Export,
    GateCheck,
    GateReport,
    Identity,
    IdentityEntry,
    IdentityList,
    Move,
    MoveList,
    Outcome,
    Version,
    VersionList,
)
from m2dao_client.models.keys import Key, KeyList, MadeKey
from m2dao_client.models.recordings import PartUrl, Recording, RecordingList, StoredPart, Upload
from m2dao_client.models.renders import Render, RenderFigures, RenderList, RenderResult
from m2dao_client.models.shared import FieldFault, Problem
from m2dao_client.models.tokens import MadeToken, Token, TokenList
from m2dao_client.models.usage import Usage, UsageList
from m2dao_client.models.webhooks import Delivery, DeliveryList, MadeWebhook, Webhook, WebhookList

__all__ = [
    "AuditEntry",
    "AuditList",
    "Batch",
    "BatchItem",
    "BatchList",
    "Challenger",
    "Champion",
    "Delivery",
    "DeliveryList",
    "Export",
    "FieldFault",
    "Fit",
    "FitList",
    "FitResult",
    "GateCheck",
    "GateReport",
    "Health",
    "Identity",
    "IdentityEntry",
    "IdentityList",
    "Key",
    "KeyList",
    "MadeKey",
    "MadeToken",
    "MadeWebhook",
    "Move",
    "MoveList",
    "Outcome",
    "PartUrl",
    "Picture",
    "Problem",
    "Readiness",
    "Recording",
    "RecordingList",
    "Render",
    "RenderFigures",
    "RenderList",
    "RenderResult",
    "StoredPart",
    "Token",
    "TokenList",
    "Upload",
    "Usage",
    "UsageList",
    "Version",
    "VersionList",
    "Webhook",
    "WebhookList",
]
