"""Weights and images from a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

import digits
from auditcore import fetching, object_stores
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.errors import DigestMismatch, InputError, LimitExceeded, UnreachableResource, UnsafeReference
from auditcore.fetching import open_resource, pin_resource, read_resource
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.table import load_classifier
from auditcore.resolving import resolve_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

RULES = AccessRules(storage_prefixes=("s3://models/public/",))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    weights = digits.write_weights(tmp_path_factory.mktemp("weights"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        client.put_object(Bucket="models", Key="public/digits.safetensors", Body=weights.read_bytes())
        client.put_object(Bucket="models", Key="public/photo.png", Body=digits.png(0))
        client.put_object(Bucket="models", Key="private/secret", Body=b"secret")
        yield
    server.stop()


def put(key: str, body: bytes) -> None:
    boto3.client("s3").put_object(Bucket="models", Key=key, Body=body)


@pytest.mark.usefixtures("s3")
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


@pytest.mark.usefixtures("s3")
def test_images_are_read() -> None:
    data = read_resource("s3://models/public/photo.png", access=RULES, field="x", limit_bytes=10_000)
    assert data == digits.png(0)


@pytest.mark.usefixtures("s3")
def test_an_object_that_was_replaced_is_seen_at_once_and_is_not_the_pinned_one() -> None:
    put("public/changing", b"one")
    options = {"access": RULES, "field": "x", "limit_bytes": 100}
    pin = pin_resource("s3://models/public/changing", **options)  # type: ignore[arg-type]
    assert pin == sha256(b"one")
    put("public/changing", b"two")
    assert pin_resource("s3://models/public/changing", **options) == sha256(b"two")  # type: ignore[arg-type]
    with pytest.raises(DigestMismatch):
        read_resource("s3://models/public/changing", sha256=pin, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("s3")
def test_an_object_that_is_known_is_not_read_again_and_pinning_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(source: Any, write: Any, **options: Any) -> str:
        read.append(1)
        return copied(source, write, **options)

    copied = object_stores._copied
    monkeypatch.setattr(object_stores, "_copied", counted)
    put("public/known", b"as it was")
    options: dict[str, Any] = {"access": RULES, "field": "x", "limit_bytes": 100}
    files = set(fetching._private_folder().iterdir())
    assert pin_resource("s3://models/public/known", **options) == sha256(b"as it was")
    assert pin_resource("s3://models/public/known", **options) == sha256(b"as it was")
    assert len(read) == 1
    put("public/known", b"as it is!")
    assert pin_resource("s3://models/public/known", **options) == sha256(b"as it is!")
    assert len(read) == 2
    assert set(fetching._private_folder().iterdir()) == files


@pytest.mark.usefixtures("s3")
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
def test_what_cannot_be_read_is_said_and_nothing_is_kept(
    uri: str, kind: type[InputError], match: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=match) as caught:
        open_resource(uri, access=RULES, field="model.weights.uri", limit_bytes=100)
    assert caught.value.field == "model.weights.uri"
    assert not list(tmp_path.iterdir())


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
