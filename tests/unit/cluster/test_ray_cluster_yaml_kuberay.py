"""The Kubernetes manifests: only fields the operator knows, and what cluster/kuberay/README.md says."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from m2dao import __version__

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "cluster" / "kuberay"

# What a manifest may hold: a dict names the fields ("!" means required), a list of one is a list of such, a type or
# a pattern is a value. The fields are those of the ray.io/v1 API reference and of the Kubernetes API; only the part
# that we use, so that a misspelt or forgotten field cannot pass.
TEXT, NUMBER, FLAG = str, int, bool
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?")
LABELS = {"*": TEXT}
METADATA = {"!name": NAME, "!namespace": NAME, "labels": LABELS}
KEY_REF = {"!secretKeyRef": {"!name": NAME, "!key": TEXT}}
ENV = [{"!name": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "value": TEXT, "valueFrom": KEY_REF}]
SECURITY = {"!allowPrivilegeEscalation": FLAG, "!capabilities": {"!drop": [TEXT]}}
CONTAINER = {
    "!name": NAME,
    "!image": TEXT,
    "!securityContext": SECURITY,
    "!envFrom": [{"!secretRef": {"!name": NAME}}],
    "!env": ENV,
    "ports": [{"!containerPort": NUMBER, "!name": NAME}],
    "!resources": {"!requests": {"*": QUANTITY}, "!limits": {"*": QUANTITY}},
    "!volumeMounts": [{"!mountPath": TEXT, "!name": NAME}],
}
POD = {
    "!metadata": {"!labels": LABELS},
    "!spec": {
        "!automountServiceAccountToken": FLAG,
        "!enableServiceLinks": FLAG,
        "!securityContext": {
            "!runAsNonRoot": FLAG,
            "!runAsUser": NUMBER,
            "!fsGroup": NUMBER,
            "!seccompProfile": {"!type": TEXT},
        },
        "terminationGracePeriodSeconds": NUMBER,
        "tolerations": [{"!key": TEXT, "!operator": TEXT, "!effect": TEXT}],
        "!containers": [CONTAINER],
        "!volumes": [{"!name": NAME, "!emptyDir": {"!sizeLimit": QUANTITY}}],
    },
}
CLUSTER = {
    "!rayVersion": TEXT,
    "!authOptions": {"!mode": re.compile("token")},
    "!enableInTreeAutoscaling": FLAG,
    "!autoscalerOptions": {
        "!idleTimeoutSeconds": NUMBER,
        "!upscalingMode": re.compile("Default|Conservative"),
        "!securityContext": SECURITY,
    },
    "!gcsFaultToleranceOptions": {
        "!redisAddress": TEXT,
        "!redisPassword": {"!valueFrom": KEY_REF},
        "externalStorageNamespace": NAME,
    },
    "!headGroupSpec": {"!rayStartParams": {"*": TEXT}, "!template": POD},
    "!workerGroupSpecs": [
        {
            "!groupName": NAME,
            "!replicas": NUMBER,
            "!minReplicas": NUMBER,
            "!maxReplicas": NUMBER,
            "!rayStartParams": {"*": TEXT},
            "!template": POD,
        },
    ],
}
SERVICE = {
    "!upgradeStrategy": {"!type": re.compile("NewCluster")},
    "!excludeHeadPodFromServeSvc": FLAG,
    "!serveConfigV2": TEXT,
    "!rayClusterConfig": CLUSTER,
}
PEER = {
    "podSelector": {"!matchLabels": LABELS},
    "namespaceSelector": {"!matchLabels": LABELS},
    "ipBlock": {"!cidr": re.compile(r"[0-9.]+/\d+")},
}
POLICY = {
    "!podSelector": {"!matchLabels": LABELS},
    "!policyTypes": [TEXT],
    "!ingress": [{"!from": [PEER], "ports": [{"!protocol": TEXT, "!port": NUMBER}]}],
    "!egress": [{"!to": [PEER], "ports": [{"!protocol": TEXT, "!port": NUMBER}]}],
}


def check(value, rule, where="manifest"):
    """Raises AssertionError where ``value`` is not as ``rule`` says."""
    if isinstance(rule, dict):
        assert isinstance(value, dict), f"{where}: a table is expected"
        known = {key.removeprefix("!"): part for key, part in rule.items()}
        for key, part in value.items():
            assert key in known or "*" in known, f"{where}: unknown field {key}"
            check(part, known.get(key, known.get("*")), f"{where}.{key}")
        missing = {key[1:] for key in rule if key.startswith("!")} - set(value)
        assert not missing, f"{where}: {missing} is missing"
    elif isinstance(rule, list):
        assert isinstance(value, list), f"{where}: a list is expected"
        assert value, f"{where}: something in it is expected"
        for number, part in enumerate(value):
            check(part, rule[0], f"{where}[{number}]")
    elif isinstance(rule, re.Pattern):
        assert isinstance(value, str), f"{where}: {value!r}"
        assert rule.fullmatch(value), f"{where}: {value!r}"
    else:
        assert type(value) is rule, f"{where}: {value!r} is not of type {rule.__name__}"


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that comes twice, which YAML readers usually let pass."""


