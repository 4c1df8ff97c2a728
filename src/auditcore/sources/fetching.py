"""Bytes behind a URI: allowed ones only, at most so many, and those that were meant.

A request names weights and images; this module is the only one that opens what it names. `https:` never reaches a
private address: the host is resolved once, every answer is checked, the connection goes to a checked address
(so a second, different DNS answer changes nothing), and the peer of the open connection is checked again.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.util
import io
import ipaddress
import os
import secrets
import shutil
import socket
import ssl
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from auditcore.contracts.access import STORAGE_SCHEMES, AccessRules
from auditcore.errors import DigestMismatch, LimitExceeded, UnreachableResource, UnsafeReference
from auditcore.sources.object_stores import hash_object, stream_object

BlobReader = Callable[[str], bytes]
"""From a content address `sha256:...` to the bytes stored under it; raises LookupError or OSError without them."""

KEPT_FILES = 4
"""Fetched files kept on disk by a process. Weights are read into memory at once, so few are ever needed again."""

AZURE_WIRE_SERVER = ipaddress.ip_address("168.63.129.16")
"""The one cloud metadata address that is formally public."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class HttpsPolicy:
    """How `https:` is spoken. The default is what a service wants; only a test has a reason for another.

    Attributes:
        allow_loopback: Let a URI reach this very machine.
        trust: Certificates to trust; the usual authorities when null.
        connect_s: Time allowed for a connection, in seconds.
        read_s: Time allowed between two pieces of the answer, in seconds.
        total_s: Time allowed for the whole answer, in seconds; read_s alone would let a server trickle for ever.
        clock: Seconds that never go back.
    """

    allow_loopback: bool = False
    trust: ssl.SSLContext | None = None
    connect_s: float = 10.0
    read_s: float = 30.0
    total_s: float = 600.0
    clock: Callable[[], float] = time.monotonic

    def allows(self, address: Address) -> bool:
        """Whether a connection may go there: public unicast addresses, also inside IPv6 forms of IPv4."""
        if isinstance(address, ipaddress.IPv6Address):
            inner = _inner_ipv4(address)
            if inner is not None:
                return self.allows(inner)
        if address.is_loopback:
            return self.allow_loopback
        return address.is_global and not (address.is_multicast or address.is_reserved or address == AZURE_WIRE_SERVER)


PUBLIC_HTTPS = HttpsPolicy()


def open_resource(
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None = None,
    blobs: BlobReader | None = None,
    https: HttpsPolicy = PUBLIC_HTTPS,
) -> Path:
    """A local file with the bytes behind a URI, verified.

    `file:` and `package:` give the file itself: read it, never write it. `https:` and `blob:` give a private copy
    named after its digest, which lives as long as the process unless `KEPT_FILES` newer ones follow; read it soon.

    Args:
        uri: `file:///path`, `package:import_name/path/inside`, `https://...`, `blob:sha256:...`, or an object such as
            `s3://bucket/key`.
        access: What the operator allows; asked before anything is touched.
        field: Path of the URI in the request, for errors.
        limit_bytes: Most bytes accepted.
        sha256: `sha256:...` that the bytes must have.
        blobs: Store of uploaded bytes; without it `blob:` is unreachable.
        https: How `https:` is spoken.

    Raises:
        UnsafeReference: The URI, or the address its host resolves to, is not allowed.
        UnreachableResource: Nothing could be read.
        LimitExceeded: There are more than `limit_bytes`.
        DigestMismatch: The bytes are not those of `sha256`.
    """
    access.check_uri(uri, field=field)
    match urlsplit(uri).scheme:
        case "file" | "package":
            path = _local_file(uri, field=field)
            _check_size(path.stat().st_size, limit_bytes, field)
            if sha256 is not None:
                with path.open("rb") as file:
                    _check_digest(hashlib.file_digest(file, "sha256").hexdigest(), sha256, _promise(field))
            return path
        case "blob":
            data = _read_blob(uri, blobs, limit_bytes=limit_bytes, field=field)
            digest = hashlib.sha256(data).hexdigest()
            _check_digest(digest, sha256, _promise(field))
            with _new_file() as (file, keep):
                file.write(data)
                return keep(digest)
        case scheme:
            if sha256 is not None and (kept := _private_folder() / sha256.removeprefix("sha256:")).exists():
                _check_size(kept.stat().st_size, limit_bytes, field)
                kept.touch()  # last to be removed
                return kept
            with _new_file() as (file, keep):
                if scheme in STORAGE_SCHEMES:
                    digest = stream_object(uri, file.write, limit_bytes=limit_bytes, field=field)
                else:
                    digest = _stream_https(uri, file.write, limit_bytes=limit_bytes, field=field, https=https)
                _check_digest(digest, sha256, _promise(field))
                return keep(digest)


