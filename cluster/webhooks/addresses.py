"""Which addresses a webhook may have: none inside our own networks.

A tenant chooses the URL, so the keeper would otherwise be a way to every service that it can reach. A name is looked
up once, every address that it stands for is checked, and the connection goes to one that was checked.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from m2dao.errors import InputError

MAX_URL_CHARACTERS = 2000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"https": 443, "http": 80}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a URL leads to.

    Args:
        scheme: "https" or "http".
        host: the name, as it is written in ASCII.
        port: the port.
        target: path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the header ``Host`` says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def endpoint_of(url: str, *, allow_private: bool) -> Endpoint:
    """Where a URL leads to.

    Raises:
        InputError: it cannot be a webhook's.
    """
    schemes = ("https", "http") if allow_private else ("https",)
    expected = f"an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InputError("url", f"at most {MAX_URL_CHARACTERS} visible ASCII characters", repr(url[:100]))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError("url", expected, repr(url[:100])) from error
    if parts.scheme not in schemes or not host or port == 0:
        raise InputError("url", expected, repr(url[:100]))
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise InputError("url", "neither a user, nor a password, nor a fragment", "one that has one")
    if "%" in host or len(host) > 253:
        raise InputError("url", "a host name of at most 253 characters", repr(host[:100]))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    endpoint = Endpoint(scheme=parts.scheme, host=host, port=port or _PORTS[parts.scheme], target=target)
    literal = _literal(host)
    if literal is not None and not allow_private and not is_public(literal):
        raise _refused(host)
    return endpoint


def resolve(endpoint: Endpoint, *, allow_private: bool) -> Address:
    """An address of the endpoint that may be connected to, after one look-up.

    Raises:
        InputError: an address that the name stands for is not public.
        OSError: the name stands for nothing.
    """
    found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = [ipaddress.ip_address(row[4][0]) for row in found]
    if not allow_private and not all(is_public(address) for address in addresses):
        raise _refused(endpoint.host)
    return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet, also where it stands inside another one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.scope_id is not None:
            return False
    return address.is_global and not address.is_multicast


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refused(host: str) -> InputError:
    return InputError("url", "a host with public addresses only", repr(host[:100]))
