"""Telling webhooks: which addresses may be reached, and one signed request."""