def _no_duplicates(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"{node.start_mark}: a key comes twice"
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_duplicates)


def load(name):
    return list(yaml.load_all((FOLDER / name).read_text(), StrictLoader))


@pytest.fixture(scope="module")
def service():
    return load("rayservice.yaml")[0]


@pytest.fixture(scope="module")
def clusters(service):
    return {"serve": service["spec"]["rayClusterConfig"], "train": load("raycluster.yaml")[0]["spec"]}


def pods(cluster):
    yield "head", cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def whole(kind, version, spec):
    return {"!apiVersion": re.compile(version), "!kind": re.compile(kind), "!metadata": METADATA, "!spec": spec}


def test_the_manifests_hold_only_known_fields_and_all_required_ones(service):
    check(service, whole("RayService", "ray.io/v1", SERVICE))
    check(load("raycluster.yaml")[0], whole("RayCluster", "ray.io/v1", CLUSTER))
    for policy in load("network-policy.yaml"):
        check(policy, whole("NetworkPolicy", "networking.k8s.io/v1", POLICY))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m["spec"].update(serveConfigV3=""),
        lambda m: m["spec"]["rayClusterConfig"].pop("authOptions"),
        lambda m: m["spec"]["rayClusterConfig"].update(rayVersion=2.6),
        lambda m: m["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0].pop("resources"),
        lambda m: m["spec"]["rayClusterConfig"].update(workerGroupSpecs=[]),
    ],
)
def test_the_check_itself_notices_mistakes(spoil):
    manifest = load("rayservice.yaml")[0]
    spoil(manifest)
    with pytest.raises(AssertionError):
        check(manifest, whole("RayService", "ray.io/v1", SERVICE))


def test_the_check_notices_a_key_that_comes_twice():
    with pytest.raises(AssertionError, match="twice"):
        yaml.load("{a: {b: 1, b: 2}}", StrictLoader)


def test_versions_are_those_of_the_project(clusters):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ray = next(d for d in project["dependencies"] if d.startswith("ray["))
    for cluster in clusters.values():
        assert ray.endswith(f"=={cluster['rayVersion']}")
        for _, pod in pods(cluster):
            for container in pod["spec"]["containers"]:
                assert container["image"].endswith(f"/m2dao:{__version__}")


def test_the_head_does_no_work_and_each_cluster_has_cpu_and_gpu_workers(clusters):
    for cluster in clusters.values():
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert (
            cluster["headGroupSpec"]["rayStartParams"]["memory"] == "0"
        )  # everything that is put somewhere needs some
        groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
        assert set(groups) == {"cpu", "gpu"}
        assert groups["gpu"]["minReplicas"] == 0
        for name, group in groups.items():
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            spec = group["template"]["spec"]
            gpus = spec["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")
            assert (gpus == "1") == (name == "gpu") == ("tolerations" in spec)


