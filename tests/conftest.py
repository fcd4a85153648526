"""Fixtures for all tests; the embedded stack starts only for tests that ask for it."""

pytest_plugins = ["tests.support.stack"]
