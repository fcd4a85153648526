"""``ray_cluster.yaml`` is one that Ray's own launcher accepts, and holds what we promise of it."""

import copy
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from ray.autoscaler.command_runner import CommandRunnerInterface

ROOT = Path(__file__).parents[3]
NOBODY = 65534
COMMANDS = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


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
    assert types["head"]["resources"] == {"CPU": 0, "memory": 0}
    assert "--num-cpus=0 --memory=0" in config["head_start_ray_commands"][1]
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


def test_it_holds_no_secret_and_what_it_runs_is_here(config):
    text = (ROOT / "ray_cluster.yaml").read_text()
    assert not re.search(r"(PASSWORD|SECRET|KEY|TOKEN)=(?!\.\.\.|\"?\$|/)\S", text)
    assert config["file_mounts"] == {"~/m2dao/src": "."}
    commands = [command for kind in COMMANDS for command in config[kind]]
    named = set(re.findall(r"~/m2dao/src/(\S+)", " ".join(commands)))
    assert named == {"install/install.sh", "install/with_environment.sh"}
    assert all(os.access(ROOT / name, os.X_OK) for name in named)


class Machine(CommandRunnerInterface):
    """A fresh machine: a home that its user may write to, and nothing else of it. Commands run for real."""

    def __init__(self, home):
        self.home, self.commands = home, []
        home.mkdir()
        # The checkout may lie where nobody else may look.
        self._checkout = shutil.copytree(ROOT / "install", home.parent / "checkout" / "install").parent
        self._user = NOBODY if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(home, NOBODY, NOBODY)
            home.parent.chmod(0o755)

    def run(self, cmd=None, **options):
        self.commands.append(cmd)
        if cmd.startswith("sudo ") or cmd == "uptime":  # another user, whom this machine has not
            return
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        subprocess.run(["bash", "-c", cmd], env=env, user=self._user, check=True, cwd=self.home, capture_output=True)

    def run_rsync_up(self, source, target, options=None):
        self.run(f"cp -R {shlex.quote(str(self._checkout / 'install'))} {target}")

    def run_init(self, **options):
        return False


class Machines:
    """The part of a provider that an updater talks to."""

    def __init__(self, machine):
        self._machine, self._tags, self.provider_config = machine, {}, {}

    def get_command_runner(self, *args, **options):
        return self._machine

    def node_tags(self, node):
        return self._tags

    def set_node_tags(self, node, tags):
        self._tags |= tags

    def is_terminated(self, node):
        return False


@pytest.fixture
def machine():
    folder = tempfile.mkdtemp(prefix="m2dao-machine-")  # pytest's own folders let nobody else in
    yield Machine(Path(folder) / "home")
    shutil.rmtree(folder)


def test_rays_updater_copies_the_checkout_to_a_fresh_machine_before_it_runs_anything(config, machine):
    from ray.autoscaler._private.updater import NodeUpdater

    updater = NodeUpdater(
        node_id="machine",
        provider_config=config["provider"],
        provider=Machines(machine),
        auth_config=config["auth"],
        cluster_name=config["cluster_name"],
        file_mounts={remote: str(ROOT / local) for remote, local in config["file_mounts"].items()},
        initialization_commands=config["initialization_commands"],
        setup_commands=["~/m2dao/src/install/install.sh ~/m2dao environment"],
        ray_start_commands=[],
        runtime_hash="1",
        file_mounts_contents_hash="1",
        is_head_node=True,
    )
    updater.run()
    copied = next(number for number, command in enumerate(machine.commands) if command.startswith("cp "))
    first = machine.commands.index(config["initialization_commands"][0])
    assert copied < first
    assert str(machine.home / "m2dao" / "venv" / "bin") in (machine.home / "m2dao" / "environment").read_text()


