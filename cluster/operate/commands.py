"""The commands of ``m2dao-cluster`` by which an operator looks after the whole platform."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cluster.operate.backup_commands import add_backup_commands
from cluster.operate.drain import OpenWork, drain, open_work
from cluster.operate.parser import Add, Commands
from cluster.operate.pepper_command import add_pepper_commands
from cluster.operate.plan_command import add_plan_command
from cluster.operate.support_command import add_support_command
from cluster.platform import Platform
from cluster.settings import Settings
from m2dao.command_line import say
from m2dao.errors import ConfigError


def add_commands(commands: Commands, add: Add) -> None:
    """Add them to the program.

    Args:
        commands: where commands go.
        add: makes one of a name, what it runs and what it says of itself.
    """
    maintenance = commands.add_parser(
        "maintenance", help="Accept nothing new, finish what was accepted, and tell when that is done."
    ).add_subparsers(required=True, metavar="COMMAND")
    on = add(maintenance, "on", _on, "Accept nothing new from now on; reads go on.")
    on.add_argument("--reason", default="", help="a note for other operators")
    status = add(maintenance, "status", _status, "Say whether new work is accepted, and what is still open.")
    for command in (on, status):
        command.add_argument(
            "--wait",
            action="store_true",
            help="return when no render and no fit is open any more; uploads of recordings are not waited for",
        )
        command.add_argument("--limit-s", type=float, metavar="N", help="of --wait: fail after so many seconds")
    add(maintenance, "off", _off, "Accept new work again.")
    add_backup_commands(commands, add)
    add_plan_command(commands, add)
    add_pepper_commands(commands, add)
    add_support_command(commands, add)


def _on(arguments: argparse.Namespace) -> dict[str, Any]:
    _check(arguments)
    Platform(Settings.from_env()).state.maintenance.begin(arguments.reason)
    return _status(arguments)


def _off(arguments: argparse.Namespace) -> dict[str, Any]:
    ended = Platform(Settings.from_env()).state.maintenance.end()
    say("new work is accepted again" if ended else "new work was accepted all the time")
    return {"on": False, "was_on": ended}


def _check(arguments: argparse.Namespace) -> None:
    if arguments.limit_s is not None and not arguments.wait:
        raise ConfigError("--limit-s", "--wait beside it", "none", "add --wait, or leave --limit-s out")


def _status(arguments: argparse.Namespace) -> dict[str, Any]:
    _check(arguments)
    state = Platform(Settings.from_env()).state
    notice = state.maintenance.notice()
    if notice is None:
        say("new work is accepted")
    else:
        since = datetime.fromtimestamp(notice.since_s, UTC).isoformat(timespec="seconds")
        say(f"maintenance since {since}: nothing new is accepted" + (f" ({notice.reason})" if notice.reason else ""))
    looks = drain(state.jobs, limit_s=arguments.limit_s) if arguments.wait else iter((open_work(state.jobs),))
    work: tuple[OpenWork, ...] = ()
    for work in looks:
        say("; ".join(map(str, work)))
    drained = not any(each.num_open for each in work)
    say("drained: no render and no fit is open" if drained else "not drained yet")
    return {
        "on": notice is not None,
        "reason": "" if notice is None else notice.reason,
        "since_s": None if notice is None else notice.since_s,
        "open": {each.kind: {k: v for k, v in asdict(each).items() if k != "kind"} for each in work},
        "drained": drained,
    }
