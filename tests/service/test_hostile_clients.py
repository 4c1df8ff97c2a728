"""What a hostile client sends. Each of these once broke the service, or tied up more of it than one request may."""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.routes.image_batches import ANNOTATION_BYTES
from auditcore_service.settings import Settings
from queues import ONLY_REDIS

both_databases = pytest.mark.usefixtures("database_url")
"""They differ in what they refuse."""

BATCHES = "/v1/image-batches"
REQUEST: dict[str, Any] = {
    "model": {"kind": "demo"},
    "images": {"kind": "inline", "images": [{"data": base64.b64encode(b"x").decode()}]},
    "plan": {"preset": "quick"},
}


def refused(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def submit(client: TestClient) -> str:
    audit_id: str = client.post("/v1/audits", json=REQUEST).json()["id"]
    return audit_id


def part(data: bytes = b"x") -> tuple[str, tuple[str, bytes, str]]:
    return ("images", ("a.png", data, "image/png"))


@both_databases
@pytest.mark.parametrize("suffix", ["%00", "%ff", "x" * 5000])
def test_an_invalid_id_is_not_found(client: TestClient, suffix: str) -> None:
    for audit_id in (suffix, submit(client) + suffix):
        refused(client.get(f"/v1/audits/{audit_id}"), 404, "not_found")
        refused(client.get(f"/v1/audits/{audit_id}/report"), 404, "not_found")
        refused(client.get(f"/v1/audits/{audit_id}/events"), 404, "not_found")
        refused(client.post(f"/v1/audits/{audit_id}/cancel"), 404, "not_found")
    refused(client.get(f"{BATCHES}/sha256:{suffix}"), 404, "not_found")


@both_databases
@pytest.mark.parametrize("audit_id", ["\0", "\ud800"])
def test_a_cursor_with_text_that_no_database_takes(client: TestClient, audit_id: str) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps([1.0, audit_id]).encode()).decode()
    refused(client.get("/v1/audits", params={"cursor": cursor}), 422, "invalid_cursor")


@both_databases
@pytest.mark.parametrize("event_id", ["9" * 19, "9" * 30, "9" * 5000, "-1", "٣".encode(), "1e3"])
def test_a_foreign_last_event_id_means_from_the_beginning(client: TestClient, event_id: str | bytes) -> None:
    audit_id = submit(client)
    client.post(f"/v1/audits/{audit_id}/cancel")
    answer = client.get(f"/v1/audits/{audit_id}/events", headers={"Last-Event-ID": event_id})
    assert answer.status_code == 200
    assert answer.text.count("event: state") == 2


@both_databases
@pytest.mark.parametrize("labels", [f"[{2**53}]", f"[{2**200}]", f'{{"a.png": {2**60}}}'])
def test_a_label_without_a_canonical_form(client: TestClient, labels: str) -> None:
    refused(client.post(BATCHES, files=[part()], data={"labels": labels}), 422, "invalid_upload")


def test_labels_in_a_file_are_limited_like_labels_in_a_field(client: TestClient) -> None:
    labels = ("labels", ("labels.json", b"[" + b"1," * (ANNOTATION_BYTES // 2) + b"1]", "application/json"))
    refused(client.post(BATCHES, files=[part(), labels]), 413, "limit_exceeded")
    assert client.post(BATCHES, files=[part(), ("labels", ("l.json", b"[3]"))]).json()["entries"][0]["label"] == 3


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("Multipart/Form-Data; boundary=x", 201), ("multipart/form-dataX; boundary=x", 415)],
)
def test_media_types_have_no_case_and_no_prefixes(client: TestClient, content_type: str, status: int) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\nx\r\n--x--\r\n'
    assert client.post(BATCHES, content=form, headers={"Content-Type": content_type}).status_code == status


@pytest.mark.parametrize("seed", range(3))
def test_no_damaged_archive_breaks_the_service(client: TestClient, seed: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"hello" * 50)
        archive.writestr("b/é.png", b"world" * 20)
    whole = buffer.getvalue()
    directory = whole.find(b"PK\x01\x02")
    generator = random.Random(seed)  # noqa: S311 - damage, not secrets
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(directory, len(whole))] = generator.choice((0, 1, 127, 128, 255))
        answer = client.post(BATCHES, files=[("archive", ("x.zip", bytes(damaged), "application/zip"))])
        assert answer.status_code in {201, 413, 422}, bytes(damaged)


def test_an_entry_without_a_name(client: TestClient) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", b"x")
    nameless = buffer.getvalue().replace(b"a.png", b"\0.png")
    refused(client.post(BATCHES, files=[("archive", ("x.zip", nameless, "application/zip"))]), 422, "invalid_upload")


def test_a_million_mistakes_get_a_short_answer(client: TestClient) -> None:
    answer = client.post("/v1/audits", json={**REQUEST, **{f"k{number}": 1 for number in range(5000)}})
    refused(answer, 422, "invalid_request")
    assert len(answer.json()["errors"]) == 50
    assert "5000 mistakes in all" in answer.json()["detail"]


def test_invented_methods_make_no_new_metrics(client: TestClient) -> None:
    for number in range(5):
        refused(client.request(f"INVENTED{number}", "/livez"), 405, "method_not_allowed")
    metrics = client.get("/metrics").text
    assert "INVENTED" not in metrics
    assert 'method="other"' in metrics


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """A queue that takes connections and never says a word, like a stopped Redis."""
    folder = Path("/tmp")  # noqa: S108 - the path of a unix socket must be short
    path = folder / f"silent-{time.monotonic_ns()}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        yield f"unix://{path}"
    path.unlink()


@pytest.mark.parametrize("queue_kind", ONLY_REDIS)
def test_a_blocked_queue_does_not_block_the_gateway(make_settings: Callable[..., Settings], silent_redis: str) -> None:
    with TestClient(create_app(make_settings(redis_url=SecretStr(silent_redis)))) as client:
        started = time.monotonic()
        assert client.post("/v1/audits", json=REQUEST).status_code == 202
        found_out = time.monotonic()
        assert found_out - started < 10
        for _ in range(10):
            assert client.post("/v1/audits", json=REQUEST).status_code == 202
        assert time.monotonic() - found_out < 2


def test_bad_settings_are_not_printed_with_their_secrets() -> None:
    with pytest.raises(ValidationError, match="must start with https") as caught:
        Settings.model_validate({"database_url": "postgresql://user:swordfish@host/x", "https_prefixes": ["x"]})
    # pydantic shows the beginning of a long value
    assert "sword" not in str(caught.value)
