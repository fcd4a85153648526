"""MLflow hanging or gone: serving does not ask it, and says that it is away."""

from __future__ import annotations

import urllib.parse

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.serve import api_over, do, make_worker, take
from tests.support.stack import reaching
from tests.support.tiny_identity import make_tiny_identity


@pytest.fixture
def mlflow(stack):
    """A proxy before MLflow."""
    with FaultProxy(urllib.parse.urlsplit(stack.require("mlflow.url")).port) as proxy:
        yield proxy


@pytest.fixture
def api(stack, mlflow):
    with api_over(reaching(stack, mlflow_url=f"http://127.0.0.1:{mlflow.port}")) as api:
        yield api


@pytest.mark.parametrize("fault", ["stall", "refuse"])
def test_renders_are_accepted_loaded_and_made_without_mlflow_which_is_reported(api, mlflow, tmp_path, fault):
    customer = api.customer()
    api.register(customer.tenant, make_tiny_identity(tmp_path / "anna", size=32))
    getattr(mlflow, fault)()
    connections = mlflow.num_connections
    answer = customer.ask(0.4)
    assert answer.status_code == 202, answer.text
    worker, _ = make_worker(api.services, tmp_path / "disk")  # with nothing on its disk: a cold load
    assert do(worker, take(api.services, customer.tenant)) == "done"
    assert customer.client.get("/v1/identities").json()["identities"][0]["champion"] == 1
    assert mlflow.num_connections == connections  # nobody has even asked
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "degraded", "degraded": ["model registry"]})


def test_a_service_that_hangs_is_named_and_waited_for_by_one_thread(stack):
    port = urllib.parse.urlsplit(stack.require("s3.endpoint")).port
    with FaultProxy(port) as proxy, api_over(reaching(stack, s3_endpoint=f"http://127.0.0.1:{proxy.port}")) as api:
        assert api.client.get("/readyz").status_code == 200
        proxy.stall()
        before = proxy.num_connections
        for _ in range(2000):
            answer = api.client.get("/readyz")
            if answer.status_code == 503:  # an answer from before may still have been fresh
                break
        assert answer.json()["detail"] == "no answer of the object store"
        for _ in range(3):
            assert api.client.get("/readyz").status_code == 503
        assert proxy.num_connections <= before + 1
        proxy.heal()
