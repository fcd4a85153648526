"""A keeper that only tells webhooks, in a process of its own that a test may kill.

python -m tests.integration.cluster.webhooks.lone_keeper
"""

from __future__ import annotations

import threading

from cluster.keeper.keeper import Keeper
from cluster.keeper.webhooks_chore import WebhooksChore
from cluster.platform import Platform
from cluster.settings import Settings


def main() -> None:
    platform = Platform(Settings.from_env(use_stack=False))
    Keeper(platform.state.seats, [WebhooksChore(platform)], lease_s=2.0).run(threading.Event())


if __name__ == "__main__":
    main()
