"""The ledger of erasures: what was deleted for good, so that no backup brings it back.

An erasure has a path, such as ``acme/identities/anna`` or ``acme/identities/anna/7``; what lies below it is erased too.
The ledger holds no paths, only their hashes under a key that backups hold and exports of the ledger do not. So an
export alone tells nobody a name. Each erasure has a number. A backup keeps the last one, and a restore applies those
above it.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.ids import IdentityName, RecordingId, TenantId
from cluster.state import keys, scripts
from cluster.state.link import RedisLink, new_nonce


def identity_path(tenant: TenantId, identity: IdentityName, version: int | None = None) -> str:
    """The path of an identity, or of one of its versions: where its files are in the object store."""
    return f"{tenant}/identities/{identity}" + ("" if version is None else f"/{version}")


def api_key_path(tenant: TenantId, key_id: str) -> str:
    """The path of an API key, for a key that was revoked."""
    return f"{tenant}/api-keys/{key_id}"


def recording_path(tenant: TenantId, recording_id: RecordingId) -> str:
    """The path of what is known of a recording; its bytes have paths of their own, by their hash."""
    return f"{tenant}/recording/{recording_id}"


@dataclass(frozen=True)
class Erased:
    """Tells what is erased.

    Args:
        key: under which paths are hashed.
        hashes: of the paths.
    """

    key: bytes
    hashes: frozenset[str]

    def covers(self, path: str) -> bool:
        """Whether the path, or one above it, was erased."""
        parts = itertools.accumulate(path.strip("/").split("/"), lambda above, name: f"{above}/{name}")
        return bool(self.hashes) and any(hash_of(self.key, part) in self.hashes for part in parts)


class Erasures:
    """The ledger. See ``StateStore`` for what every method raises."""

    def __init__(self, link: RedisLink):
        self._link = link

    def note(self, path: str) -> int:
        """Note that something is erased, before it is; returns the number of the erasure."""
        names = [keys.ERASURES, keys.answer(new_nonce())]
        return int(self._link.run(scripts.NOTE_ERASURE, names, [hash_of(self.key(), path)]))

    def key(self) -> bytes:
        """The key under which paths are hashed; made when it is first needed."""
        self._link.call("SET", keys.ERASURES_KEY, secrets.token_hex(32), "NX")
        return bytes.fromhex(self._link.call("GET", keys.ERASURES_KEY))

    def last(self) -> int:
        """The number of the last erasure; 0 when there was none."""
        return max(self.all().values(), default=0)

    def all(self) -> dict[str, int]:
        """The hashes of all erased paths, with the number of the last erasure of each."""
        return dict(self._pairs())

    def _pairs(self) -> Iterator[tuple[str, int]]:
        for digest, number in self._link.call("ZRANGE", keys.ERASURES, 0, -1, "WITHSCORES"):
            yield str(digest), int(float(number))


def hash_of(key: bytes, path: str) -> str:
    """What the ledger holds of a path."""
    return hmac.new(key, path.encode(), hashlib.sha256).hexdigest()
