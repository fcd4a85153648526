"""Who acts, where a command does."""

from __future__ import annotations

import getpass
from contextlib import AbstractContextManager

from cluster.state.people.audit import acting


def acting_as_command() -> AbstractContextManager[None]:
    """Note what is done inside as done by whoever runs this process on the command line."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = "unnamed"
    return acting(f"command:{name}")
