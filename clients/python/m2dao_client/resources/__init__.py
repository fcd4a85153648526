"""The resources of the API, each with its operations."""
