"""M2DAO engine: video in, talking pixels out."""

__version__ = "0.1.0"
