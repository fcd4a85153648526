"""Uploads that go straight to the object store."""
