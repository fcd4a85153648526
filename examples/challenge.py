"""A new version is compared, tried on a share of the renders, promoted, or taken back: over the API.

python -m examples.challenge anna 8        version 8 challenges the champion of anna
"""

import sys
import time
from collections.abc import Callable

from m2dao_client import Client
from m2dao_client.models import Challenger, Champion


def compare(api: Client, person: str, version: int, champion: Champion) -> None:
    """Say what was measured of a version, beside its champion."""
    new = api.identities.version(person, version)
    old = api.identities.version(person, champion.version).metrics if champion.version else {}
    for name, value in sorted(new.metrics.items()):
        print(f"{name:24} {value:10.4g}   champion {old.get(name, float('nan')):10.4g}")
    for check in new.gate.checks if new.gate else []:
        print(f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.detail}")


def has_proved_itself(found: Challenger, num_renders: int) -> bool:
    """Whether a challenger has made so many renders, and fails no more often than the champion."""
    outcomes = {outcome.version: outcome for outcome in found.outcomes}
    tried = outcomes.get(found.version or 0)
    if tried is None or tried.done + tried.failed < num_renders:
        return False
    before = outcomes.get(found.champion or 0)
    worst = 0.0 if before is None else before.failed / max(1, before.done + before.failed)
    return tried.failed / (tried.done + tried.failed) <= worst


def challenge(
    api: Client,
    person: str,
    version: int,
    *,
    share: int = 20,
    num_renders: int = 50,
    force: bool = False,
    pause: Callable[[], None] = lambda: time.sleep(30),
) -> Champion:
    """Try a version on a share of the renders, then promote it; returns the champion in the end."""
    champion = api.identities.champion(person)
    compare(api, person, version, champion)
    found = api.identities.challenge(person, version=version, share=share, force=force, seen=champion)
    while not has_proved_itself(found, num_renders):
        pause()
        found = api.identities.challenger(person)
        if found.version != version:  # too many of its renders failed, or somebody else has decided
            print(f"{person}@{version} was withdrawn")
            return api.identities.champion(person)
    seen = api.identities.champion(person)
    after = api.identities.promote(person, version, seen=seen, force=force)
    print(f"{person}@{after.version} is the champion; `m2dao-client rollback {person}` takes it back")
    return after


def take_back(api: Client, person: str) -> Champion:
    """Make the previous champion the champion again, and say how it has moved."""
    champion = api.identities.roll_back(person)
    for move in api.identities.history(person):
        print(f"{move.at:%Y-%m-%d %H:%M} {move.what} {move.before} -> {move.version}")
    return champion


if __name__ == "__main__":
    with Client() as service:  # M2DAO_API_URL, M2DAO_API_KEY
        challenge(service, sys.argv[1], int(sys.argv[2]))