def test_the_head_may_start_workers_and_workers_may_not(config):
    profiles = {
        name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in config["available_node_types"].items()
    }
    assert profiles == {"head": "m2dao-head", "cpu": "m2dao-worker", "gpu": "m2dao-worker"}
    policy = json.loads((ROOT / "install" / "aws-head-policy.json").read_text())
    allowed = {action for part in policy["Statement"] for action in [part["Action"]] if isinstance(action, str)}
    allowed |= {action for part in policy["Statement"] if isinstance(part["Action"], list) for action in part["Action"]}
    assert calls_of_rays_provider() | {"iam:PassRole"} == allowed
    passed = [part["Resource"] for part in policy["Statement"] if part["Action"] == "iam:PassRole"]
    assert passed == ["arn:aws:iam::*:role/m2dao-worker"]
    own = {"StringEquals": {"aws:ResourceTag/ray-cluster-name": config["cluster_name"]}}
    new = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}

    def conditions(action):
        return [part["Condition"] for part in policy["Statement"] if action in part["Action"]]

    assert conditions("ec2:TerminateInstances") == [own]
    assert conditions("ec2:CreateTags") == [new, own]  # or it could make any machine its own, and end it


def calls_of_rays_provider():
    """The rights that Ray's autoscaler uses on a head, read out of its source."""
    from ray.autoscaler._private.aws import node_provider

    source = inspect.getsource(node_provider)
    names = set(re.findall(r"self\.ec2\.meta\.client\.(\w+)", source))
    names |= {"run_instances"} if "self.ec2_fail_fast.create_instances(" in source else set()
    names |= {"describe_instances"} if "self.ec2.instances.filter(" in source else set()
    return {"ec2:" + "".join(word.capitalize() for word in name.split("_")) for name in names}


@pytest.mark.parametrize("role", ["head", "worker"])
def test_settings_are_read_as_they_stand_whatever_is_in_a_password(config, role, tmp_path):
    """The start command of each machine, run up to the Ray that it would start."""
    home, etc, tools = (tmp_path / name for name in ("home", "etc", "tools"))
    shutil.copytree(ROOT / "install", home / "m2dao" / "src" / "install")
    etc.mkdir()
    tools.mkdir()
    password = "a$HOME&b;c'd\"e`f g#h\\i=="
    (home / "m2dao" / "environment").write_text(f"PATH={tools}:{os.environ['PATH']}\n")
    text = (
        f"# ours\n\nM2DAO_REDIS_URL=rediss://:{password}@h:1/0\nRAY_REDIS_PASSWORD={password}\nRAY_REDIS_ADDRESS=h:2\n"
    )
    (etc / "m2dao.env").write_text(text)
    ray = tools / "ray"  # what the command starts shows what it was given
    ray.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([dict(os.environ), sys.argv[1:]]))\n")
    ray.chmod(0o755)
    command = config[f"{role}_start_ray_commands"][1].replace("/etc/m2dao/m2dao.env", str(etc / "m2dao.env"))
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.9"}
    ran = subprocess.run(
        ["bash", "-c", command.replace("ulimit -n 65536;", "")], env=env, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    given, arguments = json.loads(ran.stdout)
    assert given["M2DAO_REDIS_URL"] == f"rediss://:{password}@h:1/0"
    assert given["RAY_AUTH_MODE"] == "token"
    if role == "head":
        assert f"--redis-password={password}" in arguments
        assert given["RAY_REDIS_ADDRESS"] == "h:2"
    else:
        assert "--address=10.0.0.9:6379" in arguments
        assert not {"RAY_REDIS_ADDRESS", "RAY_REDIS_PASSWORD"} & set(given)


def test_a_line_that_is_no_setting_is_refused_without_being_repeated(tmp_path):
    (tmp_path / "env").write_text("A=1\nexport B=hunter2\n")
    script = ROOT / "install" / "with_environment.sh"
    ran = subprocess.run([script, tmp_path / "env", "--", "env"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "line 2: expected NAME=value" in ran.stderr
    assert "hunter2" not in ran.stderr