def read_resource(
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None = None,
    blobs: BlobReader | None = None,
    https: HttpsPolicy = PUBLIC_HTTPS,
) -> bytes:
    """The bytes behind a URI, in memory; for images. Arguments and errors are those of `open_resource`."""
    access.check_uri(uri, field=field)
    match urlsplit(uri).scheme:
        case "file" | "package":
            path = _local_file(uri, field=field)
            _check_size(path.stat().st_size, limit_bytes, field)
            data = path.read_bytes()
        case "blob":
            data = _read_blob(uri, blobs, limit_bytes=limit_bytes, field=field)
        case scheme:
            memory = io.BytesIO()
            if scheme in STORAGE_SCHEMES:
                stream_object(uri, memory.write, limit_bytes=limit_bytes, field=field)
            else:
                _stream_https(uri, memory.write, limit_bytes=limit_bytes, field=field, https=https)
            data = memory.getvalue()
    _check_digest(hashlib.sha256(data).hexdigest(), sha256, _promise(field))
    return data


def pin_resource(
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None = None,
    https: HttpsPolicy = PUBLIC_HTTPS,
) -> str | None:
    """The sha256 of what is behind a URI now, so that workers read the same bytes later.

    A file that this machine does not have may be on those of the workers: it stays unpinned, and they are the judges.
    Arguments and errors are those of `open_resource`.

    Returns:
        `sha256:...`; the given digest unread, and None where nothing can be read here.
    """
    access.check_uri(uri, field=field)
    match urlsplit(uri).scheme:
        case _ if sha256 is not None:
            return sha256
        case "blob":
            return uri.partition(":")[2]
        case "file" | "package":
            return _pin_file(uri, limit_bytes=limit_bytes, field=field)
        case "random":
            return None
        case "https":
            return f"sha256:{_stream_https(uri, _forget, limit_bytes=limit_bytes, field=field, https=https)}"
        case _:
            return hash_object(uri, limit_bytes=limit_bytes, field=field)


def _pin_file(uri: str, *, limit_bytes: int, field: str) -> str | None:
    try:
        path = _local_file(uri, field=field)
    except UnreachableResource:
        return None
    found = path.stat()
    _check_size(found.st_size, limit_bytes, field)
    return _digest_of(path, found.st_size, found.st_mtime_ns, found.st_ino)


def _forget(_: bytes) -> None:
    """Only the digest of what passes is wanted, and no disk is filled."""


@functools.lru_cache(maxsize=256)
def _digest_of(path: Path, _size: int, _modified: int, _inode: int) -> str:
    """Digest of a file, remembered until the file changes."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _check_size(actual: int, limit: int, field: str) -> None:
    if actual > limit:
        raise LimitExceeded(what="the resource", limit=limit, actual=actual, unit="bytes", field=field)


def _promise(field: str) -> str:
    """The field beside a URI that promises its digest."""
    return f"{field.removesuffix('uri')}sha256" if field.endswith(".uri") else field


def _check_digest(hexdigest: str, expected: str | None, field: str) -> None:
    actual = f"sha256:{hexdigest}"
    if expected is not None and actual != expected:
        raise DigestMismatch(expected=expected, actual=actual, field=field)


def _local_file(uri: str, *, field: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme == "package":
        path = _package_file(parts.path, field=field)
    else:
        path = Path(os.path.realpath(unquote(parts.path)))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        msg = f"no file can be read at {uri}; check the path"
        raise UnreachableResource(msg, field=field) from error
    if not stat.S_ISREG(mode):
        msg = f"{uri} is not a regular file; name one"
        raise UnreachableResource(msg, field=field)
    if not os.access(path, os.R_OK):
        msg = f"{uri} may not be read by this process; ask the operator to change its permissions"
        raise UnreachableResource(msg, field=field)
    return path


def _package_file(path: str, *, field: str) -> Path:
    """The file of an installed package, found without importing it: importing runs code."""
    package, _, inside = path.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        msg = f"package {package!r} is not installed here; install it beside auditcore, such as with auditcore[demo]"
        raise UnreachableResource(msg, field=field)
    for folder in folders:
        root = os.path.realpath(folder)
        file = Path(os.path.realpath(Path(root) / inside))
        if not file.is_relative_to(root):
            msg = f"{inside!r} leads out of the package {package!r}; name a file inside it"
            raise UnsafeReference(msg, field=field)
        if file.exists():
            return file
    msg = f"package {package!r} has no file {inside!r}; check the path"
    raise UnreachableResource(msg, field=field)


def _read_blob(uri: str, blobs: BlobReader | None, *, limit_bytes: int, field: str) -> bytes:
    digest = uri.partition(":")[2]
    if blobs is None:
        msg = "blob: names uploaded bytes, and there is no store of them here; use file:, package: or https:"
        raise UnreachableResource(msg, field=field)
    try:
        data = blobs(digest)
    except (LookupError, OSError) as error:
        msg = f"nothing is stored under {digest}; upload it first"
        raise UnreachableResource(msg, field=field) from error
    _check_size(len(data), limit_bytes, field)
    _check_digest(hashlib.sha256(data).hexdigest(), digest, field)
    return data


def _private_folder() -> Path:
    """A folder that only this process's user can enter, removed when the process ends."""
    return _folder_of(os.getpid())


