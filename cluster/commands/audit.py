"""``m2dao-cluster audit``: who has done what."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cluster.ids import TenantId
from cluster.operate.parser import Add, Commands
from cluster.platform import Platform
from cluster.settings import Settings
from cluster.state.people.audit import AuditEntry


def add_audit_command(commands: Commands, add: Add) -> None:
    """Add the command ``audit``."""
    audit = add(commands, "audit", _audit, "Say who has done what for a tenant, the newest first.")
    audit.add_argument("tenant")
    audit.add_argument("--limit", type=int, default=100, metavar="N", help="how many at most (default: %(default)s)")
    audit.add_argument("--before", default="", metavar="ID", help="only what was done before this entry")


def _audit(arguments: argparse.Namespace) -> dict[str, Any]:
    trail = Platform(Settings.from_env()).state.audit
    entries, following = trail.page(TenantId.parse(arguments.tenant), before=arguments.before, limit=arguments.limit)
    if not arguments.json:
        print("\n".join(_line(entry) for entry in entries))
    return {"tenant": arguments.tenant, "entries": [asdict(entry) for entry in entries], "next": following}


def _line(entry: AuditEntry) -> str:
    when = datetime.fromtimestamp(entry.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    change = f"  {entry.before or '-'} -> {entry.after or '-'}" if entry.before or entry.after else ""
    return f"{when}  {entry.by:24}  {entry.what:14}  {entry.on}{change}"
