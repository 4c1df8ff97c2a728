"""Which addresses of the internet a name may lead to, and how a request goes to an address that was checked.

A name is resolved once and every answer is checked. The connection then goes to a checked address by number, so a
second, different DNS answer changes nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import httpx

from auditcore.errors import UnreachableResource, UnsafeReference

AZURE_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")
"""The only metadata address of a cloud that counts as public."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(address: Address) -> bool:
    """Whether an address is public unicast; of IPv4 inside IPv6, whether the inner address is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner_ipv4(address)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:  # once private, and global according to `ipaddress`
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address == AZURE_WIRE_SERVER)


def is_loopback(address: Address) -> bool:
    """Whether an address is one of this machine, also for IPv4 inside IPv6."""
    inner = _inner_ipv4(address) if isinstance(address, ipaddress.IPv6Address) else None
    return (inner or address).is_loopback


def parse_address(text: str) -> Address:
    """The address in a text, without the zone of a link-local address."""
    return ipaddress.ip_address(text.partition("%")[0])


def resolve(host: str, port: int, *, field: str, allows: Callable[[Address], bool], remedy: str) -> list[Address]:
    """Every address of a host.

    Args:
        host: A name or an address; IPv6 may be in brackets.
        port: The port to connect to.
        field: Path of the URL in the request, for errors.
        allows: Whether a connection may go to an address.
        remedy: What to do if it may not, for errors.

    Raises:
        UnsafeReference: The host has an address that is not allowed.
        UnreachableResource: The host has no address.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter for a label that no name can have
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"host {host!r} cannot be resolved ({reason}); check its spelling"
        raise UnreachableResource(msg, field=field) from error
    addresses = list(dict.fromkeys(parse_address(str(info[4][0])) for info in found))
    for address in addresses:
        if not allows(address):
            msg = f"host {host!r} resolves to {address}, which is not a public address; {remedy}"
            raise UnsafeReference(msg, field=field)
    return addresses


def pin(request: httpx.Request, address: Address) -> None:
    """Send a request to an address by number; its header Host and the name in the certificate stay those of its URL."""
    host = request.url.raw_host.decode("ascii").strip("[]")
    # a later address of the same host finds the name here, because the URL no longer has it
    request.extensions.setdefault("sni_hostname", host)
    request.url = request.url.copy_with(host=str(address))


def _inner_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4, Teredo or NAT64 address leads to."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None
