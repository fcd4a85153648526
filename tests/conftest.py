"""Fixtures for all tests; the embedded stack starts once a process, for tests that ask for it."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# Started in the background, a shell ignores the interrupt, and commands under test would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: waiting threads sleep, as in the commands

# Properties hold or fail whatever else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = ["tests.support.stack"]