@functools.cache
def _folder_of(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="auditcore-"))

    def remove() -> None:
        if os.getpid() == process:  # a fork inherits this handler and must leave its parent's files alone
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


@contextmanager
def _new_file() -> Iterator[tuple[io.BufferedIOBase, Callable[[str], Path]]]:
    """A file to fill, and what moves it to its content address once it is whole; removed when anything fails."""
    folder = _private_folder()
    part = folder / f"part-{secrets.token_hex(8)}"
    with part.open("xb") as file:

        def keep(hexdigest: str) -> Path:
            file.flush()
            kept = part.rename(folder / hexdigest)
            whole = [path for path in folder.iterdir() if not path.name.startswith("part-")]
            for old in sorted(whole, key=lambda path: path.stat().st_mtime_ns)[:-KEPT_FILES]:
                old.unlink()
            return kept

        try:
            yield file, keep
        finally:
            part.unlink(missing_ok=True)


def _stream_https(
    uri: str, write: Callable[[bytes], object], *, limit_bytes: int, field: str, https: HttpsPolicy
) -> str:
    """Hand the answer on piece by piece, and return the hexadecimal sha256 of the whole."""
    try:
        url = httpx.URL(uri)
        host = url.raw_host.decode("ascii")
        addresses = _resolve(host, url.port or 443, field=field, https=https)
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


def _resolve(host: str, port: int, *, field: str, https: HttpsPolicy) -> list[Address]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        msg = f"host {host!r} cannot be resolved ({error.strerror}); check its spelling"
        raise UnreachableResource(msg, field=field) from error
    addresses = list(dict.fromkeys(_address(str(info[4][0])) for info in found))
    for address in addresses:
        if not https.allows(address):
            msg = f"host {host!r} resolves to {address}, which is not a public address; upload the bytes instead"
            raise UnsafeReference(msg, field=field)
    return addresses


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])  # without the zone of a link-local address


def _inner_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4, Teredo or NAT64 address leads to."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


@contextmanager
def _connect(url: httpx.URL, addresses: list[Address], https: HttpsPolicy) -> Iterator[httpx.Response]:
    """Ask the first address that accepts a connection, by number, so that no name is resolved a second time."""
    with httpx.Client(
        verify=https.trust or httpx.create_ssl_context(trust_env=False),
        timeout=httpx.Timeout(https.read_s, connect=https.connect_s),
        follow_redirects=False,
        trust_env=False,  # a proxy or a .netrc of the environment would undo the checks
    ) as client:
        request = client.build_request(
            "GET",
            url,
            # the answer as stored: a compressed one could grow beyond every limit
            headers={"Host": url.netloc.decode("ascii"), "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.raw_host.decode("ascii").strip("[]")},
        )
        for number, address in enumerate(addresses, start=1):
            request.url = url.copy_with(host=str(address))
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
    if not https.allows(_address(str(peer[0]))):
        msg = f"the connection ended at {peer[0]}, which is not a public address; upload the bytes instead"
        raise UnsafeReference(msg, field=field)


def _check_answer(response: httpx.Response, limit_bytes: int, uri: str, field: str) -> None:
    if response.is_redirect:
        msg = f"{uri} answers with a redirect ({response.status_code}); name the final address"
        raise UnreachableResource(msg, field=field)
    if response.status_code != httpx.codes.OK:
        msg = f"{uri} answers with status {response.status_code}; check the address and who may read it"
        raise UnreachableResource(msg, field=field)
    if response.headers.get("content-encoding", "identity") != "identity":
        msg = f"{uri} is sent compressed although that was not asked for; upload the bytes instead"
        raise UnreachableResource(msg, field=field)
    announced = response.headers.get("content-length", "")
    if announced.isdecimal():
        _check_size(int(announced), limit_bytes, field)


def _copy(
    response: httpx.Response, write: Callable[[bytes], object], *, limit_bytes: int, field: str, https: HttpsPolicy
) -> str:
    deadline = https.clock() + https.total_s
    digest = hashlib.sha256()
    size = 0
    for chunk in response.iter_raw():  # piece by piece as it arrives: collecting larger ones would defer the deadline
        size += len(chunk)
        _check_size(size, limit_bytes, field)
        if https.clock() > deadline:
            msg = f"the answer took more than {https.total_s:g} s; upload the bytes instead"
            raise UnreachableResource(msg, field=field)
        digest.update(chunk)
        write(chunk)
    return digest.hexdigest()
