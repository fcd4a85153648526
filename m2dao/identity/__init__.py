"""Identities: what is stored, loaded and asked for frames.

``Talker`` is imported from ``m2dao.identity.talker`` on first use, so that reading a manifest does not load torch.
"""

from __future__ import annotations


def __getattr__(name: str):
    if name == "Talker":
        from m2dao.identity.talker import Talker

        return Talker
    if name == "verify_identity":
        from m2dao.identity.manifest import verify_identity

        return verify_identity
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
