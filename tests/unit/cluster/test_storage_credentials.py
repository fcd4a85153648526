"""Keys of the object store: ours, temporary ones, or those that boto3 finds. No store is asked."""

from urllib.parse import parse_qs, urlsplit

import pytest

from cluster.settings import Settings
from cluster.storage import ObjectStore
from m2dao.errors import AccessRefused, ConfigError

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")


@pytest.fixture(autouse=True)
def no_credentials_around(monkeypatch, tmp_path):
    for name in AWS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


def link(**settings):
    values = {f"M2DAO_S3_{name.upper()}": value for name, value in settings.items()}
    store = ObjectStore(Settings().with_env({"M2DAO_S3_ENDPOINT": "https://s3.example.org", **values}))
    return {name: values[0] for name, values in parse_qs(urlsplit(store.presign_get("acme/x")).query).items()}


def test_our_keys_and_region_sign_where_they_are_set(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "THEIRS")
    signed = link(access_key="OURS", secret_key="s", region="eu-central-1")
    assert signed["X-Amz-Credential"].startswith("OURS/")
    assert "/eu-central-1/s3/" in signed["X-Amz-Credential"]
    assert "X-Amz-Security-Token" not in signed


def test_temporary_keys_bring_their_token():
    assert link(access_key="OURS", secret_key="s", session_token="t")["X-Amz-Security-Token"] == "t"


def test_without_keys_the_chain_of_boto3_decides(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "THEIRS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    signed = link()
    assert signed["X-Amz-Credential"].startswith("THEIRS/")
    assert signed["X-Amz-Security-Token"] == "t"


def test_a_profile_is_found_too(monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text("[render]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "render")
    assert link()["X-Amz-Credential"].startswith("PROFILE/")


def test_no_keys_at_all_say_what_to_set():
    with pytest.raises(AccessRefused, match="M2DAO_S3_ACCESS_KEY and M2DAO_S3_SECRET_KEY, or give this process a role"):
        link()


def test_a_key_without_its_secret_is_refused():
    with pytest.raises(ConfigError, match="M2DAO_S3_SECRET_KEY"):
        link(access_key="OURS")


def test_origins_of_pages_are_checked_and_survive_the_environment():
    settings = Settings().with_env({"M2DAO_SERVE_ALLOWED_ORIGINS": "https://a.example/, http://localhost:3000"})
    assert settings.serve.origins == ("https://a.example", "http://localhost:3000")
    assert Settings().with_env(settings.to_env()).serve.origins == settings.serve.origins
    with pytest.raises(ConfigError, match="several by comma"):
        Settings().with_env({"M2DAO_SERVE_ALLOWED_ORIGINS": "app.example.com"})
