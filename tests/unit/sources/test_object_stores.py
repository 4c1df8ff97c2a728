"""Weights and images from a real S3 server, an emulator of Google Cloud Storage, and Azure's addresses."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import httpx
import pytest
from gcp_storage_emulator.server import create_server

import digits
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.errors import DigestMismatch, InputError, LimitExceeded, UnreachableResource, UnsafeReference
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.sources import fetched_files, object_stores
from auditcore.sources.fetching import open_resource, pin_resource, read_resource
from auditcore.sources.resolving import resolve_model
from s3_server import s3
from scripted_server import Asked, Reply, scripted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

OBJECTS = {"public/photo.png": digits.png(1), "public/model/MLmodel.txt": b"flavors", "private/secret": b"secret"}

RULES = AccessRules(storage_prefixes=("s3://models/public/",))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    weights = digits.write_weights(tmp_path_factory.mktemp("weights")).read_bytes()
    objects = {"public/digits.safetensors": weights, "public/photo.png": digits.png(0), "private/secret": b"secret"}
    with s3({"models": objects}):
        yield


def put(key: str, body: bytes) -> None:
    boto3.client("s3").put_object(Bucket="models", Key=key, Body=body)


@pytest.mark.usefixtures("bucket")
def test_weights_are_pinned_and_loaded(digit_classifier: Classifier) -> None:
    access = RULES.model_copy(update={"factories": ("digits:build",)})
    model = FactoryModel(
        target="digits:build",
        weights=Weights(uri="s3://models/public/digits.safetensors"),
        preprocessing=digits.PREPROCESSING,
    )
    pinned = resolve_model(model, access).reference
    assert isinstance(pinned, FactoryModel)
    assert pinned.weights.sha256 is not None
    assert load_classifier(pinned, access=access).digest == digit_classifier.digest


@pytest.mark.usefixtures("bucket")
def test_images_are_read() -> None:
    data = read_resource("s3://models/public/photo.png", access=RULES, field="x", limit_bytes=10_000)
    assert data == digits.png(0)


@pytest.mark.usefixtures("bucket")
def test_an_object_that_was_replaced_is_seen_at_once_and_is_not_the_pinned_one() -> None:
    put("public/changing", b"one")
    options = {"access": RULES, "field": "x", "limit_bytes": 100}
    pin = pin_resource("s3://models/public/changing", **options)  # type: ignore[arg-type]
    assert pin == sha256(b"one")
    put("public/changing", b"two")
    assert pin_resource("s3://models/public/changing", **options) == sha256(b"two")  # type: ignore[arg-type]
    with pytest.raises(DigestMismatch):
        read_resource("s3://models/public/changing", sha256=pin, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("bucket")
def test_a_known_object_is_not_read_again_and_pinning_stores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(source: Any, write: Any, **options: Any) -> str:
        read.append(1)
        return copied(source, write, **options)

    copied = object_stores._copied
    monkeypatch.setattr(object_stores, "_copied", counted)
    put("public/known", b"as it was")
    options: dict[str, Any] = {"access": RULES, "field": "x", "limit_bytes": 100}
    files = set(fetched_files.private_folder().iterdir())
    assert pin_resource("s3://models/public/known", **options) == sha256(b"as it was")
    assert pin_resource("s3://models/public/known", **options) == sha256(b"as it was")
    assert len(read) == 1
    put("public/known", b"as it is!")
    assert pin_resource("s3://models/public/known", **options) == sha256(b"as it is!")
    assert len(read) == 2
    assert set(fetched_files.private_folder().iterdir()) == files


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("uri", "kind", "match"),
    [
        ("s3://models/public/nothing", UnreachableResource, "there is no object"),
        ("s3://models/public/", UnreachableResource, "folder|no object"),
        ("s3://models/private/secret", UnsafeReference, "AUDIT_STORAGE_PREFIXES"),
        ("s3://models/public/../private/secret", UnsafeReference, "AUDIT_STORAGE_PREFIXES"),
        ("s3://models/public/%2e%2e/private/secret", UnsafeReference, "AUDIT_STORAGE_PREFIXES"),
        ("s3://other/public/digits", UnsafeReference, "AUDIT_STORAGE_PREFIXES"),
        ("s3://models/public/photo.png", LimitExceeded, "bytes"),
    ],
)
def test_an_unreadable_object_is_reported_and_nothing_is_stored(
    uri: str, kind: type[InputError], match: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=match) as caught:
        open_resource(uri, access=RULES, field="model.weights.uri", limit_bytes=100)
    assert caught.value.field == "model.weights.uri"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same object in a bucket of Google Cloud Storage."""
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="models")
    server.start()
    host, port = server._api._httpd.server_address[:2]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
    store = f"http://{host}:{port}/upload/storage/v1/b/models/o"
    for name, body in OBJECTS.items():
        assert httpx.post(store, params={"uploadType": "media", "name": name}, content=body).is_success
    yield "gs"
    server.stop()


