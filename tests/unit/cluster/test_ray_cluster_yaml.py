"""``ray_cluster.yaml`` is one that Ray's own launcher accepts, and holds what we promise of it."""

import copy
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def prepared(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    ready = prepare_config(copy.deepcopy(config))
    validate_config(ready)
    return ready


def test_rays_own_validator_accepts_it(config):
    ready = prepared(config)
    assert set(ready["available_node_types"]) == {"head", "cpu", "gpu"}
    assert ready["head_node_type"] == "head"


def test_rays_own_validator_would_notice_a_misspelt_key(config):
    import jsonschema

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        prepared({**config, "idle_timeout": 5})


def test_nothing_is_left_to_rays_defaults_that_would_install_another_ray(config):
    ready = prepared(config)
    for commands in ("head_setup_commands", "worker_setup_commands"):
        assert ready[commands] == config["setup_commands"]  # no defaults in between
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert ready[commands] == config[commands]
    assert ready["docker"] == {}


def test_the_head_does_no_work_and_gpus_come_only_when_asked_for(config):
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert "--num-cpus=0" in config["head_start_ray_commands"][1]
    assert types["gpu"]["min_workers"] == 0
    assert types["gpu"]["resources"]["GPU"] >= 1
    assert "GPU" not in types["cpu"]["resources"]
    assert sum(t.get("max_workers", 0) for t in types.values()) == config["max_workers"]


def test_the_head_keeps_its_tables_in_redis_and_workers_outlive_it(config):
    head, worker = config["head_start_ray_commands"][1], config["worker_start_ray_commands"][1]
    assert "RAY_external_storage_namespace=" in head
    assert "RAY_REDIS_PASSWORD" in head
    assert "RAY_REDIS_ADDRESS" in (ROOT / "ray_cluster.yaml").read_text()
    assert int(re.search(r"RAY_gcs_rpc_server_reconnect_timeout_s=(\d+)", worker).group(1)) >= 300
    assert "unset RAY_REDIS_ADDRESS" in worker  # a worker that saw it would think itself a head


@pytest.mark.parametrize("role", ["head", "worker"])
def test_every_machine_asks_for_tokens_reports_to_nobody_and_starts_afresh(config, role):
    stop, start = config[f"{role}_start_ray_commands"]
    assert stop.endswith("/ray stop")
    for part in (
        "RAY_AUTH_MODE=token",
        "RAY_USAGE_STATS_ENABLED=0",
        "MLFLOW_DISABLE_TELEMETRY=true",
        "--disable-usage-stats",
        "ulimit -n",
        "/etc/m2dao/m2dao.env",
    ):
        assert part in start
    assert "0.0.0.0" not in start


def test_disks_are_encrypted_and_go_with_their_machine(config):
    assert config["provider"]["cache_stopped_nodes"] is False
    assert config["provider"]["use_internal_ips"] is True
    for node in config["available_node_types"].values():
        for disk in node["node_config"]["BlockDeviceMappings"]:
            assert disk["Ebs"]["Encrypted"] is True
            assert disk["Ebs"]["DeleteOnTermination"] is True


def test_it_holds_no_secret_and_what_it_installs_is_here(config):
    text = (ROOT / "ray_cluster.yaml").read_text()
    assert not re.search(r"(PASSWORD|SECRET|KEY|TOKEN)=(?!\.\.\.|\"?\$|/)\S", text)
    assert config["file_mounts"] == {"/opt/m2dao/src": "."}
    named = set(re.findall(r"/opt/m2dao/src/(\S+)", " ".join(config["setup_commands"])))
    assert named == {"requirements.lock"}
    assert all((ROOT / name).is_file() for name in named)
