"""Webhooks reach public addresses only, however an inner one is written."""

from __future__ import annotations

import ipaddress

import pytest

from cluster.webhooks.addresses import endpoint_of, is_public, resolve
from m2dao.errors import InputError

INNER = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
    *("2002:a00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
]
OUTER = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"]


@pytest.mark.parametrize("text", INNER)
def test_an_address_that_is_not_of_the_public_internet_is_not_public(text):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", OUTER)
def test_an_address_of_the_public_internet_is_public(text):
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost", "[::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "2852039166", "LOCALHOST"),
    ],
)
def test_no_way_of_writing_leads_inside(host):
    with pytest.raises(InputError):
        resolve(endpoint_of(f"https://{host}/x", allow_private=False), allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        *("http://a.example/", "ftp://a.example/", "//a.example/", "a.example", "https://", "https:///x", ""),
        *("https://u@a.example/", "https://u:p@a.example/", "https://@a.example/", "https://a.example/#x"),
        *(
            "https://a.example:0/",
            "https://a.example:99999/",
            "https://a.example:x/",
            "https://[::1",
            "https://[fe80::1%25a]/",
        ),
        *("https://a.example/ b", "https://a.example/\n", "https://a.example\\@b.example/", "https://\u00e4.example/"),
        *("https://" + "a" * 254, "https://a.example/" + "a" * 2000, "https://%6c/"),
    ],
)
def test_what_is_no_address_of_a_webhook_is_refused(url):
    with pytest.raises(InputError):
        endpoint_of(url, allow_private=False)


def test_an_endpoint_keeps_name_port_and_target():
    endpoint = endpoint_of("https://a.example:8443/x/y?z=1", allow_private=False)
    assert (endpoint.host, endpoint.port, endpoint.target) == ("a.example", 8443, "/x/y?z=1")
    assert endpoint.authority == "a.example:8443"
    assert endpoint_of("https://a.example", allow_private=False).authority == "a.example"
    assert endpoint_of("https://[2606:4700::1111]/", allow_private=False).authority == "[2606:4700::1111]"


def test_a_site_of_its_own_may_tell_inner_addresses():
    endpoint = endpoint_of("http://127.0.0.1:8080/", allow_private=True)
    assert str(resolve(endpoint, allow_private=True)) == "127.0.0.1"
