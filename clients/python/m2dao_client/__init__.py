"""The M2DAO-Talker API for Python.

    with Client() as api:                                  # M2DAO_API_URL, M2DAO_API_KEY
        render = api.renders.create("anna", "speech.wav")
        api.renders.wait(render.id)
        api.renders.download(render.id, "anna.mp4")

``AsyncClient`` has the same operations, awaited.
"""

from m2dao_client import models, problems
from m2dao_client.client import AsyncClient, Client
from m2dao_client.errors import (
    ApiError,
    ConfigurationError,
    ConnectionFailed,
    Damaged,
    JobFailed,
    M2daoClientError,
    StoreRefused,
    UnexpectedAnswer,
    WaitedTooLong,
)
from m2dao_client.files import Transfer
from m2dao_client.session import Retries
from m2dao_client.webhooks import InvalidSignature, verified

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ConfigurationError",
    "ConnectionFailed",
    "Damaged",
    "InvalidSignature",
    "JobFailed",
    "M2daoClientError",
    "Retries",
    "StoreRefused",
    "Transfer",
    "UnexpectedAnswer",
    "WaitedTooLong",
    "models",
    "problems",
    "verified",
]
