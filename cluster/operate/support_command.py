"""``m2dao-cluster support-bundle``: what a stranger needs in order to help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cluster.operate.parser import Add, Commands
from cluster.operate.support.bundle import make_bundle
from cluster.settings import Settings
from m2dao.command_line import say
from m2dao.files import check_place


def add_support_command(commands: Commands, add: Add) -> None:
    """Add it to the program; see ``add_commands``."""
    bundle = add(
        commands, "support-bundle", _bundle, "Collect versions, settings, trials, queues and logs, without names."
    )
    bundle.add_argument("file", type=Path, help="the archive (.tar.gz); what is there is replaced")


def _bundle(arguments: argparse.Namespace) -> dict[str, Any]:
    check_place(arguments.file)
    files = make_bundle(Settings.from_env(), arguments.file, say=say)
    say(f"look into {arguments.file} before you send it")
    return {"file": str(arguments.file), "files": files}
