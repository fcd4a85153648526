"""What Serve is given of the application: no secret, and the cores that threads use."""

from __future__ import annotations

import pytest

from cluster.settings import ServeConfig, Settings

# Importing Ray Serve warns about its own use of pydantic.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]
SECRETS = {
    "M2DAO_REDIS_URL": "redis://:hunter2-redis@h:1",
    "M2DAO_MLFLOW_URL": "http://ops:hunter2-mlflow@h",
    "M2DAO_S3_ACCESS_KEY": "hunter2-access",
    "M2DAO_S3_SECRET_KEY": "hunter2-secret",
    "M2DAO_KEY_PEPPER": "hunter2-pepper",
}


def deployments(config: ServeConfig):
    """The ingress, the renderer and the keeper, as Serve gets them."""
    from serve_apps.app import build_app

    settings = Settings.from_env({**SECRETS, "M2DAO_S3_ENDPOINT": "http://h:2"}, use_stack=False)
    ingress = build_app(settings, config)._bound_deployment
    beside = [arg._bound_deployment for arg in ingress.init_args if hasattr(arg, "_bound_deployment")]
    return ingress, *beside


def test_nothing_that_serve_writes_into_rays_tables_holds_a_secret():
    for deployment in deployments(ServeConfig()):
        told = [arg for arg in deployment.init_args if not hasattr(arg, "_bound_deployment")]
        text = repr((told, deployment.init_kwargs, deployment.ray_actor_options)) + str([vars(arg) for arg in told])
        assert "M2DAO_S3_ENDPOINT" in text  # what is no secret is there
        assert "hunter2" not in text


def visible_gpus(deployment) -> str | None:
    return deployment.ray_actor_options["runtime_env"]["env_vars"].get("CUDA_VISIBLE_DEVICES")


def test_only_what_reserves_a_gpu_sees_one():
    assert [visible_gpus(deployment) for deployment in deployments(ServeConfig())] == ["", "", ""]
    assert [visible_gpus(deployment) for deployment in deployments(ServeConfig(replica_gpus=0.25))] == ["", None, ""]
    assert (ServeConfig().backend, ServeConfig(replica_gpus=0.25).backend) == ("cpu", "gsplat")


def test_everything_reserves_its_memory_so_that_nothing_of_it_fits_on_a_head_without():
    config = ServeConfig(talker_budget_mb=3000, ingress_memory_mb=700)
    ingress, renderer, keeper = (each.ray_actor_options["memory"] for each in deployments(config))
    assert (ingress, renderer) == (700e6, 4000e6)
    assert keeper > 0
    _, renderer, _ = deployments(ServeConfig(replica_memory_mb=9000))
    assert renderer.ray_actor_options["memory"] == 9000e6


@pytest.mark.parametrize(("changes", "cpus"), [({}, 1), ({"render_threads": 3}, 3), ({"replica_cpus": 2.5}, 2.5)])
def test_a_replica_reserves_the_cores_that_its_threads_use(changes, cpus):
    _, renderer, _ = deployments(ServeConfig(**changes))
    assert renderer.ray_actor_options["num_cpus"] == cpus
