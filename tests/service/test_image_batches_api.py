from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from auditcore.contracts.access import AccessRules
from auditcore.contracts.images import ImageBatchReference, InlineImages
from auditcore.contracts.request import AuditRequest
from auditcore.orchestration.reading_images import read_images, with_stored_images
from auditcore_service.gateway.app import create_app
from auditcore_service.gateway.routes.image_batches import ANNOTATION_BYTES
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from dicom_files import BYTES_OF_THE_PATIENT, dicom_file

PATH = "/v1/image-batches"


def part(name: str, data: bytes) -> tuple[str, tuple[str, bytes, str]]:
    return ("images", (name, data, "image/png"))


def packed(
    entries: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, data, compress_type=method)
    return buffer.getvalue()


def upload_zip(client: TestClient, data: bytes) -> Any:
    return client.post(PATH, files=[("archive", ("photos.zip", data, "application/zip"))])


def refused(answer: Any, status: int, code: str, *words: str) -> None:
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in problem["detail"]


def test_upload_keeps_order_and_identical_uploads_share_a_digest(client: TestClient) -> None:
    files = [part("b.png", b"two"), part("a.png", b"one")]
    first, second = client.post(PATH, files=files), client.post(PATH, files=files)
    assert first.status_code == 201
    assert first.json() == second.json()
    assert [entry["name"] for entry in first.json()["entries"]] == ["b.png", "a.png"]
    assert first.json()["size_bytes"] == 6
    assert client.get(first.headers["location"]).json() == first.json()
    assert client.post(PATH, files=files[::-1]).json()["digest"] != first.json()["digest"]


@pytest.mark.parametrize("way", ["file", "archive", "inline"])
def test_of_a_dicom_file_only_the_pixels_are_stored(client: TestClient, tmp_path: Path, way: str) -> None:
    data = dicom_file(np.arange(40 * 30, dtype=np.uint16).reshape(40, 30))
    match way:
        case "file":
            answer = client.post(PATH, files=[part("scan.dcm", data)])
        case "archive":
            answer = upload_zip(client, packed({"scan.dcm": data}))
        case _:
            images = {"kind": "inline", "images": [{"data": base64.b64encode(data).decode()}]}
            request = {"model": {"kind": "demo"}, "images": images, "plan": {"preset": "quick"}}
            answer = client.post("/v1/audits", json=request)
    assert answer.is_success, answer.text
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"DICM" in content for content in kept)
    for text in BYTES_OF_THE_PATIENT:
        assert text in data
        assert not any(text in content for content in kept), text
        assert text not in answer.content


def test_an_audit_without_a_service_knows_a_dicom_file_by_the_same_digest(client: TestClient, tmp_path: Path) -> None:
    data = dicom_file(np.arange(40 * 30, dtype=np.uint16).reshape(40, 30))
    stored = client.post(PATH, files=[part("scan.dcm", data)]).json()["entries"][0]["digest"]
    (tmp_path / "scan.dcm").write_bytes(data)
    inline = {"kind": "inline", "images": [{"data": base64.b64encode(data).decode()}]}
    uris = {"kind": "uris", "uris": [{"uri": (tmp_path / "scan.dcm").as_uri()}]}
    for images in (inline, uris):
        request = AuditRequest.model_validate(
            {"model": {"kind": "demo"}, "images": images, "plan": {"preset": "quick"}}
        )
        read = read_images(request, AccessRules(file_roots=(tmp_path,)))
        assert [image.digest for image in read] == [stored]
        if isinstance(request.images, InlineImages):
            batch, _ = client.app.state.service.batches.store_inline(ANONYMOUS, request.images.images)  # type: ignore[attr-defined]
            assert with_stored_images(request, read).images == ImageBatchReference(digest=batch)


def test_a_dicom_file_that_lost_its_beginning_is_stored_without_its_patient(client: TestClient, tmp_path: Path) -> None:
    data = dicom_file(np.arange(40 * 30, dtype=np.uint16).reshape(40, 30))
    answer = upload_zip(client, packed({"scan": data[132:], "2.dcm": data[128:]}))
    assert [entry["name"] for entry in answer.json()["entries"]] == ["scan", "2.dcm"]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for text in BYTES_OF_THE_PATIENT:
        assert not any(text in content for content in kept), text


def test_a_damaged_dicom_file_is_refused_without_its_text(client: TestClient) -> None:
    data = b"\0" * 128 + b"DICM" + b"\xff" * 40 + BYTES_OF_THE_PATIENT[0]
    answer = client.post(PATH, files=[part("scan.dcm", data)])
    refused(answer, 422, "undecodable_image", "damaged")
    assert BYTES_OF_THE_PATIENT[0] not in answer.content


def test_an_archive_follows_single_images(client: TestClient) -> None:
    archive = packed({"photos/": b"", "photos/c.png": b"three", "__MACOSX/photos/._c.png": b"shadow"})
    answer = client.post(PATH, files=[part("a.png", b"one"), ("archive", ("x.zip", archive, "application/zip"))])
    assert [entry["name"] for entry in answer.json()["entries"]] == ["a.png", "photos/c.png"]


