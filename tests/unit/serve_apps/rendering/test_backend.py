"""By what a replica renders is a matter of its settings, never of what its machine has."""

from __future__ import annotations

import pytest

from cluster.settings import ServeConfig
from m2dao.errors import RenderBackendUnavailable
from serve_apps.identities.source import load_talker
from tests.support.pretend_cuda import pretend_cuda
from tests.support.tiny_identity import make_tiny_identity

# Importing Ray Serve warns about its own use of pydantic.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def start_backend(config: ServeConfig):
    from serve_apps.rendering.talker_deployment import start_backend

    return start_backend(config)


def test_a_replica_that_should_have_a_gpu_and_has_none_does_not_start_and_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RenderBackendUnavailable, match="M2DAO_SERVE_REPLICA_GPUS is 0.5.*needs a CUDA device"):
        start_backend(ServeConfig(replica_gpus=0.5))


def test_a_replica_without_a_gpu_of_its_own_leaves_those_of_its_machine_alone(tmp_path):
    config = ServeConfig()
    folder = make_tiny_identity(tmp_path / "identity", size=32)
    with pretend_cuda():
        talker = load_talker(folder, backend=config.backend)
        start_backend(config)()
    assert (talker.backend, talker.device.type) == ("cpu", "cpu")
