"""Who acts, where a command does."""

from __future__ import annotations

import getpass

from cluster.state.people.audit import act_as


def act_as_command() -> None:
    """Note what this process does from now on as done by whoever runs it on the command line."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = "unnamed"
    act_as(f"command:{name}")
