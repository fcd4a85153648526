"""Fixtures for all tests; the embedded stack starts only for tests that ask for it."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: waiting threads sleep, as in the commands

pytest_plugins = ["tests.support.stack"]
