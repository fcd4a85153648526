"""Checks that are shared."""