def listing(prefix: str, delimiter: str) -> str:
    """Azure's answer to a question for the blobs below a prefix."""
    entries: dict[str, str] = {}
    for name, body in OBJECTS.items():
        if name.startswith(prefix):
            head, cut, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else ("", "", "")
            if cut:
                entries[head] = f"<BlobPrefix><Name>{prefix}{head}{cut}</Name></BlobPrefix>"
            else:
                properties = f"<Content-Length>{len(body)}</Content-Length><BlobType>BlockBlob</BlobType>"
                entries[name] = f"<Blob><Name>{name}</Name><Properties>{properties}</Properties></Blob>"
    blobs = f"<Blobs>{''.join(entries.values())}</Blobs>"
    return f'<?xml version="1.0"?><EnumerationResults ContainerName="models">{blobs}<NextMarker/></EnumerationResults>'


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same for a container of Azure; only the addresses are checked here."""
    always = {"Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT", "x-ms-version": "2024-01-01", "x-ms-request-id": "1"}

    def answer(asked: Asked) -> Reply:
        path, _, query = asked.path.partition("?")
        data = OBJECTS.get(path.removeprefix("/account/models/"))
        if data is None and "comp=list" in query:
            listed = listing(*(parse_qs(query).get(name, [""])[0] for name in ("prefix", "delimiter")))
            return Reply(200, listed.encode(), {**always, "Content-Type": "application/xml"})
        if data is None:
            return Reply(404, b"", {**always, "x-ms-error-code": "BlobNotFound"})
        headers = {**always, "ETag": f'"{sha256(data)}"', "x-ms-blob-type": "BlockBlob"}
        if asked.method == "HEAD":
            return Reply(200, b"", {**headers, "Content-Length": str(len(data))})
        first, last = (int(end) for end in asked.headers["x-ms-range"].removeprefix("bytes=").split("-"))
        return Reply(206, data[first : last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"})

    with scripted(answer) as server:
        key = base64.b64encode(bytes(32)).decode()
        account = f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={key};"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{account}BlobEndpoint={server.url}/account;")
        yield "az"


@pytest.mark.parametrize("store", ["google", "azure"])
def test_other_stores_are_read_the_same_way(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    scheme = request.getfixturevalue(store)
    options: dict[str, Any] = {
        "access": AccessRules(storage_prefixes=(f"{scheme}://models/public/",)),
        "field": "x",
        "limit_bytes": 2000,
    }
    photo = f"{scheme}://models/public/photo.png"
    assert read_resource(photo, **options) == OBJECTS["public/photo.png"]
    pin = pin_resource(photo, **options)
    assert pin == sha256(OBJECTS["public/photo.png"])
    assert open_resource(photo, sha256=pin, **options).read_bytes() == OBJECTS["public/photo.png"]
    with pytest.raises(UnreachableResource, match="there is no object"):
        read_resource(f"{scheme}://models/public/nothing", **options)
    with pytest.raises(UnsafeReference, match="AUDIT_STORAGE_PREFIXES"):
        read_resource(f"{scheme}://models/private/secret", **options)
    with pytest.raises(LimitExceeded):
        read_resource(photo, **{**options, "limit_bytes": 10})
    object_stores.copy_objects(f"{scheme}://models/public", tmp_path, limit_bytes=2000, most=5, field="x")
    copied = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert copied == {
        "photo.png": OBJECTS["public/photo.png"],
        "model/MLmodel.txt": OBJECTS["public/model/MLmodel.txt"],
    }


@pytest.mark.usefixtures("bucket")
def test_a_folder_is_copied_if_it_is_not_too_large(tmp_path: Path) -> None:
    put("public/folder/MLmodel", b"flavors")
    put("public/folder/data/model.pth", b"weights")
    options: dict[str, Any] = {"limit_bytes": 100, "most": 2, "field": "x"}
    object_stores.copy_objects("s3://models/public/folder", tmp_path / "here", **options)
    assert (tmp_path / "here" / "data" / "model.pth").read_bytes() == b"weights"
    for small in ({"limit_bytes": 10}, {"most": 1}):
        with pytest.raises(LimitExceeded):
            object_stores.copy_objects("s3://models/public/folder", tmp_path / "not", **{**options, **small})
    with pytest.raises(UnreachableResource, match="no object below"):
        object_stores.copy_objects("s3://models/public/none", tmp_path / "not", **options)
    assert not (tmp_path / "not").exists()


def test_a_file_is_hashed_once_and_a_missing_one_is_left_to_workers(tmp_path: Path) -> None:
    access = AccessRules(file_roots=(tmp_path,))
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert pin_resource(file.as_uri(), access=access, field="x", limit_bytes=10) == sha256(b"one")
    file.write_bytes(b"other")
    assert pin_resource(file.as_uri(), access=access, field="x", limit_bytes=10) == sha256(b"other")
    missing = (tmp_path / "missing").as_uri()
    assert pin_resource(missing, access=access, field="x", limit_bytes=10) is None
    assert pin_resource("random:3", access=access, field="x", limit_bytes=10) is None