@pytest.mark.parametrize("labels", ["[3, null]", '{"a.png": 3}'])
def test_labels_by_position_or_name(client: TestClient, labels: str) -> None:
    files = [part("a.png", b"one"), part("b.png", b"two")]
    answer = client.post(PATH, files=files, data={"labels": labels})
    assert [entry["label"] for entry in answer.json()["entries"]] == [3, None]


def test_several_labels_and_boxes_are_stored_and_listed(client: TestClient) -> None:
    files = [part("a.png", b"one"), part("b.png", b"two")]
    boxes = '{"b.png": [[1, 2.5, 30, 40], {"x0": 0, "y0": 0, "x1": 9, "y1": 9, "label": 4}]}'
    answer = client.post(PATH, files=files, data={"labels": "[[3, 17], 2]", "boxes": boxes})
    assert answer.status_code == 201, answer.text
    first, second = client.get(answer.headers["location"]).json()["entries"]
    assert (first["label"], second["label"]) == ([3, 17], 2)
    assert "boxes" not in first
    assert second["boxes"] == [
        {"x0": 1, "y0": 2.5, "x1": 30, "y1": 40, "label": None},
        {"x0": 0, "y0": 0, "x1": 9, "y1": 9, "label": 4},
    ]
    other = client.post(PATH, files=files, data={"labels": "[[3, 17], 2]"})
    assert other.json()["digest"] != answer.json()["digest"]


def test_labels_and_boxes_may_come_as_files(client: TestClient) -> None:
    labels = ("labels", ("labels.json", b"[3]", "application/json"))
    boxes = ("boxes", ("boxes.json", b"[[[1, 2, 3, 4]]]", "application/json"))
    (entry,) = client.post(PATH, files=[part("a.png", b"one"), labels, boxes]).json()["entries"]
    assert entry["label"] == 3
    assert entry["boxes"] == [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": None}]


def test_boxes_of_an_archive_go_by_the_names_in_it(client: TestClient) -> None:
    archive = ("archive", ("x.zip", packed({"photos/c.png": b"three"}), "application/zip"))
    (entry,) = client.post(PATH, files=[archive], data={"boxes": '{"photos/c.png": [[1, 2, 3, 4]]}'}).json()["entries"]
    assert len(entry["boxes"]) == 1


@pytest.mark.parametrize("name", ["labels", "boxes"])
def test_annotations_twice_or_too_long(client: TestClient, name: str) -> None:
    twice = [part("a.png", b"one"), *((name, (None, "[null]")) for _ in range(2))]
    answer = client.post(PATH, files=twice)
    refused(answer, 422, "invalid_upload", "more than one part", name)
    assert answer.json()["errors"][0]["pointer"] == f"#/{name}"
    long = (name, ("long.json", b" " * (ANNOTATION_BYTES + 1), "application/json"))
    refused(client.post(PATH, files=[part("a.png", b"one"), long]), 413, "limit_exceeded", name)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ("[null]", "one per image"),
        ("{", "boxes is not JSON"),
        ('{"z.png": null}', "no image"),
        ("[null, [[5, 2, 3, 4]]]", "box 0 of image 1 ('b.png')"),
    ],
)
def test_boxes_that_do_not_fit(client: TestClient, boxes: str, words: str) -> None:
    answer = client.post(PATH, files=[part("a.png", b"one"), part("b.png", b"two")], data={"boxes": boxes})
    refused(answer, 422, "invalid_upload", words)
    assert answer.json()["errors"][0]["pointer"] == "#/boxes"


