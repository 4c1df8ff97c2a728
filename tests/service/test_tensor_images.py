"""Tensors ready for the model over HTTP and on the command line: uploaded, fetched, audited, refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import load, save, save_file
from torch import Tensor

import digits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.report import AuditReport
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.shards import list_shards
from command_line import run
from small_model import SMALL_MODEL
from worker_in_process import worker_of

PATH = "/v1/image-batches"
PLAN = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "complexity"}, {"kind": "localization"}]}
COUNT = 3


@pytest.fixture
def client(make_settings: Callable[..., Settings], tmp_path: Path) -> Iterator[TestClient]:
    settings = make_settings(
        factories=("digits:build",), file_roots=(tmp_path,), image_bytes=20_000, batch_images=5, batch_bytes=100_000
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def tensor() -> Tensor:
    mean, std = (torch.tensor(of)[:, None, None] for of in (digits.PREPROCESSING.mean, digits.PREPROCESSING.std))
    return (digits.digit_pixels()[0][:COUNT] - mean) / std


def uploaded(client: TestClient, data: bytes, name: str = "digits.safetensors", **fields: str) -> Any:
    return client.post(PATH, files=[("images", (name, data))], data=fields)


def refused(answer: Any, status: int, code: str, pointer: str, *words: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert problem["errors"][0]["pointer"] == pointer
    for word in words:
        assert word in problem["detail"]


def audited(client: TestClient, folder: Path, images: dict[str, Any]) -> AuditReport:
    model = digits.reference(digits.write_weights(folder)).model_dump(mode="json")
    answer = client.post("/v1/audits", json={"model": model, "images": images, "plan": PLAN})
    assert answer.status_code == 202, answer.text
    audit_id = answer.json()["id"]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    worker = worker_of(service)
    while True:
        with service.database.reading("default") as connection:
            queued = [shard.key for shard in list_shards(connection, audit_id) if shard.state == "queued"]
        if not queued:
            break
        worker.run(queued[0])
    return AuditReport.model_validate_json(client.get(f"/v1/audits/{audit_id}/report").content)


def test_an_uploaded_file_is_audited_as_its_library_sees_it(client: TestClient, tmp_path: Path) -> None:
    answer = uploaded(
        client,
        save({"pixel_values": tensor()}),
        labels="[0, null, 2]",
        boxes='{"digits-1.safetensors": [[4, 4, 20, 28]]}',
    )
    assert answer.status_code == 201, answer.text
    batch = answer.json()
    assert [entry["name"] for entry in batch["entries"]] == [f"digits-{number}.safetensors" for number in range(COUNT)]
    assert [entry["label"] for entry in batch["entries"]] == [0, None, 2]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    for entry, expected in zip(batch["entries"], tensor(), strict=True):
        assert torch.equal(load(service.blobs.get(entry["digest"]))["image"], expected)
    report = audited(client, tmp_path, {"kind": "batch", "digest": batch["digest"]})
    with torch.inference_mode():
        expected = digits.trained()(tensor()).softmax(dim=1)
    assert [item.target for item in report.images.items] == expected.argmax(dim=1).tolist()
    assert [item.probability for item in report.images.items] == pytest.approx(expected.amax(dim=1).tolist(), abs=1e-5)
    # the box of one image of three
    assert {row.n for row in report.results if row.check == "localization"} == {1}


def test_a_file_behind_a_uri_becomes_the_batch_that_uploading_it_makes(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "photos" / "digits.safetensors"
    path.parent.mkdir()
    save_file({"pixel_values": tensor()}, path)
    batch = uploaded(client, path.read_bytes(), labels="[0, 1, 2]").json()
    images = {"kind": "tensors", "uri": path.as_uri(), "sha256": sha256(path.read_bytes()), "labels": [0, 1, 2]}
    body = {"model": {"kind": "demo"}, "images": images, "plan": PLAN}
    priced = client.post("/v1/estimates", json=body)
    assert priced.json()["estimate"]["images"] == COUNT, priced.text
    audit_id = client.post("/v1/audits", json=body).json()["id"]
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    stored = json.loads(service.audits.get(ANONYMOUS, audit_id).request)
    assert stored["images"] == {"kind": "batch", "digest": batch["digest"]}


def test_an_archive_may_hold_tensors_among_photos(client: TestClient) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", digits.png(0))
        archive.writestr("cats/x", save({"x": tensor()[:2]}))
        archive.writestr("b.png", digits.png(1))
    answer = client.post(PATH, files=[("archive", ("a.zip", buffer.getvalue(), "application/zip"))])
    assert [entry["name"] for entry in answer.json()["entries"]] == [
        "a.png",
        "cats/x-0.safetensors",
        "cats/x-1.safetensors",
        "b.png",
    ]


NAMES = '["a", "b\\u001b[2J", "c"]'


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (save({"x": torch.zeros(3, 8, 8)})[:-1], "undecodable_image", "it ends after"),
        (save({"x": torch.zeros(2, 2)}), "undecodable_image", "images are (N,C,H,W)"),
        (save({"x": torch.zeros(3, 8, 8).int()}), "undecodable_image", "values of type I32"),
        (save({"x": torch.zeros(3, 8, 8), "y": torch.zeros(1)}), "undecodable_image", "name the one with the images"),
        (save({"x": torch.zeros(3, 8, 8, 8)}, {"names": NAMES}), "undecodable_image", "control character U+001B"),
        (save({"x": torch.zeros(3, 72, 72)}), "limit_exceeded", "62208 bytes, more than the 20000 allowed"),
        (save({"x": torch.zeros(6, 1, 2, 2)}), "limit_exceeded", "has 6 images, more than the 5 allowed"),
        (b"\x08\0\0\0\0\0\0\0nothing.", "undecodable_image", "its header is damaged"),
    ],
    ids=["truncated", "rank", "type", "several", "name", "bytes", "images", "damaged"],
)
def test_an_upload_that_cannot_be_used_says_why(client: TestClient, data: bytes, code: str, said: str) -> None:
    refused(uploaded(client, data), 413 if code == "limit_exceeded" else 422, code, "#/images/0", said)


@pytest.mark.parametrize(
    ("images", "code", "pointer", "said"),
    [
        ({"mean": [0.5]}, "invalid_request", "#/images", "`mean` is given without `std`"),
        ({"labels": [1]}, "invalid_request", "#/images/labels", "labels has 1 entries for 3 images"),
        ({"tensor": "y"}, "undecodable_image", "#/images/uri", "has no tensor 'y'; it has 'x'"),
        ({"uri": "file:///etc/passwd"}, "unsafe_reference", "#/images/uri", "outside the allowed folders"),
        ({"uri": "none.safetensors"}, "unreachable_resource", "#/images/uri", "no file can be read"),
        ({"sha256": "sha256:" + "0" * 64}, "digest_mismatch", "#/images/sha256", "expected sha256:000"),
    ],
    ids=["mean", "labels", "tensor", "place", "missing", "digest"],
)
def test_a_request_that_cannot_be_used_names_its_field(
    client: TestClient, tmp_path: Path, images: dict[str, Any], code: str, pointer: str, said: str
) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.zeros(3, 1, 2, 2)}, path)
    uri = images.pop("uri", path.name)
    given = {"kind": "tensors", "uri": uri if ":" in uri else (tmp_path / uri).as_uri(), **images}
    body = {"model": {"kind": "demo"}, "images": given, "plan": PLAN}
    for route in ("/v1/audits", "/v1/estimates"):
        refused(client.post(route, json=body), 422, code, pointer, said)


def test_the_command_line_reads_them_from_the_request_or_from_an_option(tmp_path: Path) -> None:
    save_file({"pixel_values": tensor()}, tmp_path / "batch.safetensors", {"names": '["a.png", "b.png", "c.png"]'})
    request = tmp_path / "request.json"
    body = {"model": SMALL_MODEL | {"preprocessing": digits.PREPROCESSING.model_dump(mode="json")}, "plan": PLAN}
    file = tmp_path / "batch.safetensors"
    request.write_text(json.dumps(body | {"images": {"kind": "tensors", "uri": file.name}}))
    for options in ((), ("--images", file)):
        priced = run("estimate", request, *options)
        assert f"{COUNT} images" in priced.output, priced.output
    done = run("audit", request, "--images", file, "--out", tmp_path / "report.json", "--device", "cpu")
    assert done.exit_code == 0, done.output
    report = AuditReport.model_validate_json((tmp_path / "report.json").read_bytes())
    assert [item.name for item in report.images.items] == ["a.png", "b.png", "c.png"]
    file.write_bytes(b"damaged")
    done = run("audit", request, "--images", file)
    assert done.exit_code == 2
    assert "--images: the file cannot be read as safetensors" in done.output
