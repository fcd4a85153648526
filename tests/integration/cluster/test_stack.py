"""The embedded stack as real processes: started once, found again, stopped without a trace."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from cluster.environment import STACK_ENV_NAME
from cluster.ids import TenantId
from cluster.settings import Settings
from cluster.stack import processes
from cluster.stack import stack as local
from cluster.stack.services import ray_temp_dir
from cluster.stack.stack import Stack
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import ConfigError, ServiceUnavailable, StackError
from tests.support.processes import LOOPBACK_ADDRESSES, listening_addresses, processes_of
from tests.support.stack import tenant_of

LIGHT = ("redis", "s3")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    yield home
    Stack(Settings(home=home)).down()


@pytest.fixture
def stack_here(home):
    return Stack(Settings(home=home, start_timeout_s=120))


def run_cli(home, *arguments, **options):
    env = {**os.environ, "M2DAO_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "cluster.cli", *arguments],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_what_is_up_listens_on_the_loopback_only(stack, stack_home):
    addresses = listening_addresses(processes_of(stack_home))
    assert addresses
    assert addresses <= LOOPBACK_ADDRESSES


def test_ray_too_listens_on_the_loopback_only_and_lets_in_only_those_with_the_token(ray_stack, stack_home, tmp_path):
    addresses = listening_addresses(processes_of(stack_home, ["ray"]))
    assert addresses
    assert addresses <= LOOPBACK_ADDRESSES
    program = (
        "import json, os\n"
        "from cluster.compute.client import connect\n"
        "from cluster.settings import Settings\n"
        "connect(Settings.from_env(), log_to_driver=False)\n"
        "import ray\n"
        "@ray.remote\n"
        "def where():\n"
        "    import cluster\n"
        "    return [os.environ['RAY_USAGE_STATS_ENABLED'], cluster.__file__]\n"
        "print(json.dumps(ray.get(where.remote())))\n"
    )
    env = {**os.environ, **ray_stack.to_env()}
    joined = subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert joined.returncode == 0, joined.stderr
    usage, where = json.loads(joined.stdout.splitlines()[-1])
    assert usage == "0"
    assert where == str(ROOT / "cluster" / "__init__.py")
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    stranger = {**env, "M2DAO_RAY_TOKEN_FILE": str(wrong)}
    refused = subprocess.run(
        [sys.executable, "-c", program], env=stranger, cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert refused.returncode != 0
    assert "M2DAO_RAY_TOKEN_FILE" in refused.stderr


def test_no_service_reports_to_its_makers(stack, stack_home):
    record = processes.ProcessRecord.load(stack_home / "run" / "s3.json")
    assert "-master.telemetry=false" in record.command
    mlflow = processes.ProcessRecord.load(stack_home / "run" / "mlflow.json")
    environ = Path(f"/proc/{mlflow.pid}/environ").read_bytes().split(b"\0")
    for expected in (b"MLFLOW_DISABLE_TELEMETRY=true", b"RAY_USAGE_STATS_ENABLED=0", b"DO_NOT_TRACK=true"):
        assert expected in environ


def test_secrets_are_readable_by_their_owner_only(stack, stack_home):
    assert stat.S_IMODE(stack_home.stat().st_mode) == 0o700
    for name in ("credentials.json", STACK_ENV_NAME, "redis/valkey.conf", "run/ports.json"):
        assert stat.S_IMODE((stack_home / name).stat().st_mode) == 0o600, name
    for record in (stack_home / "run").glob("*.json"):
        assert stack.require("s3.secret_key") not in record.read_text()
    for pid in processes_of(stack_home):  # the command line is visible to everybody
        command = Path(f"/proc/{pid}/cmdline").read_text()
        assert stack.require("s3.secret_key") not in command
        assert stack.require("redis.url") not in command


def test_later_commands_find_the_stack_through_its_home(stack, stack_home):
    assert Settings.from_env({"M2DAO_HOME": str(stack_home)}).redis == stack.redis
    StateStore(Settings.from_env({"M2DAO_HOME": str(stack_home)})).check()


def test_up_twice_starts_nothing_anew_and_status_knows_it(stack_here, home):
    first = stack_here.up(services=LIGHT)
    before = processes_of(home)
    lines = []
    assert Stack(Settings(home=home)).up(services=LIGHT, progress=lines.append) == first
    assert processes_of(home) == before
    assert len(before) >= 2
    assert sorted(lines) == ["redis: already running", "s3: already running"]
    states = {entry.name: entry.state for entry in stack_here.status()}
    assert states == {"redis": "running", "s3": "running", "mlflow": "stopped", "ray": "stopped", "keeper": "stopped"}


def test_down_leaves_no_process_and_the_data_outlives_it_even_on_other_ports(stack_here, home):
    first = stack_here.up(services=LIGHT)
    StateStore(first).accounts.create_tenant(TenantId("acme"))
    key = StateStore(first).accounts.create_api_key(TenantId("acme"))
    ObjectStore(first).put_bytes("acme/x", b"kept")
    assert stack_here.down() == 0  # all of them ended when asked
    assert processes_of(home) == set()
    assert not (home / STACK_ENV_NAME).exists()
    ports = json.loads((home / "run" / "ports.json").read_text())
    with contextlib.ExitStack() as taken:
        for name in ("redis", "master"):  # somebody else has our ports meanwhile
            squatter = taken.enter_context(contextlib.closing(socket.socket()))
            squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            squatter.bind(("127.0.0.1", ports["redis" if name == "redis" else "s3"][name]))
            squatter.listen()
        second = Stack(Settings(home=home)).up(services=LIGHT)
    assert second.redis != first.redis
    assert second.s3.endpoint != first.s3.endpoint
    assert tenant_of(StateStore(second), key) == TenantId("acme")
    assert ObjectStore(second).get_bytes("acme/x") == b"kept"
    ObjectStore(second).put_bytes("acme/y", b"new")
    assert ObjectStore(second).get_bytes("acme/y") == b"new"


def test_down_twice_or_without_up_is_no_error(stack_here, home):
    assert stack_here.down() == 0
    assert not home.exists()  # it does not even make the folder
    stack_here.up(services=["redis"])
    stack_here.down()
    assert stack_here.down() == 0


def test_a_service_that_died_is_started_anew_and_the_others_go_on(stack_here, home):
    stack_here.up(services=LIGHT)
    s3 = processes.ProcessRecord.load(home / "run" / "s3.json")
    redis = processes.ProcessRecord.load(home / "run" / "redis.json")
    os.kill(redis.pid, signal.SIGKILL)
    while redis.alive():
        pass
    assert {e.name: e.state for e in stack_here.status()}["redis"] == "stopped"
    settings = stack_here.up(services=LIGHT)
    StateStore(settings).check()
    assert processes.ProcessRecord.load(home / "run" / "s3.json") == s3
    assert processes.ProcessRecord.load(home / "run" / "redis.json").pid != redis.pid


def test_a_service_that_hangs_is_started_anew(stack_here, home, monkeypatch):
    monkeypatch.setattr("cluster.state.link.ANSWER_TIMEOUT_S", 0.5)
    stack_here.up(services=["redis"])
    record = processes.ProcessRecord.load(home / "run" / "redis.json")
    os.kill(record.pid, signal.SIGSTOP)
    assert {e.name: e.state for e in stack_here.status()}["redis"] == "not answering"
    lines = []
    monkeypatch.setattr(local, "_GRACE_S", {**local._GRACE_S, "redis": 0.2})
    StateStore(stack_here.up(services=["redis"], progress=lines.append)).check()
    assert lines[0] == "redis: does not answer, starting it anew"
    assert not record.alive()


def failing(monkeypatch, name, program):
    """Let one service be another program."""
    original = local.make_service

    def make(wanted, *arguments):
        service = original(wanted, *arguments)
        if wanted == name:
            object.__setattr__(service, "command", [sys.executable, "-c", program])
        return service

    monkeypatch.setattr(local, "make_service", make)


def test_a_half_started_stack_is_undone_and_the_log_is_shown(stack_here, home, monkeypatch):
    failing(monkeypatch, "s3", "print('disk on fire'); raise SystemExit(3)")
    with pytest.raises(StackError, match="disk on fire") as caught:
        stack_here.up(services=LIGHT)
    assert "s3" in str(caught.value)
    assert str(home / "logs" / "s3.log") in str(caught.value)
    assert processes_of(home) == set()
    assert not (home / STACK_ENV_NAME).exists()


def test_undoing_spares_what_ran_before(stack_here, home, monkeypatch):
    stack_here.up(services=["redis"])
    before = processes_of(home)
    failing(monkeypatch, "s3", "raise SystemExit(3)")
    with pytest.raises(StackError):
        stack_here.up(services=LIGHT)
    assert processes_of(home) == before


def test_a_service_that_never_answers_is_given_up(home, monkeypatch):
    failing(monkeypatch, "redis", "import time; time.sleep(600)")
    with pytest.raises(StackError, match="M2DAO_START_TIMEOUT_S"):
        Stack(Settings(home=home, start_timeout_s=1)).up(services=["redis"])
    assert processes_of(home) == set()


def test_a_service_that_is_not_installed_is_named(stack_here, home, monkeypatch):
    original = local.make_service

    def make(*arguments):
        service = original(*arguments)
        object.__setattr__(service, "command", ["/nowhere/weed"])
        return service

    monkeypatch.setattr(local, "make_service", make)
    with pytest.raises(StackError, match="/nowhere/weed"):
        stack_here.up(services=["s3"])


def test_the_sites_own_services_are_not_started_but_must_answer(home, stack):
    theirs = Stack(Settings(home=home, redis=stack.redis, key_pepper=stack.key_pepper))
    reached = theirs.up(services=["redis"])
    assert reached.redis == stack.redis
    assert processes_of(home) == set()
    assert {e.name: e.state for e in theirs.status()}["redis"] == "external"
    assert stack.require("redis.url").split("@")[0] not in str(theirs.status())
    closed = Stack(
        Settings(home=home).with_env(
            {
                "M2DAO_REDIS_URL": "redis://127.0.0.1:1",
                "M2DAO_KEY_PEPPER": "p",
                "M2DAO_MLFLOW_URL": "http://127.0.0.1:1",
            }
        )
    )
    for services in (["redis", "s3"], ["mlflow"]):
        with pytest.raises(ServiceUnavailable):
            closed.up(services=services)
        assert processes_of(home) == set()  # the embedded S3 was undone


def test_a_store_of_the_sites_own_gets_no_pepper_that_other_nodes_do_not_have(home, stack):
    """Keys that one node makes would let nobody in at the others."""
    with pytest.raises(ConfigError, match=r"M2DAO_KEY_PEPPER: expected a value.*credentials\.json"):
        Stack(Settings(home=home, redis=stack.redis)).up(services=["redis"])
    Stack(Settings(home=home, redis=stack.redis, key_pepper=stack.key_pepper)).up(services=["redis"])
    other = Settings(home=home, redis=stack.redis, key_pepper=SecretStr("another"))
    with pytest.raises(ConfigError, match="fingerprint"):
        Stack(other).up(services=["redis"])
    assert "another" not in (home / STACK_ENV_NAME).read_text()


def test_two_ups_at_once_make_one_stack(home):
    results, errors = [], []

    def up():
        try:
            results.append(Stack(Settings(home=home)).up(services=["redis"]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(results) == 3
    assert len(set(results)) == 1
    assert len(processes_of(home, ["redis"])) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_no_process(home, number):
    up = run_cli(home, "up", "--services", "redis,s3,mlflow")
    for line in up.stderr:  # one service is up, the slowest is not
        if "redis: ready" in line:
            break
    up.send_signal(number)
    _, rest = up.communicate(timeout=60)
    assert up.returncode == 130
    assert "undoing" in rest
    assert processes_of(home) == set()
    assert not (home / STACK_ENV_NAME).exists()


def test_the_stack_ends_with_its_owner_even_by_sigkill(home):
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    up = run_cli(home, "up", "--services", "redis", "--owner-pid", str(owner.pid))
    out, err = up.communicate(timeout=60)
    assert up.returncode == 0, err
    assert processes_of(home, ["redis"])
    assert processes_of(home, ["guardian"])
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 60
    while processes_of(home):
        assert time.monotonic() < deadline


def test_a_stack_whose_owner_is_killed_while_it_starts_ends_too(home):
    up = (
        "import os, sys; from pathlib import Path; from cluster.settings import Settings\n"
        "from cluster.stack.stack import Stack\n"
        "def say(line): print(line, flush=True)\n"
        "stack = Stack(Settings(home=Path(sys.argv[1])))\n"
        "stack.up(services=['redis', 'mlflow'], progress=say, owner_pid=os.getpid())\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", up, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert "redis: ready" in owner.stdout.readline()  # MLflow takes much longer
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 60
    while processes_of(home):
        assert time.monotonic() < deadline


def test_down_finds_the_processes_of_a_home_that_was_deleted(stack_here, home):
    stack_here.up(services=LIGHT)
    assert len(processes_of(home)) >= 2
    home.rename(home.with_name("away"))  # as good as deleted, and weed can go on writing meanwhile
    stack_here.down()
    assert processes_of(home) == set()
    assert not home.exists()


def test_the_commands_speak_json_and_exit_codes(home):
    def run(*arguments):
        command = run_cli(home, *arguments)
        out, err = command.communicate(timeout=90)
        return command.returncode, json.loads(out) if out.startswith("{") else out, err

    code, up, err = run("up", "--services", "redis", "--json")
    assert code == 0, err
    assert up["home"] == str(home), err
    assert {e["name"]: e["state"] for e in up["services"]}["redis"] == "running"
    assert run("tenant", "create", "acme", "--json")[:2] == (0, {"tenant": "acme"})
    code, twice, err = run("tenant", "create", "acme", "--json")
    assert code == 2
    assert twice["error"] == "already-exists"
    assert "acme" in err
    code, made, _ = run("key", "create", "acme", "--label", "web", "--json")
    state = StateStore(Settings.from_env({"M2DAO_HOME": str(home)}))
    assert code == 0
    assert tenant_of(state, made["key"]) == TenantId("acme")
    code, listed, _ = run("key", "list", "acme", "--json")
    assert [key["label"] for key in listed["keys"]] == ["web"]
    assert made["key"] not in json.dumps(listed)
    assert run("key", "revoke", "acme", listed["keys"][0]["key_id"], "--json")[1]["revoked"] is True
    assert tenant_of(state, made["key"]) is None
    assert run("tenant", "create", "No Name")[0] == 2
    assert run("up", "--services", "postgres")[0] in (1, 2)
    code, down, _ = run("down", "--json")
    assert code == 0
    assert down["num_killed"] == 0
    code, gone, err = run("tenant", "list", "--json")
    assert code == 2
    assert "m2dao-cluster up" in err


def test_a_long_home_does_not_make_rays_socket_names_too_long(tmp_path):
    short, long = Path("/tmp/h"), tmp_path / ("x" * 80)
    assert ray_temp_dir(short) == short / "ray"
    assert len(str(ray_temp_dir(long))) < 40
    assert ray_temp_dir(long) != ray_temp_dir(long / "other")
