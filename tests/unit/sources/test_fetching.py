"""Bytes behind URIs, with a real https server on this machine."""

import hashlib
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from auditcore.contracts.access import DEMO_PACKAGE, AccessRules
from auditcore.contracts.models import DEMO_WEIGHTS_SHA256, DemoModel
from auditcore.errors import DigestMismatch, LimitExceeded, UnreachableResource, UnsafeReference
from auditcore.sources.fetched_files import KEPT_FILES
from auditcore.sources.fetching import open_resource, read_resource
from auditcore.sources.https import HttpsPolicy

CONTENT = bytes(range(256)) * 40


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Server:
    """An https server for `localhost` and 127.0.0.1 that counts what it is asked for."""

    port: int
    https: HttpsPolicy
    asked: list[str] = field(default_factory=list)

    def url(self, path: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}/{path}"

    def access(self, host: str = "localhost") -> AccessRules:
        return AccessRules(https_prefixes=(self.url("", host),))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Answers(BaseHTTPRequestHandler):
    """What the server says, by path."""

    here: Server

    def do_GET(self) -> None:
        self.here.asked.append(f"{self.headers['Host']}{self.path}")
        status, headers = {
            "/redirect": (302, {"Location": self.here.url("content")}),
            "/gzip": (200, {"Content-Encoding": "gzip"}),
            "/missing": (404, {}),
            "/unannounced": (200, {}),
            "/trickle": (200, {}),
            "/boasting": (200, {"Content-Length": str(10**12)}),
        }.get(self.path, (200, {"Content-Length": str(len(CONTENT))}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.path == "/trickle":
            for _ in range(100):
                self.wfile.write(b".")
                time.sleep(0.02)
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at `asked`."""


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Nothing: a client that hangs up early is what these tests are about."""


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Server]:
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    here = Server(0, HttpsPolicy(allow_loopback=True, trust=trust, read_s=5))
    http = QuietServer(("127.0.0.1", 0), type("AnswersHere", (Answers,), {"here": here}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "photos.example").configure_cert(context)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    here.port = http.server_port
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield here
    http.shutdown()
    thread.join()
    http.server_close()


def read(uri: str, access: AccessRules, *, limit_bytes: int = 10**6, **options: Any) -> bytes:
    return read_resource(uri, access=access, field="images.uris.0.uri", limit_bytes=limit_bytes, **options)


def fetch(uri: str, access: AccessRules, *, limit_bytes: int = 10**8, **options: Any) -> Path:
    return open_resource(uri, access=access, field="model.weights.uri", limit_bytes=limit_bytes, **options)


def test_https_is_read_and_verified(server: Server) -> None:
    url = server.url("content")
    assert read(url, server.access(), https=server.https, sha256=sha256(CONTENT)) == CONTENT
    path = fetch(url, server.access(), https=server.https)
    assert path.read_bytes() == CONTENT
    assert path.name == hashlib.sha256(CONTENT).hexdigest()
    assert path.parent.stat().st_mode & 0o077 == 0
    assert server.asked == [f"localhost:{server.port}/content"] * 2


def test_a_known_digest_is_not_fetched_again(server: Server) -> None:
    url = server.url("content")
    first = fetch(url, server.access(), https=server.https, sha256=sha256(CONTENT))
    asked = len(server.asked)
    assert fetch(url, server.access(), https=server.https, sha256=sha256(CONTENT)) == first
    assert len(server.asked) == asked
    with pytest.raises(LimitExceeded):
        fetch(url, server.access(), https=server.https, sha256=sha256(CONTENT), limit_bytes=10)


def test_an_ip_address_as_host_works(server: Server) -> None:
    access = server.access("127.0.0.1")
    assert read(server.url("content", "127.0.0.1"), access, https=server.https) == CONTENT


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_is_unsafe_by_default(server: Server, host: str) -> None:
    with pytest.raises(UnsafeReference, match="not a public address") as caught:
        read(server.url("content", host), server.access(host))
    assert caught.value.field == "images.uris.0.uri"
    assert server.asked == []


def test_the_prefix_is_checked_before_any_request(server: Server) -> None:
    with pytest.raises(UnsafeReference, match="AUDIT_HTTPS_PREFIXES"):
        read(server.url("content"), AccessRules(), https=server.https)
    assert server.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",  # noqa: S104 - an address to refuse, not one to bind to
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "fec0::1",
        "64:ff9b:1::a9fe:a9fe",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a00:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not HttpsPolicy().allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "140.82.112.3", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert HttpsPolicy().allows(ipaddress.ip_address(address))


def test_one_private_answer_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(UnsafeReference, match=r"10\.0\.0\.1"):
        read("https://photos.example/a", AccessRules(https_prefixes=("https://photos.example/",)))


def test_the_name_is_resolved_once_so_a_second_answer_changes_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, names = socket.getaddrinfo, []

    def resolve(host: str, *rest: Any, **options: Any) -> Any:
        names.append(host)
        return real("127.0.0.1" if host == "photos.example" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = server.url("content", "photos.example")
    assert read(url, server.access("photos.example"), https=server.https) == CONTENT
    assert names.count("photos.example") == 1
    assert server.asked == [f"photos.example:{server.port}/content"]


def test_the_peer_of_the_connection_is_checked_again(server: Server) -> None:
    class Fickle(HttpsPolicy):
        """Allows what the name resolves to and nothing after it, like a connection that ended elsewhere."""

        def allows(self, address: Any) -> bool:
            seen.append(address)
            return len(seen) <= resolved

    seen: list[Any] = []
    resolved = len({info[4][0] for info in socket.getaddrinfo("localhost", 443)})
    with pytest.raises(UnsafeReference, match="connection ended at"):
        read(server.url("content"), server.access(), https=Fickle(trust=server.https.trust))


def test_an_untrusted_certificate_is_unreachable(server: Server) -> None:
    with pytest.raises(UnreachableResource, match="localhost could not be read"):
        read(server.url("content"), server.access(), https=replace(server.https, trust=None))
    assert server.asked == []


def test_a_certificate_for_another_name_is_unreachable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if "." in host else host, *a, **k)
    )
    with pytest.raises(UnreachableResource):
        read(server.url("content", "other.example"), server.access("other.example"), https=server.https)


@pytest.mark.parametrize(
    ("path", "words"), [("redirect", "redirect"), ("missing", "status 404"), ("gzip", "compressed")]
)
def test_other_answers_are_unreachable(server: Server, path: str, words: str) -> None:
    with pytest.raises(UnreachableResource, match=words):
        read(server.url(path), server.access(), https=server.https)
    assert len(server.asked) == 1


@pytest.mark.parametrize("path", ["content", "unannounced"])
def test_too_many_bytes_are_refused_whether_announced_or_not(server: Server, path: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        fetch(server.url(path), server.access(), https=server.https, limit_bytes=len(CONTENT) - 1)
    assert caught.value.limit == len(CONTENT) - 1
    assert len(read(server.url(path), server.access(), https=server.https, limit_bytes=len(CONTENT))) == len(CONTENT)


def test_an_announced_size_is_believed_without_reading(server: Server) -> None:
    with pytest.raises(LimitExceeded) as caught:
        read(server.url("boasting"), server.access(), https=server.https)
    assert caught.value.actual == 10**12


def test_a_server_that_trickles_is_given_up(server: Server) -> None:
    start = time.monotonic()
    with pytest.raises(UnreachableResource, match="took more than"):
        read(server.url("trickle"), server.access(), https=replace(server.https, total_s=0.2))
    assert time.monotonic() - start < 1.5


def test_no_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        prefix = f"https://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(UnreachableResource, match="could not be read"):
            read(prefix, AccessRules(https_prefixes=(prefix,)), https=HttpsPolicy(allow_loopback=True))


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(UnreachableResource, match="cannot be resolved"):
        read("https://no-such-host.invalid/a", AccessRules(https_prefixes=("https://no-such-host.invalid/",)))


def test_a_wrong_digest_leaves_nothing_behind(server: Server) -> None:
    kept = fetch(server.url("content"), server.access(), https=server.https)
    before = set(kept.parent.iterdir())
    with pytest.raises(DigestMismatch) as caught:
        fetch(server.url("content"), server.access(), https=server.https, sha256=sha256(b"other"))
    assert (caught.value.expected, caught.value.actual) == (sha256(b"other"), sha256(CONTENT))
    assert set(kept.parent.iterdir()) == before


def test_few_fetched_files_are_kept() -> None:
    paths = [
        fetch(f"blob:{sha256(data)}", AccessRules(), blobs=lambda _, data=data: data)
        for data in (f"file {number}".encode() for number in range(KEPT_FILES + 3))
    ]
    assert [path.exists() for path in paths] == [False] * 3 + [True] * KEPT_FILES


def test_a_file_below_an_allowed_root_is_read_in_place(tmp_path: Path) -> None:
    file = tmp_path / "a photo.bin"
    file.write_bytes(CONTENT)
    access = AccessRules(file_roots=(tmp_path,))
    assert read(file.as_uri(), access, sha256=sha256(CONTENT)) == CONTENT
    assert fetch(file.as_uri(), access, sha256=sha256(CONTENT)) == file.resolve()
    with pytest.raises(DigestMismatch):
        fetch(file.as_uri(), access, sha256=sha256(b"other"))
    for attempt in (read, fetch):
        with pytest.raises(LimitExceeded):
            attempt(file.as_uri(), access, limit_bytes=5)


def test_a_link_does_not_lead_out_of_a_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeReference, match="AUDIT_FILE_ROOTS"):
        read((root / "link").as_uri(), AccessRules(file_roots=(root,)))


def test_what_is_not_a_file_is_unreachable_and_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    access = AccessRules(file_roots=(tmp_path,))
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing"):
        with pytest.raises(UnreachableResource):
            fetch(path.as_uri(), access)


@pytest.mark.parametrize("uri", ["file:///a%00b", "https://[::1", "ftp://host/file", "no scheme"])
def test_text_that_is_not_a_uri_is_unsafe(uri: str) -> None:
    with pytest.raises(UnsafeReference):
        read(uri, AccessRules(file_roots=(Path("/"),)))


def test_the_demo_weights_are_a_file_of_a_package() -> None:
    weights = DemoModel().as_factory().weights
    path = fetch(weights.uri, AccessRules(), sha256=DEMO_WEIGHTS_SHA256)
    assert path.stat().st_size > 10**7
    assert DEMO_PACKAGE in path.parts


@pytest.mark.parametrize("inside", ["missing.pth", "%2e%2e/a", ""])
def test_what_is_not_in_a_package_is_unreachable(inside: str) -> None:
    with pytest.raises(UnreachableResource):
        fetch(f"package:{DEMO_PACKAGE}/{inside}", AccessRules())


def test_a_package_that_is_not_installed_is_unreachable() -> None:
    with pytest.raises(UnreachableResource, match="not installed"):
        fetch("package:no_such_package/a", AccessRules(packages=("no_such_package",)))


def test_a_link_does_not_lead_out_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "linked_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "secret").write_bytes(b"secret")
    (package / "link").symlink_to(tmp_path / "secret")
    (package / "file").write_bytes(b"fine")
    monkeypatch.syspath_prepend(tmp_path)
    access = AccessRules(packages=("linked_package",))
    assert read("package:linked_package/file", access) == b"fine"  # and the package is not imported
    with pytest.raises(UnsafeReference, match="points outside"):
        read("package:linked_package/link", access)


def test_a_blob_matches_its_digest() -> None:
    uri = f"blob:{sha256(CONTENT)}"
    stored = {sha256(CONTENT): CONTENT}
    assert read(uri, AccessRules(), blobs=stored.__getitem__) == CONTENT
    assert fetch(uri, AccessRules(), blobs=stored.__getitem__).read_bytes() == CONTENT
    with pytest.raises(DigestMismatch):
        read(uri, AccessRules(), blobs=lambda _: b"other")
    with pytest.raises(DigestMismatch):
        fetch(uri, AccessRules(), blobs=stored.__getitem__, sha256=sha256(b"other"))
    with pytest.raises(UnreachableResource, match="upload it first"):
        read(uri, AccessRules(), blobs={}.__getitem__)
    with pytest.raises(UnreachableResource, match="no store"):
        read(uri, AccessRules())
    with pytest.raises(LimitExceeded):
        read(uri, AccessRules(), blobs=stored.__getitem__, limit_bytes=10)
