"""A process that may not reach what a request names lets another one fetch it."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.errors import UnreachableResource, UnsafeReference
from auditcore.sources import https, object_stores
from auditcore.sources.fetching import open_resource, pin_resource, read_resource
from auditcore.sources.proxies import fetch_through

ACCESS = AccessRules(https_prefixes=("https://models.example/",), storage_prefixes=("s3://models/",))
DIGEST = f"sha256:{'a' * 64}"
URIS = ("https://models.example/a", "s3://models/a", f"blob:{DIGEST}")


class Proxy:
    """Fetches everything from one file, and remembers what it was asked for."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.asked: list[tuple[str, int]] = []

    def open(self, uri: str, *, field: str, limit_bytes: int, sha256: str | None) -> Path:
        assert field == "x"
        assert sha256 in {None, DIGEST}
        self.asked.append((uri, limit_bytes))
        return self.file

    def pin(self, uri: str, *, field: str, limit_bytes: int) -> str | None:
        return self.open(uri, field=field, limit_bytes=limit_bytes, sha256=None) and DIGEST

    def open_registry(self, reference: ModelReference) -> Path:
        raise NotImplementedError(reference)


def blobs(digest: str) -> bytes:
    raise AssertionError(digest)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    (tmp_path / "fetched").write_bytes(b"weights")
    # this process opens no connection
    for module in (https.httpx, object_stores):
        monkeypatch.delattr(module, "Client" if module is https.httpx else "_system")
    return Proxy(tmp_path / "fetched")


@pytest.mark.parametrize("uri", URIS)
def test_everything_that_is_no_file_is_fetched_by_the_other_process(uri: str, proxy: Proxy) -> None:
    with fetch_through(proxy):
        assert open_resource(uri, access=ACCESS, field="x", limit_bytes=9, blobs=blobs) == proxy.file
        assert read_resource(uri, access=ACCESS, field="x", limit_bytes=9, blobs=blobs) == b"weights"
        assert pin_resource(uri, access=ACCESS, field="x", limit_bytes=9) == DIGEST
    assert set(proxy.asked) == {(uri, 9)}


def test_the_other_process_knows_whether_there_are_uploaded_bytes(proxy: Proxy) -> None:
    uri = f"blob:{DIGEST}"
    with pytest.raises(UnreachableResource, match="no store"):
        open_resource(uri, access=ACCESS, field="x", limit_bytes=9)
    with fetch_through(proxy):
        assert open_resource(uri, access=ACCESS, field="x", limit_bytes=9) == proxy.file
        assert read_resource(uri, access=ACCESS, field="x", limit_bytes=9) == b"weights"
    assert proxy.asked == [(uri, 9), (uri, 9)]


def test_rules_of_access_come_first_and_files_stay_here(proxy: Proxy) -> None:
    with fetch_through(proxy):
        with pytest.raises(UnsafeReference):
            open_resource("https://other.example/a", access=ACCESS, field="x", limit_bytes=9)
        with pytest.raises(UnsafeReference):
            read_resource(proxy.file.as_uri(), access=ACCESS, field="x", limit_bytes=9)
        allowed = AccessRules(file_roots=(proxy.file.parent,))
        assert read_resource(proxy.file.as_uri(), access=allowed, field="x", limit_bytes=9) == b"weights"
    assert proxy.asked == []
