"""Bytes behind `https:`, which never reaches a private address.

The host is resolved once, every answer is checked, the connection goes to a checked address (so a second, different
DNS answer changes nothing), and the peer of the open connection is checked again.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from auditcore.errors import UnreachableResource, UnsafeReference
from auditcore.sources.addresses import Address, is_loopback, is_public, parse_address, pin, resolve
from auditcore.sources.verification import check_size


@dataclass(frozen=True)
class HttpsPolicy:
    """Settings of `https:`. A service uses the default; only tests need another policy.

    Attributes:
        allow_loopback: Allow addresses of this machine.
        trust: Certificates to trust; the usual authorities if None.
        connect_s: Time allowed for a connection, in seconds.
        read_s: Time allowed between two pieces of the answer, in seconds.
        total_s: Time allowed for the whole answer, in seconds; with only `read_s`, a slow server could send for ever.
        clock: A monotonic clock, in seconds.
    """

    allow_loopback: bool = False
    trust: ssl.SSLContext | None = None
    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 600.0
    clock: Callable[[], float] = time.monotonic

    def allows(self, address: Address) -> bool:
        """Whether a connection may go to an address: public unicast only, also for IPv4 inside IPv6."""
        return is_public(address) or (self.allow_loopback and is_loopback(address))


PUBLIC_HTTPS = HttpsPolicy()

REMEDY = "upload the bytes instead"
"""What to do about a host that is not public."""


def stream_https(
    uri: str, write: Callable[[bytes], object], *, limit_bytes: int, field: str, https: HttpsPolicy
) -> str:
    """Pass the answer on piece by piece, and return the hexadecimal sha256 of the whole.

    Args:
        uri: `https://...`, which `AccessRules.check_uri` has allowed.
        write: Receives the pieces in order.
        limit_bytes: Most bytes accepted.
        field: Path of the URI in the request, for errors.
        https: Settings of the connection.

    Raises:
        UnsafeReference: The host has an address that is not public.
        UnreachableResource: The host does not answer with the bytes.
        LimitExceeded: There are more than `limit_bytes`.
    """
    try:
        url = httpx.URL(uri)
        host = url.raw_host.decode("ascii")
        addresses = resolve(host, url.port or 443, field=field, allows=https.allows, remedy=REMEDY)
    except (httpx.InvalidURL, UnicodeError) as error:
        msg = f"{uri} is not a valid URL ({error})"
        raise UnreachableResource(msg, field=field) from error
    try:
        with _connect(url, addresses, https) as response:
            _check_peer(response, https, field)
            _check_answer(response, limit_bytes, uri, field)
            return _copy(response, write, limit_bytes=limit_bytes, field=field, https=https)
    except httpx.TimeoutException as error:
        msg = f"{host} did not answer in time; try again, or upload the bytes instead"
        raise UnreachableResource(msg, field=field) from error
    except httpx.HTTPError as error:
        msg = f"{host} could not be read ({error}); check the address, or upload the bytes instead"
        raise UnreachableResource(msg, field=field) from error


@contextmanager
def _connect(url: httpx.URL, addresses: list[Address], https: HttpsPolicy) -> Iterator[httpx.Response]:
    """Ask the first address that accepts a connection; by number, so that no name is resolved a second time."""
    with httpx.Client(
        verify=https.trust or httpx.create_ssl_context(trust_env=False),
        timeout=httpx.Timeout(https.read_s, connect=https.connect_s),
        follow_redirects=False,
        trust_env=False,  # a proxy or a .netrc of the environment would undo the checks
    ) as client:
        # the answer as stored: a compressed one could grow beyond every limit
        request = client.build_request("GET", url, headers={"Accept-Encoding": "identity"})
        for number, address in enumerate(addresses, start=1):
            pin(request, address)
            try:
                response = client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if number == len(addresses):
                    raise
            else:
                break
        try:
            yield response
        finally:
            response.close()


def _check_peer(response: httpx.Response, https: HttpsPolicy, field: str) -> None:
    peer = response.extensions["network_stream"].get_extra_info("server_addr")
    if not https.allows(parse_address(str(peer[0]))):
        msg = f"the connection ended at {peer[0]}, which is not a public address; {REMEDY}"
        raise UnsafeReference(msg, field=field)


def _check_answer(response: httpx.Response, limit_bytes: int, uri: str, field: str) -> None:
    if response.is_redirect:
        msg = f"{uri} answers with a redirect ({response.status_code}); name the final address"
        raise UnreachableResource(msg, field=field)
    if response.status_code != httpx.codes.OK:
        msg = f"{uri} answers with status {response.status_code}; check the address and who may read it"
        raise UnreachableResource(msg, field=field)
    if response.headers.get("content-encoding", "identity") != "identity":
        msg = f"{uri} is sent compressed, which the request did not accept; upload the bytes instead"
        raise UnreachableResource(msg, field=field)
    announced = response.headers.get("content-length", "")
    if announced.isdecimal():
        check_size(int(announced), limit_bytes, field)


def _copy(
    response: httpx.Response, write: Callable[[bytes], object], *, limit_bytes: int, field: str, https: HttpsPolicy
) -> str:
    deadline = https.clock() + https.total_s
    digest = hashlib.sha256()
    size = 0
    # each piece as it arrives: waiting for larger ones would check the deadline too late
    for chunk in response.iter_raw():
        size += len(chunk)
        check_size(size, limit_bytes, field)
        if https.clock() > deadline:
            msg = f"the answer took more than {https.total_s:g} s; upload the bytes instead"
            raise UnreachableResource(msg, field=field)
        digest.update(chunk)
        write(chunk)
    return digest.hexdigest()
