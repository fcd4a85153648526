"""The API over the embedded stack, and tenants who may ask it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.serve import Api, Customer, api_over
from tests.support.tiny_identity import make_tiny_identity


@pytest.fixture(scope="module")
def api(stack):
    with api_over(stack) as api:
        yield api


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)


@pytest.fixture(scope="module")
def anna(api: Api, folder: Path) -> Customer:
    """A tenant with the identity anna; tests that count renders take one of their own."""
    customer = api.customer()
    api.register(customer.tenant, folder)
    return customer


@pytest.fixture
def own(api: Api, folder: Path) -> Customer:
    customer = api.customer()
    api.register(customer.tenant, folder)
    return customer
