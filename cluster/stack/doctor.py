"""``m2dao-cluster doctor``: tries every external service for what the platform needs of it."""

from __future__ import annotations

import contextlib
import email.utils
import json
import secrets
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.ids import TenantId
from cluster.mlflow_link import MlflowLink, translated
from cluster.object_keys import object_key
from cluster.platform import Platform
from cluster.state.link import RedisLink
from cluster.storage import ObjectStore
from m2dao.errors import AlreadyExists, M2daoError, ServiceError

_TENANT = TenantId("doctor")
_BODY = b"0123456789"
_TIMEOUT_S = 10
MAX_CLOCK_ERROR_S = 60  # links that are signed ahead of the store's clock are not valid yet


@dataclass(frozen=True)
class Finding:
    """What one trial found.

    Attributes:
        service: "redis", "s3", "mlflow" or "ray".
        needed: what was tried, in words.
        trouble: what is missing and what to do; empty where all is well.
    """

    service: str
    needed: str
    trouble: str = ""


def examine(platform: Platform) -> Iterator[Finding]:
    """Try one service after the other; each finding comes as soon as it is known."""
    for service, needed, trial in _trials(platform):
        try:
            trial(platform)
        except M2daoError as error:
            yield Finding(service, needed, str(error))
        except (OSError, urllib.error.URLError) as error:
            yield Finding(service, needed, f"{error}; is the address right, and may this machine reach it?")
        else:
            yield Finding(service, needed)


def _trials(platform: Platform) -> Iterator[tuple[str, str, Callable[[Platform], None]]]:
    yield "redis", "answers, runs scripts and delivers messages", _redis
    yield "redis", "keeps what it is given (maxmemory-policy noeviction, append-only file)", _redis_keeps
    yield "s3", "stores, lists, reads ranges and deletes", _s3
    yield "s3", "refuses a second object under If-None-Match", _s3_conditions
    yield "s3", "serves presigned links, whole and in ranges, at the public address", _s3_links
    yield "s3", f"has a clock that differs from ours by less than {MAX_CLOCK_ERROR_S} s", _s3_clock
    if platform.settings.serve.origins:
        yield "s3", "lets pages of M2DAO_SERVE_ALLOWED_ORIGINS fetch results", _s3_origins
    yield "mlflow", "answers and lists registered models", _mlflow
    yield "ray", "answers at its address and at its dashboard", _ray


def _redis(platform: Platform) -> None:
    link = RedisLink(platform.settings.require("redis.url"))
    channel = f"m2dao:doctor:{secrets.token_hex(8)}"
    if link.run("return redis.call('PING')", [], []) not in ("PONG", {"ok": "PONG"}):
        raise ServiceError("state store", "scripts to run", "another answer", "allow EVALSHA and SCRIPT LOAD")
    with link.listen([channel]) as listener:
        link.call("PUBLISH", channel, "x")
        if listener.get(_TIMEOUT_S) != (channel, "x"):
            raise ServiceError("state store", "a message to be delivered", "none", "allow PUBLISH and SUBSCRIBE")


def _redis_keeps(platform: Platform) -> None:
    link = RedisLink(platform.settings.require("redis.url"))
    for name, wanted in (("maxmemory-policy", "noeviction"), ("appendonly", "yes")):
        answer = link.call("CONFIG", "GET", name)
        found = (
            answer.get(name)
            if isinstance(answer, dict)
            else dict(zip(answer[::2], answer[1::2], strict=True)).get(name)
        )
        if found != wanted:
            raise ServiceError("state store", f"{name} {wanted}", str(found), "jobs may be lost; set it")


def _s3(platform: Platform) -> None:
    store = platform.store
    store.check()
    with _object(store) as key:
        if store.get_bytes(key) != _BODY or [info.key for info in store.list(f"{_TENANT}/doctor/")].count(key) != 1:
            raise ServiceError("object store", "what was stored", "something else")
        part = store.read_range(key, "bytes=2-4")
        if b"".join(part.chunks()) != _BODY[2:5] or part.content_range is None:
            raise ServiceError("object store", "a part of an object (Range)", "all of it", "results cannot be sought")


def _s3_conditions(platform: Platform) -> None:
    with _object(platform.store) as key:
        try:
            platform.store.put_bytes(key, b"second", if_absent=True)
        except AlreadyExists:
            return
    raise ServiceError("object store", "If-None-Match to be kept", "a second object", "use a store that has it")


def _s3_links(platform: Platform) -> None:
    with _object(platform.store) as key:
        url = platform.store.presign_get(key, expires_s=60, name="doctor.txt")
        advice = "a proxy before it must pass Host on as it came (proxy_set_header Host $http_host)"
        try:
            with _open(url, {"Range": "bytes=2-4"}) as answer:
                got, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            error.close()
            raise ServiceError(f"link to {url.split('?')[0]}", "to be served", f"{error.code}", advice) from error
        if (status, got) != (206, _BODY[2:5]):
            advice = "results cannot be sought; a proxy before it must pass Range on, and the part back"
            raise ServiceError(f"link to {url.split('?')[0]}", "206 and a part", f"{status}, {len(got)} bytes", advice)


def _s3_clock(platform: Platform) -> None:
    try:
        with _open(platform.settings.require("s3.endpoint"), {}) as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date")
        error.close()
    if date is None:
        return
    ahead_s = time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    if abs(ahead_s) > MAX_CLOCK_ERROR_S:
        got = f"ours {abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'}"
        raise ServiceError("clock", "that of the object store", got, "run NTP: links are valid by the store's clock")


def _s3_origins(platform: Platform) -> None:
    origin = platform.settings.serve.origins[0]
    with _object(platform.store) as key:
        url = platform.store.presign_get(key, expires_s=60)
        with _open(url, {"Origin": "https://app.example" if origin == "*" else origin}) as answer:
            allowed = answer.headers.get("Access-Control-Allow-Origin")
    if allowed is None:
        raise ServiceError("bucket", f"pages of {origin} to be allowed", "no CORS rule", "m2dao-serve deploy sets it")


def _mlflow(platform: Platform) -> None:
    link = MlflowLink(platform.settings.require("mlflow.url"))
    with translated("model registry"):
        link.client.search_registered_models(max_results=1)


def _ray(platform: Platform) -> None:
    host, _, port = platform.settings.require("ray.address").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    if (dashboard := platform.settings.plain("ray.dashboard_url")) is not None:
        try:
            with _open(f"{dashboard}/api/version", {}) as answer:
                json.loads(answer.read())
        except urllib.error.HTTPError as error:  # it wants the token, which jobs bring along
            error.close()
            if error.code not in (401, 403):
                raise


@contextlib.contextmanager
def _object(store: ObjectStore) -> Iterator[str]:
    """The key of a small object for a trial; gone afterwards."""
    key = object_key(_TENANT, "doctor", secrets.token_hex(8))
    store.put_bytes(key, _BODY, content_type="text/plain")
    try:
        yield key
    finally:
        store.delete(key)


def _open(url: str, headers: dict[str, str]) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
