"""Settings: read from the environment, completed by stack.env, checked, documented."""

import dataclasses
import re
from pathlib import Path

import pytest

from cluster.settings import STACK_ENV_NAME, Settings, read_stack_env
from m2dao.errors import ConfigError

ROOT = Path(__file__).parents[3]


def fields():
    return {f.metadata["env"]: f for f in dataclasses.fields(Settings)}


def test_every_default_is_in_range_and_a_round_trip_changes_nothing(tmp_path):
    settings = Settings.from_env({"M2DAO_HOME": str(tmp_path)})
    assert settings.api_port == 8000
    assert settings.redis_url is None
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
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        Settings.from_env({name: value})


def test_a_refused_url_is_not_repeated_because_it_may_hold_a_password():
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"M2DAO_REDIS_URL": "rediss//:hunter2@host"})
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_in_the_printed_form():
    secret = {"M2DAO_S3_ACCESS_KEY", "M2DAO_S3_SECRET_KEY", "M2DAO_KEY_PEPPER", "M2DAO_REDIS_URL", "M2DAO_MLFLOW_URL"}
    values = {name: "hunter2" for name in secret if "URL" not in name}
    values |= {"M2DAO_REDIS_URL": "redis://:hunter2@h:1", "M2DAO_MLFLOW_URL": "http://u:hunter2@h"}
    settings = Settings.from_env(values)
    assert "hunter2" not in repr(settings)
    assert settings.key_pepper == "hunter2"
    assert {name for name, f in fields().items() if not f.repr} == secret


def test_the_environment_wins_over_stack_env_which_wins_over_the_default(tmp_path):
    (tmp_path / STACK_ENV_NAME).write_text("# note\n\nM2DAO_S3_BUCKET=from-stack\nM2DAO_S3_REGION=from-stack\n")
    env = {"M2DAO_HOME": str(tmp_path), "M2DAO_S3_REGION": "from-env"}
    settings = Settings.from_env(env)
    assert (settings.s3_bucket, settings.s3_region, settings.log_level) == ("from-stack", "from-env", "INFO")
    assert Settings.from_env(env, use_stack=False).s3_bucket == "m2dao"


def test_an_empty_variable_counts_as_unset():
    assert Settings.from_env({"M2DAO_S3_ENDPOINT": "", "M2DAO_HOME": ""}).s3_endpoint is None


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
        Settings.from_env({}, use_stack=False).require("s3_bucket", "redis_url")


def documented_rows():
    text = (ROOT / "docs" / "reference" / "settings.md").read_text().partition("## The API")[0]
    rows = re.findall(r"^\| `(M2DAO_[A-Z0-9_]+)` \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    return {name: (default.strip().strip("`"), meaning.strip()) for name, default, meaning in rows}


def test_every_setting_is_documented_with_its_default_and_meaning():
    rows = documented_rows()
    assert set(rows) == set(fields())
    for name, field in fields().items():
        default, meaning = rows[name]
        assert default == (field.metadata["default"] or "unset"), name
        assert meaning == field.metadata["help"], name


def test_no_other_module_reads_a_setting_that_is_not_in_the_table():
    known = set(fields()) | {"M2DAO_CACHE", "M2DAO_ASSETS_DIR", "M2DAO_STACK_PROCESS"}  # the engine's own; a mark
    for package in ("cluster", "train_jobs", "serve_apps"):
        for path in (ROOT / package).rglob("*.py"):
            # The API's limits (M2DAO_SERVE_*) have a table and a test of their own.
            found = set(re.findall(r"\bM2DAO_(?!SERVE_)[A-Z0-9_]*[A-Z0-9]\b", path.read_text())) - {"M2DAO_NAME"}
            assert found <= known, f"{path} speaks of {found - known}"
