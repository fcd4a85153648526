"""Unit tests cannot start Ray: a test that needs it stands in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest
import wrapt

_HERE = Path(__file__).parent
_running = []  # unit tests, in this process: other tests may run in it too, and come by here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if not item.path.is_relative_to(_HERE):
        return (yield)
    _running.append(item.nodeid)
    try:
        return (yield)
    finally:
        _running.pop()


def _init(init, ray, args, options):
    if _running:
        raise RuntimeError(f"{_running[-1]} starts Ray, which a unit test may not: move it to tests/integration")
    return init(*args, **options)


@wrapt.when_imported("ray")
def _guard(ray):
    wrapt.wrap_function_wrapper(ray, "init", _init)
