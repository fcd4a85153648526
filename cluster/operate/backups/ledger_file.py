"""The ledger of erasures as a file, to be kept apart from backups."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cluster.state.upkeep.erasures import Erasures
from m2dao.errors import InputError, ObjectCorrupt
from m2dao.files import whole_file
from m2dao.formats import ERASURES


@dataclass(frozen=True, kw_only=True)
class LedgerFile:
    """What was erased, as hashes with the number of each erasure.

    Args:
        key_id: tells the key of the hashes from others.
        entries: hash -> number.
    """

    key_id: str
    entries: dict[str, int]


def key_id_of(key: bytes) -> str:
    """What tells a key from others; it cannot be found by it."""
    return hashlib.sha256(b"m2dao erasures " + key).hexdigest()[:16]


def write_ledger(erasures: Erasures, path: Path) -> LedgerFile:
    """Export the ledger; the file appears whole, in place of the one before."""
    ledger = LedgerFile(key_id=key_id_of(erasures.key()), entries=erasures.all())
    values = {**ERASURES.header, **vars(ledger), "sha256": _sha256(ledger)}
    with whole_file(path) as partial:
        partial.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return ledger


def read_ledger(path: Path) -> LedgerFile:
    """Read what ``write_ledger`` wrote.

    Raises:
        InputError: this is no such file, or one of another release.
        ObjectCorrupt: it was altered.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(path), "a ledger of erasures", str(error)) from error
    if not isinstance(values, dict) or (values.get("format"), values.get("version")) != ERASURES[:2]:
        raise InputError(str(path), str(ERASURES), "another format", "use the release that made it")
    try:
        ledger = LedgerFile(key_id=str(values.get("key_id")), entries=dict(values.get("entries") or {}))
    except (TypeError, ValueError) as error:
        raise ObjectCorrupt(str(path), "hashes with numbers", str(error), "use another copy") from error
    if _sha256(ledger) != values.get("sha256"):
        raise ObjectCorrupt(str(path), "the hash that it names", "another", "use another copy")
    return ledger


def _sha256(ledger: LedgerFile) -> str:
    return hashlib.sha256(json.dumps(vars(ledger), sort_keys=True).encode()).hexdigest()
