"""Clusters and keepers for tests."""
