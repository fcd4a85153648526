"""The application is built in the environment that the kubelet gives each pod of the manifests."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.cluster.kubelet import environment_of, service_links

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "cluster" / "kuberay"
# What the operator makes of the two files, and what a site may add: every pod that starts later is told of them.
SERVICES = {
    "m2dao-serve-svc": {"serve": 8000},
    "m2dao-head-svc": {"gcs-server": 6379, "dashboard": 8265, "serve": 8000},
    "m2dao-train-head-svc": {"gcs-server": 6379, "dashboard": 8265},
    "m2dao-redis": {"redis": 6379},
    "m2dao-api": {"http": 80},
}
SECRETS = {
    "m2dao-settings": {
        "M2DAO_REDIS_URL": "rediss://:a$b&c;d@redis.example.org:6380/0",
        "M2DAO_S3_ENDPOINT": "https://s3.example.org",
        "M2DAO_MLFLOW_URL": "https://mlflow.example.org",
        "M2DAO_KEY_PEPPER": "p" * 64,
    }
}
# A fresh process that has no other environment than that of one pod after the other.
BUILD = """
import json, os, sys
from serve_apps.app import build_from_env
for env in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(env)
    print(build_from_env({})._bound_deployment.name)
"""


def pods():
    """Each pod of the manifests, by cluster and group."""
    (service,) = yaml.safe_load_all((FOLDER / "rayservice.yaml").read_text())
    (train,) = yaml.safe_load_all((FOLDER / "raycluster.yaml").read_text())
    for name, cluster in (("serve", service["spec"]["rayClusterConfig"]), ("train", train["spec"])):
        yield f"{name}-head", cluster["headGroupSpec"]["template"]["spec"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{name}-{group['groupName']}", group["template"]["spec"]


PODS = dict(pods())


def environment(spec):
    image = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return environment_of(spec, secrets=SECRETS, services=SERVICES, image=image)


def test_the_application_is_built_in_every_pod_that_serves_with_and_without_service_links():
    serving = [spec for name, spec in PODS.items() if name.startswith("serve")]
    linked = [{**spec, "enableServiceLinks": True} for spec in serving]  # a site may turn them on
    env = environment(linked[0])
    assert env["M2DAO_SERVE_SVC_SERVICE_HOST"].startswith("10.96.")
    assert env["M2DAO_API_PORT"] == "tcp://10.96.0.6:80"  # the name of a setting
    environments = [environment(spec) for spec in (*serving, *linked)]
    built = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD],
        env=environments[0],
        input=json.dumps(environments),
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert built.stdout.split() == ["ingress"] * 6


@pytest.mark.parametrize("name", PODS)
def test_no_pod_is_told_of_services_in_names_of_ours(name):
    told = set(itertools.chain(*(service_links(service, "10.0.0.1", ports) for service, ports in SERVICES.items())))
    assert len(told) > 30
    assert not told & set(environment(PODS[name]))


@pytest.mark.parametrize("name", PODS)
def test_what_a_pod_writes_lies_on_its_own_disk(name):
    env, (container,) = environment(PODS[name]), PODS[name]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    limits = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in PODS[name]["volumes"]}
    for folder in (env["M2DAO_HOME"], env["HOME"], "/tmp/ray", "/tmp"):  # Ray's sessions; everybody's temporary files
        assert any(Path(folder).is_relative_to(mount) for mount in mounts), folder
    disk_gib = int(container["resources"]["requests"]["ephemeral-storage"].removesuffix("Gi"))
    assert disk_gib > sum(int(limit.removesuffix("Gi")) for limit in limits.values())
