"""The loss terms, and their compiled twins."""
