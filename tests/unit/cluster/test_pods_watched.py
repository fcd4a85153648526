"""Prometheus reaches the pages of metrics of every pod, and nothing else of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.settings import Settings
from tests.unit.cluster.test_pods import PODS, environment

FOLDER = Path(__file__).parents[3] / "cluster" / "kuberay"
RAY, KEEPER = 8080, 9091


def load(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def groups(cluster):
    """The groups of pods of a cluster, by name."""
    name = {"serve": "rayservice.yaml", "train": "raycluster.yaml"}[cluster]
    spec = load(name)[0]["spec"]
    spec = spec.get("rayClusterConfig", spec)
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}


def ports_of(pod):
    (container,) = PODS[pod]["containers"]
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def let_in(cluster, labels):
    """The ports of a cluster that pods of a namespace with these labels reach; None for all."""
    (policy,) = (each for each in load("network-policy.yaml") if each["metadata"]["name"] == f"m2dao-{cluster}")
    found = set()
    for rule in policy["spec"]["ingress"]:
        for peer in rule["from"]:
            wanted = peer.get("namespaceSelector", {}).get("matchLabels")
            if wanted and wanted.items() <= labels.items():
                found |= {port["port"] for port in rule.get("ports", [])} or {None}
    return found


@pytest.mark.parametrize(("cluster", "ports"), [("serve", {RAY, KEEPER}), ("train", {RAY})])
def test_a_namespace_with_the_label_reaches_the_pages_and_no_other_port(cluster, ports):
    assert let_in(cluster, {"m2dao/monitoring": "true", "kubernetes.io/metadata.name": "monitoring"}) == ports
    assert let_in(cluster, {"kubernetes.io/metadata.name": "monitoring"}) == set()
    assert let_in(cluster, {"m2dao/monitoring": "false"}) == set()


@pytest.mark.parametrize("pod", PODS)
def test_rays_agent_listens_where_prometheus_looks(pod):
    assert ports_of(pod)["metrics"] == RAY
    cluster, _, group = pod.partition("-")
    assert groups(cluster)[group]["rayStartParams"]["metrics-export-port"] == str(RAY)


@pytest.mark.parametrize("pod", [name for name in PODS if name.startswith("serve") and "head" not in name])
def test_the_keeper_listens_where_prometheus_looks(pod):
    metrics = Settings.from_env(environment(PODS[pod]), use_stack=False).metrics
    assert (metrics.host, metrics.port) == ("0.0.0.0", KEEPER)
    assert ports_of(pod)["keeper"] == KEEPER


def test_the_monitor_asks_for_ports_that_pods_of_its_labels_have():
    (monitor,) = load("pod-monitor.yaml")
    spec = monitor["spec"]
    assert (monitor["kind"], spec["namespaceSelector"]) == ("PodMonitor", {"matchNames": ["m2dao"]})
    asked = {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]}
    assert asked == {"metrics", "keeper"}
    assert asked <= set().union(*(ports_of(pod) for pod in PODS))
    chosen = spec["selector"]["matchLabels"].items()
    for cluster in ("serve", "train"):
        for group in groups(cluster).values():
            assert chosen <= group["template"]["metadata"]["labels"].items()
