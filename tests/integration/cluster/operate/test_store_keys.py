"""The keys of Redis and of the object store are changed as the guide says, and no request fails."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from cluster.ids import TenantId
from cluster.settings import Settings
from cluster.stack.home import StackHome
from cluster.stack.services import LOOPBACK
from cluster.stack.stack import Stack
from cluster.state.store import StateStore
from cluster.storage import ObjectStore
from m2dao.errors import AccessRefused
from tests.faults.breaking import until
from tests.support.stack import reaching

ACME, KEY = TenantId("acme"), "acme/renders/r-1/video-1.mp4"
OLD, NEW = ("old-access-key", "the old secret"), ("new-access-key", "the new secret")


@pytest.fixture(scope="module")
def services(tmp_path_factory) -> Iterator[Settings]:
    """Services of their own: their keys change."""
    home = tmp_path_factory.mktemp("home")
    stack = Stack(Settings(home=home, key_pepper="a pepper"))
    try:
        yield stack.up(services=("redis", "s3"))
    finally:
        stack.down()


def redis_of(settings: Settings, password: str) -> Settings:
    parts = urlsplit(settings.require("redis.url"))
    host = parts.netloc.rpartition("@")[2]
    return reaching(settings, redis_url=urlunsplit(parts._replace(netloc=f":{password}@{host}")))


def test_the_password_of_redis_is_changed_while_both_are_accepted(services):
    with contextlib.ExitStack() as opened:

        def process(settings: Settings) -> StateStore:
            return opened.enter_context(contextlib.closing(StateStore(settings)))

        old = urlsplit(services.require("redis.url")).password
        assert old is not None
        before = process(services)
        before.accounts.create_tenant(ACME)
        before._link.call("ACL", "SETUSER", "default", ">the-new-password")
        after = process(redis_of(services, "the-new-password"))
        for state in (
            before,
            after,
            process(services),
        ):  # one that was not restarted yet, one that was, an old one anew
            assert state.accounts.list_tenants() == [ACME]

        after._link.call("ACL", "SETUSER", "default", f"<{old}")
        assert after.accounts.list_tenants() == [ACME]
        assert process(redis_of(services, "the-new-password")).accounts.list_tenants() == [ACME]
        with pytest.raises(AccessRefused):
            process(services).accounts.list_tenants()


@pytest.fixture
def configure(services) -> Callable[..., None]:
    """SeaweedFS's own command that adds and removes keys."""
    ports = StackHome(services.home).ports()["s3"]
    weed = Path(sys.executable).parent / "weed"
    at = [f"-{name}={LOOPBACK}:{ports[name]}.{ports[f'{name}.grpc']}" for name in ("master", "filer")]

    def run(key: tuple[str, str], *, delete: bool = False) -> None:
        access, secret = key
        what = "-delete" if delete else f"-secret_key '{secret}' -actions Admin"
        line = f"s3.configure -user m2dao -access_key {access} {what} -apply"
        done = subprocess.run([weed, "shell", *at], input=line, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr

    return run


def works(store: ObjectStore) -> bool:
    try:
        return store.get_bytes(KEY) == b"a film"
    except AccessRefused:
        return False


def test_the_key_of_the_object_store_is_changed_and_links_work_until_the_old_one_is_deleted(services, configure):
    def process(key: tuple[str, str]) -> ObjectStore:
        return ObjectStore(reaching(services, s3_access_key=key[0], s3_secret_key=key[1]))

    ObjectStore(services).put_bytes(KEY, b"a film")
    configure(OLD)
    before = process(OLD)
    until(lambda: works(before), "the key to be known")
    link = before.presign_get(KEY, expires_s=3600)

    configure(NEW)
    after = process(NEW)
    until(lambda: works(after), "the second key to be known")
    assert works(before), "who was not restarted yet"
    assert httpx.get(link, trust_env=False).content == b"a film"

    configure(OLD, delete=True)
    until(lambda: not works(process(OLD)), "the first key to be deleted")
    assert works(after)
    assert httpx.get(link, trust_env=False).status_code == 403
