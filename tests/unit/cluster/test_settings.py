"""Settings: read from the environment, completed by stack.env, checked, documented."""

import pickle
import re
from pathlib import Path

import pytest

from cluster.environment import STACK_ENV_NAME, read_stack_env
from cluster.settings import ServeConfig, Settings, all_settings
from m2dao.errors import ConfigError

ROOT = Path(__file__).parents[3]


def test_every_default_is_in_range_and_a_round_trip_changes_nothing(tmp_path):
    settings = Settings.from_env({"M2DAO_HOME": str(tmp_path)})
    assert settings.api.port == 8000
    assert settings.redis.url is None
    assert settings.home == tmp_path
    assert Settings.from_env(settings.to_env()) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("M2DAO_REDIS_URL", "http://localhost"),
        ("M2DAO_REDIS_URL", "redis://"),
        ("M2DAO_REDIS_URL", "redis://h:port"),
        ("M2DAO_S3_ENDPOINT", "localhost:9000"),
        ("M2DAO_S3_ENDPOINT", "ftp://x"),
        ("M2DAO_S3_PUBLIC_ENDPOINT", "x"),
        ("M2DAO_S3_BUCKET", "No_Bucket"),
        ("M2DAO_S3_BUCKET", "a"),
        ("M2DAO_MLFLOW_URL", "sqlite:///x.db"),
        ("M2DAO_RAY_ADDRESS", "host"),
        ("M2DAO_RAY_ADDRESS", "host:0"),
        ("M2DAO_RAY_ADDRESS", "ray://host:10001x"),
        ("M2DAO_RAY_DASHBOARD_URL", "host"),
        ("M2DAO_RAY_NUM_CPUS", "0"),
        ("M2DAO_RAY_NUM_CPUS", "two"),
        ("M2DAO_RAY_OBJECT_STORE_MB", "10"),
        ("M2DAO_API_PORT", "65536"),
        ("M2DAO_API_PORT", "80.5"),
        ("M2DAO_LOG_LEVEL", "loud"),
        ("M2DAO_START_TIMEOUT_S", "0"),
        ("M2DAO_SERVE_LEASE_S", "soon"),
        ("M2DAO_SERVE_LEASE_S", "0"),
        ("M2DAO_SERVE_LEASE_S", "nan"),
        ("M2DAO_SERVE_MAX_REPLICAS", "2.5"),
        ("M2DAO_SERVE_MAX_REPLICAS", "0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        Settings.from_env({name: value})


def test_settings_come_from_the_environment_and_go_back():
    values = {"M2DAO_SERVE_LEASE_S": "7.5", "M2DAO_SERVE_MAX_REPLICAS": "9", "M2DAO_RAY_NUM_CPUS": "3", "PATH": "/bin"}
    settings = Settings.from_env({**values, "M2DAO_S3_SECRET_KEY": "hunter2"})
    assert (settings.serve.lease_s, settings.serve.max_replicas, settings.ray.num_cpus) == (7.5, 9, 3)
    assert Settings.from_env(settings.to_env()) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert "hunter2" not in settings.to_env(secrets=False).values()
    assert [name for name in settings.to_env(serve=False) if "SERVE" in name] == []
    assert settings.with_env({"M2DAO_API_PORT": "81"}).api.port == 81


def test_the_constructor_reads_no_environment(monkeypatch):
    monkeypatch.setenv("M2DAO_API_PORT", "81")
    assert Settings().api.port == 8000


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("M2DAO_SERVE_LEASE_SECONDS", "M2DAO_SERVE_LEASE_S"),
        ("M2DAO_REDIS_ADDRESS", "M2DAO_RAY_ADDRESS"),
        ("M2DAO_REDIS_URI", "M2DAO_REDIS_URL"),
        ("M2DAO_API_PROT", "M2DAO_API_PORT"),
        ("M2DAO_LEVEL", ""),
    ],
)
def test_a_misspelt_name_is_refused_with_those_close_to_it(name, meant):
    with pytest.raises(ConfigError, match=f"^{name}.*{meant}"):
        Settings.from_env({name: "x"})


@pytest.mark.parametrize(
    ("service", "variables"),
    [
        ("M2DAO_SERVE_SVC", {"_SERVICE_HOST": "10.96.0.7", "_SERVICE_PORT": "8000", "_SERVICE_PORT_HTTP": "8000"}),
        ("M2DAO_SERVE_SVC", {"_PORT": "tcp://10.96.0.7:8000", "_PORT_8000_TCP": "tcp://10.96.0.7:8000"}),
        (
            "M2DAO_HEAD",
            {"_PORT_6379_TCP_PROTO": "tcp", "_PORT_6379_TCP_PORT": "6379", "_PORT_53_UDP_ADDR": "10.96.0.8"},
        ),
        ("M2DAO_API", {"_PORT": "tcp://10.96.0.7:80"}),  # has the name of a setting
    ],
)
def test_what_kubernetes_says_of_its_services_is_no_setting(service, variables):
    env = {f"{service}{name}": value for name, value in variables.items()}
    assert Settings.from_env(env) == Settings.from_env({})


@pytest.mark.parametrize("name", ["M2DAO_ASSETS_DIR", "M2DAO_CACHE", "M2DAO_KEY", "M2DAO_STACK_PROCESS"])
def test_names_that_others_use_are_left_alone(name):
    assert Settings.from_env({name: "x"}) == Settings.from_env({})


def test_replica_bounds_must_agree():
    with pytest.raises(ConfigError, match="M2DAO_SERVE_MAX_REPLICAS.*at least 5"):
        ServeConfig(min_replicas=5, max_replicas=4)