def test_pods_get_what_they_ask_for_and_no_rights(clusters):
    for cluster in clusters.values():
        for role, pod in pods(cluster):
            spec = pod["spec"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert spec["automountServiceAccountToken"] is (role == "head")
            assert spec["enableServiceLinks"] is False
            for container in spec["containers"]:
                # Equal, so that the pod is never the one to be evicted, and Ray's idea of the machine is the truth.
                assert container["resources"]["requests"] == container["resources"]["limits"]
                assert {"cpu", "memory"} <= set(container["resources"]["limits"])
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}


def test_nothing_reports_to_its_makers_and_no_secret_is_written_down(clusters):
    for cluster in clusters.values():
        for _, pod in pods(cluster):
            for container in pod["spec"]["containers"]:
                env = {entry["name"]: entry.get("value") for entry in container["env"]}
                assert env["RAY_USAGE_STATS_ENABLED"] == "0"
                assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"
                assert not [name for name in env if re.search("PASSWORD|SECRET|TOKEN|PEPPER", name)]
                assert container["envFrom"] == [{"secretRef": {"name": "m2dao-settings"}}]


def test_heads_keep_their_tables_in_redis_apart_from_each_other(clusters):
    # A service makes a new cluster beside the old one at an upgrade. A namespace of its own name would let the new head
    # read the tables of the old one; without it, the operator takes the cluster's UID.
    assert "externalStorageNamespace" not in clusters["serve"]["gcsFaultToleranceOptions"]
    assert clusters["train"]["gcsFaultToleranceOptions"]["externalStorageNamespace"] == "m2dao-train"
    for cluster in clusters.values():
        for role, pod in pods(cluster):
            env = {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}
            assert int(env["RAY_gcs_rpc_server_reconnect_timeout_s"]) >= 300, role


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own, when it is imported
def test_rays_own_schema_accepts_the_serve_config_and_no_key_of_it_is_ignored(service):
    from ray.serve.schema import ServeDeploySchema

    text = service["spec"]["serveConfigV2"]
    config = yaml.load(text, StrictLoader)
    parsed = ServeDeploySchema.model_validate(config)
    assert_known(config, parsed)
    (application,) = parsed.applications
    assert application.name == "m2dao"
    assert application.route_prefix == "/"
    module, _, attribute = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def assert_known(given, parsed):
    """Serve takes misspelt keys in silence, so every key that was given must be a field of what was read."""
    for key, value in given.items():
        assert key in type(parsed).model_fields, f"Serve does not know {key}"
        inner = getattr(parsed, key)
        if isinstance(value, dict) and hasattr(type(inner), "model_fields"):
            assert_known(value, inner)
        if isinstance(value, list):
            for part, read in zip(value, inner, strict=True):
                if isinstance(part, dict):
                    assert_known(part, read)


def test_the_policies_cover_every_pod_and_open_only_http_and_metrics_to_the_outside(clusters):
    policies = {
        p["spec"]["podSelector"]["matchLabels"]["m2dao/cluster"]: p["spec"] for p in load("network-policy.yaml")
    }
    assert set(policies) == set(clusters)
    for name, cluster in clusters.items():
        for role, pod in pods(cluster):
            assert pod["metadata"]["labels"]["m2dao/cluster"] == name, role
        rules = policies[name]["ingress"]
        inner = [rule for rule in rules if "ports" not in rule]
        assert [rule["from"] for rule in inner] == [[{"podSelector": {"matchLabels": {"m2dao/cluster": name}}}]]
        for rule in rules:
            for peer in rule["from"]:
                outside = peer.get("namespaceSelector", {}).get("matchLabels", {})
                if outside and "kuberay-system" not in outside.values():
                    allowed = {8080, 9091} if "m2dao/monitoring" in outside else {8000}
                    assert {port["port"] for port in rule["ports"]} <= allowed


def test_no_pod_may_talk_to_whom_it_likes(clusters):
    policies = [policy["spec"] for policy in load("network-policy.yaml")]
    assert len(policies) == len(clusters)
    for policy in policies:
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        own = policy["podSelector"]["matchLabels"]
        for rule in policy["egress"]:
            (peer,) = rule["to"]
            if "ports" not in rule:  # every port, but only of pods of its own cluster
                assert peer == {"podSelector": {"matchLabels": own}}
            assert peer.get("ipBlock", {}).get("cidr") != "0.0.0.0/0"
