"""The API keeps what its OpenAPI document says, whatever is sent (schemathesis, over real services)."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance

from cluster.settings import ServeConfig
from serve_apps.api.ingress import create_api
from tests.support.serve import api_over, speech
from tests.support.tiny_identity import make_tiny_identity

# Binary fields: sound that works, and things that are none. Each accepted one costs a decoding.
schemathesis.openapi.format("binary", st.sampled_from([speech(0.2), b"", b"RIFF", b"\x00\xff" * 50]))

schema = schemathesis.openapi.from_dict(create_api(None).openapi())


@pytest.fixture(scope="module")
def customer(stack, tmp_path_factory):
    config = ServeConfig(max_upload_mb=1, max_audio_s=5, max_active_renders=3)
    folder = make_tiny_identity(tmp_path_factory.mktemp("identity") / "anna", size=32)
    with api_over(stack, config) as api:
        customer = api.customer()
        api.register(customer.tenant, folder)
        yield customer


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_is_described(case, customer):
    case.call_and_validate(
        base_url=str(customer.client.base_url),
        headers={"Authorization": f"Bearer {customer.key}"},
        # A form that fits the schema can still be refused: its sound may be none, its identity unknown.
        excluded_checks=[positive_data_acceptance],
    )
