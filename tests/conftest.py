"""Fixtures for all tests; the embedded stack starts only for tests that ask for it."""

import os
import signal

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background: commands under test would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: waiting threads sleep, as in the commands

pytest_plugins = ["tests.support.stack"]
