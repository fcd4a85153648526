"""Fixtures for all tests, and how ``make test`` spreads them over processes.

The embedded stack starts only for tests that ask for it. Most of the time of a test that needs services is waiting. So
what shares a service, or something that is expensive to build, is one group that runs in one process, in order. The
groups run side by side, and the longest begin first. Each process that needs the embedded stack has its own.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Started in the background, a shell ignores the interrupt, and commands under test would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: waiting threads sleep, as in the commands

pytest_plugins = ["tests.support.stack"]

ROOT = Path(__file__).parents[1]

# Groups in the order in which they begin; a file that stands nowhere here is a group and follows in pytest's order.
_LONGEST_FIRST = (
    "tests/e2e/test_demo.py",
    "ray",
    "services",
    "tests/e2e/test_tutorials.py",
    "tests/integration/cluster/test_stack.py",
    "tests/unit/capture/test_killed.py",
    "tests/unit/capture/review/test_against_truth.py",
    "presenters",
    "tests/unit/capture/test_prepare.py",
    "tests/unit/training/speech/test_fit_driver_held_out.py",
    "tests/unit/training/test_fit.py",
    "tests/unit/comparison/test_comparison.py",
    "tests/unit/training/test_universal.py",
)
_OWN_RAY = ("tests/integration/train_jobs/test_universal_ray.py", "tests/integration/cluster/test_private_ray.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not getattr(config.option, "loadgroup", False):  # set in the processes of --dist loadgroup
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group_of(item)))
    rank = {name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(_group_of(item), len(rank)))


def _group_of(item: pytest.Item) -> str:
    """The name of the group that runs in one process."""
    file = item.path.relative_to(ROOT).as_posix()
    fixtures = getattr(item, "fixturenames", ())
    if "ray_stack" in fixtures or file in _OWN_RAY:
        return "ray"
    if file in _LONGEST_FIRST:
        return file
    if file.startswith("tests/unit/presenter/"):
        return "presenters"
    if "stack" in fixtures:
        return "services"
    return file