def test_a_drain_that_would_cut_the_longest_render_is_refused():
    with pytest.raises(ConfigError, match=r"M2DAO_SERVE_DRAIN_S: expected at least 300 s"):
        ServeConfig(drain_s=60)
    assert ServeConfig(drain_s=60, max_audio_s=120).drain_s == 60


@pytest.mark.parametrize("env", [{"RENDER_THREADS": "2", "REPLICA_CPUS": "1"}, {"REPLICA_CPUS": "0.5"}])
def test_a_replica_that_reserves_fewer_cores_than_its_threads_use_is_refused(env):
    with pytest.raises(ConfigError, match="M2DAO_SERVE_REPLICA_CPUS: expected"):
        Settings.from_env({f"M2DAO_SERVE_{name}": value for name, value in env.items()})
    assert ServeConfig(render_threads=2, replica_cpus=3).reserved_cpus == 3
    assert ServeConfig(render_threads=2).reserved_cpus == 2


def test_a_replica_that_reserves_less_memory_than_its_identities_take_is_refused():
    with pytest.raises(ConfigError, match="M2DAO_SERVE_REPLICA_MEMORY_MB: expected at least 2048"):
        ServeConfig(replica_memory_mb=2000)


def test_fits_render_by_what_their_workers_reserve_unless_the_site_says_otherwise():
    def backend(**env):
        return Settings.from_env({f"M2DAO_FIT_{name}": value for name, value in env.items()}).fit.chosen_backend

    assert backend() == "cpu"
    assert backend(GPUS="0.25") == "gsplat"
    assert backend(GPUS="1", BACKEND="cpu") == "cpu"
    with pytest.raises(ConfigError, match="M2DAO_FIT_BACKEND: expected 'cpu' or 'gsplat'"):
        backend(BACKEND="cuda")


def test_a_refused_url_is_not_repeated_because_it_may_hold_a_password():
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"M2DAO_REDIS_URL": "rediss//:hunter2@host"})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_secrets_are_not_in_the_printed_form():
    secret = {"M2DAO_S3_ACCESS_KEY", "M2DAO_S3_SECRET_KEY", "M2DAO_S3_SESSION_TOKEN", "M2DAO_KEY_PEPPER"}
    secret |= {"M2DAO_KEY_PEPPER_OTHER", "M2DAO_REDIS_URL", "M2DAO_MLFLOW_URL"}
    values = {name: "hunter2" for name in secret if "URL" not in name}
    values |= {"M2DAO_REDIS_URL": "redis://:hunter2@h:1", "M2DAO_MLFLOW_URL": "http://u:hunter2@h"}
    settings = Settings.from_env(values)
    assert "hunter2" not in f"{settings!r} {settings} {settings.s3}"
    assert settings.plain("key_pepper") == "hunter2"
    assert {name for name, setting in all_settings().items() if setting.secret} == secret


def test_the_environment_wins_over_stack_env_which_wins_over_the_default(tmp_path):
    (tmp_path / STACK_ENV_NAME).write_text("# note\n\nM2DAO_S3_BUCKET=from-stack\nM2DAO_S3_REGION=from-stack\n")
    env = {"M2DAO_HOME": str(tmp_path), "M2DAO_S3_REGION": "from-env"}
    settings = Settings.from_env(env)
    assert (settings.s3.bucket, settings.s3.region, settings.log_level) == ("from-stack", "from-env", "INFO")
    assert Settings.from_env(env, use_stack=False).s3.bucket == "m2dao"


def test_an_empty_variable_counts_as_unset():
    assert Settings.from_env({"M2DAO_S3_ENDPOINT": "", "M2DAO_HOME": ""}).s3.endpoint is None


@pytest.mark.parametrize("text", ["M2DAO_S3_BUCKET", "export M2DAO_X=1", "PATH=/evil", "=x"])
def test_a_damaged_stack_env_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / STACK_ENV_NAME
    path.write_text(f"# fine\n{text}\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_stack_env(path)


def test_an_unreadable_stack_env_is_refused(tmp_path):
    path = tmp_path / STACK_ENV_NAME
    path.mkdir()
    with pytest.raises(ConfigError, match=STACK_ENV_NAME):
        read_stack_env(path)


def test_a_missing_setting_says_how_to_get_it():
    with pytest.raises(ConfigError, match="M2DAO_REDIS_URL.*m2dao-cluster up"):
        Settings.from_env({}, use_stack=False).require("redis.url")


def documented_rows():
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = re.findall(r"^\| `(M2DAO_[A-Z0-9_]+)` \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    return {name: (default.strip().strip("`"), meaning.strip()) for name, default, meaning in rows}


def test_every_setting_is_documented_with_its_default_and_meaning():
    rows = documented_rows()
    assert set(rows) == set(all_settings())
    for name, setting in all_settings().items():
        assert rows[name] == (setting.default or "unset", setting.help), name


def test_no_other_module_reads_a_setting_that_is_not_in_the_table():
    known = set(all_settings()) | {
        "M2DAO_CACHE",
        "M2DAO_ASSETS_DIR",
        "M2DAO_STACK_PROCESS",
        "M2DAO_KEY",
        "M2DAO_COMMIT",
    }
    for package in ("cluster", "train_jobs", "serve_apps"):
        for path in (ROOT / package).rglob("*.py"):
            found = set(re.findall(r"\bM2DAO_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
            assert found - {"M2DAO_NAME", "M2DAO_SERVE_SVC_PORT"} <= known, f"{path} speaks of {found - known}"
