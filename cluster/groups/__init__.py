"""Larger groups of settings, and what all groups are made of. ``cluster.settings`` puts them together."""