@pytest.mark.parametrize(
    ("labels", "fix"),
    [
        ("[1]", "one per image"),
        ("{", "not JSON"),
        ("7", "list"),
        ('{"z.png": 1}', "no image"),
        ("[-1, 0]", "from 0"),
        ("[true, 0]", "from 0"),
        ('["cat", 0]', "from 0"),
        ("[[], 0]", "1 to 100"),
        ("[[1, 1], 0]", "twice"),
        ("[[1, null], 0]", "from 0"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_labels_that_do_not_fit(client: TestClient, labels: str, fix: str) -> None:
    files = [part("a.png", b"one"), part("b.png", b"two")]
    refused(client.post(PATH, files=files, data={"labels": labels}), 422, "invalid_upload", fix)


def test_a_name_shared_by_two_images_cannot_be_labeled_by_name(client: TestClient) -> None:
    files = [part("a.png", b"one"), part("a.png", b"two")]
    refused(client.post(PATH, files=files, data={"labels": '{"a.png": 1}'}), 422, "invalid_upload", "2 images")


def test_no_image_at_all(client: TestClient) -> None:
    refused(client.post(PATH, files=[("labels", (None, "[]"))]), 422, "invalid_upload", "at least one")
    refused(upload_zip(client, packed({"folder/": b""})), 422, "invalid_upload", "no image")


def test_an_empty_file(client: TestClient) -> None:
    refused(client.post(PATH, files=[part("a.png", b"")]), 422, "invalid_upload", "empty")


def test_not_a_form(client: TestClient) -> None:
    refused(client.post(PATH, json={"images": []}), 415, "unsupported_media_type", "multipart")


def test_an_unknown_part(client: TestClient) -> None:
    refused(client.post(PATH, files=[("image", ("a.png", b"x", "image/png"))]), 422, "invalid_upload", "`images`")


def test_two_archives(client: TestClient) -> None:
    archive = ("archive", ("x.zip", packed({"a.png": b"1"}), "application/zip"))
    refused(client.post(PATH, files=[archive, archive]), 422, "invalid_upload", "one")


def test_an_invalid_form_is_a_problem(client: TestClient) -> None:
    answer = client.post(PATH, content=b"garbage", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


def link() -> list[tuple[zipfile.ZipInfo | str, bytes]]:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = 0o120777 << 16
    return [(info, b"/etc/passwd")]


@pytest.mark.parametrize(
    ("entries", "fix"),
    [
        ({"../evil.png": b"x"}, "points outside"),
        ({"/etc/evil.png": b"x"}, "points outside"),
        ({"a\\..\\evil.png": b"x"}, "points outside"),
        ({"C:evil.png": b"x"}, "points outside"),
        ({"inner.zip": b"x"}, "archive in an archive"),
        ({"n" * 300 + ".png": b"x"}, "longer than 255"),
        (link(), "is a link"),
    ],
)
def test_unsafe_archive_entries(client: TestClient, entries: Any, fix: str) -> None:
    refused(upload_zip(client, packed(entries)), 422, "invalid_upload", fix)


def test_unusual_compression_and_encryption(client: TestClient) -> None:
    refused(upload_zip(client, packed({"a.png": b"x"}, zipfile.ZIP_LZMA)), 422, "invalid_upload", "stored and deflated")
    data = bytearray(packed({"a.png": b"x"}))
    at = data.find(b"PK\x01\x02")
    struct.pack_into("<H", data, at + 8, 1)
    refused(upload_zip(client, bytes(data)), 422, "invalid_upload", "encrypted")


def test_damaged_archives(client: TestClient) -> None:
    refused(upload_zip(client, b"not a zip"), 422, "invalid_upload", "not a zip")
    data = bytearray(packed({"a.png": b"x" * 1000}, zipfile.ZIP_STORED))
    data[60] ^= 0xFF
    refused(upload_zip(client, bytes(data)), 422, "invalid_upload", "cannot be read")


@pytest.fixture
def small(make_settings: Callable[..., Settings]) -> Any:
    settings = make_settings(image_bytes=1000, batch_bytes=2500, batch_images=3)
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def test_limits_on_bytes_and_count(small: TestClient) -> None:
    refused(small.post(PATH, files=[part("a.png", b"x" * 1001)]), 413, "limit_exceeded", "1000")
    three = [part(f"{n}.png", b"x" * 900) for n in range(3)]
    refused(small.post(PATH, files=three), 413, "limit_exceeded", "2500 allowed")
    four = [part(f"{n}.png", b"x") for n in range(4)]
    refused(small.post(PATH, files=four), 413, "limit_exceeded", "3 allowed")


def test_a_zip_bomb_is_cut_off_while_it_unpacks(small: TestClient) -> None:
    bomb = packed({"bomb.png": b"\0" * 50_000_000})
    assert len(bomb) < 100_000
    refused(upload_zip(small, bomb), 413, "limit_exceeded", "1000 allowed")
    lying = bytearray(bomb)
    # a directory that claims ten bytes
    struct.pack_into("<L", lying, lying.find(b"PK\x01\x02") + 24, 10)
    answer = upload_zip(small, bytes(lying))
    assert answer.status_code in {413, 422}


def test_a_zip_with_a_huge_directory_is_refused_before_it_is_parsed(small: TestClient) -> None:
    many = packed({f"{n:0200}.png": b"" for n in range(1000)})
    refused(upload_zip(small, many), 413, "limit_exceeded", "directory")


def test_a_body_over_the_limit_is_413(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(batch_bytes=1000)
    with TestClient(create_app(settings)) as client:
        refused(client.post(PATH, files=[part("a.png", b"x" * 17_000_000)]), 413, "content_too_large", "bytes")


def test_a_batch_without_boxes_has_the_digest_it_had_before_there_were_boxes(client: TestClient) -> None:
    files = [part("a.png", b"one"), part("b.png", b"two")]
    answer = client.post(PATH, files=files, data={"labels": "[3, null]", "boxes": "[null, []]"})
    assert answer.json()["digest"] == "sha256:f6da280a102f007e4d31ede555a2570e1ea79848a52e532e021f8ae7716c3382"


def test_manifest_digest_is_that_of_its_canonical_json(client: TestClient) -> None:
    answer = client.post(PATH, files=[part("é.png", b"one")], data={"labels": "[1]"}).json()
    canonical = json.dumps(
        {"entries": answer["entries"]}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    assert answer["digest"] == f"sha256:{hashlib.sha256(canonical).hexdigest()}"
