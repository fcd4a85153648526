"""Backups of a whole platform, and how one becomes a platform again."""
