"""What is registered of a version: facts as tags of the registry, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.ids import FitId, IdentityName, ModelRef, TenantId
from m2dao.errors import InputError

STATE_TAG = "m2dao.state"
FIT_ID_TAG = "m2dao.fit_id"
METRICS_TAG = "m2dao.metrics"
FILES_SHA256_TAG = "m2dao.files_sha256"
NUM_BYTES_TAG = "m2dao.num_bytes"
OWN_TAGS = (STATE_TAG, FIT_ID_TAG, METRICS_TAG, FILES_SHA256_TAG, NUM_BYTES_TAG)


@dataclass(frozen=True, kw_only=True)
class VersionInfo:
    """What is registered of one version."""

    ref: ModelRef
    metrics: dict[str, float]
    tags: dict[str, str]
    aliases: tuple[str, ...]
    created_s: float  # Unix time
    fit_id: FitId | None
    run_id: str
    files_sha256: str  # hash of the file table; see storage.StoredFolder
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class IdentityInfo:
    """One of a tenant's identities."""

    tenant: TenantId
    identity: IdentityName
    champion: int | None  # version
    versions: tuple[int, ...]  # ascending


def version_info(
    tenant: TenantId, identity: IdentityName, version: Any, aliases: list[str] | None = None
) -> VersionInfo:
    """What is registered of one version of MLflow's; ``aliases`` where it does not bring them along."""
    tags = dict(version.tags)
    fit_id = tags.get(FIT_ID_TAG)
    return VersionInfo(
        ref=ModelRef(tenant, identity, int(version.version)),
        metrics=json.loads(tags.get(METRICS_TAG, "{}")),
        tags={key: value for key, value in tags.items() if key not in OWN_TAGS},
        aliases=tuple(sorted(version.aliases if aliases is None else aliases)),
        created_s=version.creation_timestamp / 1000,
        fit_id=FitId.parse(fit_id) if fit_id else None,
        run_id=version.run_id or "",
        files_sha256=tags.get(FILES_SHA256_TAG, ""),
        num_bytes=int(tags.get(NUM_BYTES_TAG, 0)),
    )


def refuse_own_tags(tags: Mapping[str, str]) -> None:
    """Return when none of ``tags`` is one that the registry writes itself.

    Raises:
        InputError: one is.
    """
    if wrong := sorted(set(tags) & set(OWN_TAGS)):
        raise InputError("tags", "names that do not begin with m2dao.", str(wrong))


def finite_number(name: str, value: float) -> float:
    """``value`` of the metric ``name`` as a float.

    Raises:
        InputError: it is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"metric {name}", "a finite number", repr(value))
    return float(value)
