"""The doctor against a real S3 server, behind proxies and with clocks as sites have them."""

import datetime
import http.client
import re
import threading
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import botocore.auth
import pytest

from cluster.ids import TenantId
from cluster.object_keys import object_key
from cluster.platform import Platform
from cluster.stack.doctor import examine
from tests.support.stack import reaching

PAGE = "https://app.example.com"


def troubles(settings):
    """What is wrong with S3, by what was needed."""
    return {found.needed: found.trouble for found in examine(Platform(settings)) if found.service == "s3"}


def about(found, word):
    (trouble,) = [trouble for needed, trouble in found.items() if word in needed]
    return trouble


@contextmanager
def clock_of_signatures(monkeypatch, *, ahead_s):
    """Requests and links are signed by a clock that is off."""

    def off(remove_tzinfo=True):
        return datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=ahead_s)

    with monkeypatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", off)
        yield


@contextmanager
def stored_object(store):
    """The key of a small object; gone afterwards."""
    key = object_key(TenantId("doctor"), "test", uuid.uuid4().hex)
    store.put_bytes(key, b"result")
    try:
        yield key
    finally:
        store.delete(key)


@contextmanager
def proxy(upstream, *, keeps_host=True, keeps_range=True):
    """The address of a proxy before a server; nginx does not keep Host unless it is told to."""
    address = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers = dict(self.headers.items())
            if not keeps_host:
                headers["Host"] = address.netloc
            if not keeps_range:
                headers.pop("Range", None)
            connection = http.client.HTTPConnection(address.hostname, address.port)
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body)))
            for name in ("Content-Range", "Date"):
                if answer.headers.get(name):
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(body)
            connection.close()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("keeps_host", [True, False])
def test_a_proxy_that_changes_the_host_is_found_with_what_to_do(stack, keeps_host):
    with proxy(stack.require("s3.endpoint"), keeps_host=keeps_host) as address:
        trouble = about(troubles(reaching(stack, s3_public_endpoint=address)), "presigned")
    if keeps_host:
        assert trouble == ""
    else:
        assert f"{address}/" in trouble
        assert "403" in trouble
        assert "proxy_set_header Host $http_host" in trouble


def test_a_proxy_that_drops_ranges_is_not_taken_for_one_that_changes_the_host(stack):
    with proxy(stack.require("s3.endpoint"), keeps_range=False) as address:
        trouble = about(troubles(reaching(stack, s3_public_endpoint=address)), "presigned")
    assert "206 and a part; got 200" in trouble
    assert "must pass Range on" in trouble
    assert "Host" not in trouble


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_a_clock_that_is_off_is_found_with_the_way_it_is(stack, monkeypatch, ahead_s):
    clock = time.time
    monkeypatch.setattr("cluster.stack.doctor.time.time", lambda: clock() + ahead_s)
    with clock_of_signatures(monkeypatch, ahead_s=ahead_s):
        found = troubles(stack)
    trouble = about(found, "clock")
    found_s, way = re.search(r"ours (\d+) s (ahead|behind)", trouble).groups()
    assert int(found_s) == pytest.approx(600, abs=60)
    assert way == ("ahead" if ahead_s > 0 else "behind")
    assert "run NTP" in trouble


def test_a_link_that_a_late_clock_has_signed_expires_early(stack, monkeypatch):
    """What the doctor warns of: a link is judged by the store's clock."""
    store, fetched = Platform(stack).store, {}
    with stored_object(store) as key:
        for ahead_s in (-120, 0):
            with clock_of_signatures(monkeypatch, ahead_s=ahead_s):
                url = store.presign_get(key, expires_s=60)
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    fetched[ahead_s] = answer.read()
            except urllib.error.HTTPError as error:
                fetched[ahead_s] = error.code
                error.close()
    assert fetched == {-120: 403, 0: b"result"}


def test_only_pages_of_allowed_origins_may_fetch_results_once_the_bucket_says_so(stack):
    """Without a rule, SeaweedFS lets every page fetch what it has a link for."""
    settings = reaching(stack, s3_bucket=f"cors-{uuid.uuid4().hex[:12]}", serve_allowed_origins=PAGE)
    store = Platform(settings).store
    store.ensure_bucket()
    store.allow_origins((PAGE,))
    assert about(troubles(settings), "pages") == ""
    allowed = {}
    with stored_object(store) as key:
        for origin in (PAGE, "https://elsewhere.example"):
            request = urllib.request.Request(store.presign_get(key, expires_s=60), headers={"Origin": origin})
            with urllib.request.urlopen(request, timeout=30) as answer:
                allowed[origin] = answer.headers.get("Access-Control-Allow-Origin")
    assert allowed == {PAGE: PAGE, "https://elsewhere.example": None}
