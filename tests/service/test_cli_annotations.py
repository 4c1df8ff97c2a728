"""Labels and boxes from the command line: files or JSON, for a service and without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import digits
from auditcore.client import Client
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.report import AuditReport
from auditcore.contracts.request import AuditRequest
from auditcore_service.cli.found_images import find_images
from auditcore_service.cli.inputs import read_annotations, read_request
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.service_client import upload_files
from auditcore_service.principals import ANONYMOUS
from auditcore_service.use_cases.annotations import GivenAnnotations
from command_line import run
from commands_in_process import client_of
from dicom_files import dicom_file
from in_process import InProcess

LABELS = '{"b.png": [3, 1]}'
BOXES = '[[[1, 2, 30, 31]], [{"x0": 0, "y0": 0, "x1": 9, "y1": 9, "label": 3}]]'
REQUEST = {
    "model": {
        "kind": "torchvision",
        "name": "resnet18",
        "weights": {"uri": "random:1"},
        "classes": 10,
        "preprocessing": {"resize": 32, "crop": 32},
    },
    "plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, what is known of them, and a request."""
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / "photos" / name).write_bytes(digits.png(number))
    (tmp_path / "labels.json").write_text(LABELS)
    (tmp_path / "boxes.json").write_text(BOXES)
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    return tmp_path


def over_http(
    client: TestClient, narrate: Callable[[str], None] = lambda _line: None
) -> AbstractContextManager[Client]:
    return client_of(InProcess(client), narrate=narrate)


def test_annotations_are_json_or_the_name_of_a_file(folder: Path) -> None:
    assert read_annotations(None) is None
    assert read_annotations(' [1, "x"]') == ' [1, "x"]'
    assert read_annotations('{"a.png": 1}') == '{"a.png": 1}'
    assert read_annotations(str(folder / "labels.json")) == LABELS
    with pytest.raises(CommandError, match="begins with"):
        read_annotations(str(folder / "missing.json"))
    with pytest.raises(CommandError, match="not a text file"):
        read_annotations(str(folder / "photos" / "a.png"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_may_begin_with_a_byte_order_mark(client: TestClient, folder: Path, encoding: str) -> None:
    for name in ("request.json", "labels.json"):
        (folder / name).write_text((folder / name).read_text(), encoding=encoding)
    assert read_request(folder / "request.json") == REQUEST
    assert read_annotations(str(folder / "labels.json")) == LABELS
    part = ("images", ("a.png", digits.png(0), "image/png"))
    as_file = ("labels", ("labels.json", "[3]".encode(encoding), "application/json"))
    assert client.post("/v1/image-batches", files=[part, as_file]).json()["entries"][0]["label"] == 3
    plain = client.post("/v1/image-batches", files=[part], data={"labels": "\ufeff[3]"})
    assert plain.json()["entries"][0]["label"] == 3


def test_an_upload_carries_labels_and_boxes(client: TestClient, folder: Path) -> None:
    told: list[str] = []
    images = find_images([folder / "photos"]).files
    with over_http(client, told.append) as service:
        digest = upload_files(service, images, GivenAnnotations(labels=LABELS, boxes=BOXES))
    first, second = client.get(f"/v1/image-batches/{digest}").json()["entries"]
    assert (first["label"], second["label"]) == (None, [3, 1])
    assert first["boxes"] == [{"x0": 1, "y0": 2, "x1": 30, "y1": 31, "label": None}]
    assert second["boxes"][0]["label"] == 3
    assert f"--form-string 'labels={LABELS}'" in told[0]
    assert f"--form-string 'boxes={BOXES}'" in told[0]


def test_a_refused_upload_names_the_mistake(client: TestClient, folder: Path) -> None:
    with pytest.raises(CommandError) as caught, over_http(client) as service:
        upload_files(service, find_images([folder / "photos"]).files, GivenAnnotations(boxes="[null, [[5, 2, 3, 4]]]"))
    ((pointer, fix),) = caught.value.errors
    assert pointer == "#/boxes"
    assert "box 0 of image 1 ('b.png')" in fix


def test_an_audit_without_a_service_sees_the_batch_that_an_upload_would_make(client: TestClient, folder: Path) -> None:
    # of which a service keeps only the pixels
    (folder / "photos" / "c.dcm").write_bytes(dicom_file(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)))
    boxes = f"{BOXES[:-1]}, null]"
    report_path = folder / "report.json"
    done = run(
        "audit",
        str(folder / "request.json"),
        *("--images", str(folder / "photos")),
        *("--labels", str(folder / "labels.json")),
        *("--boxes", boxes),
        *("--out", str(report_path)),
        *("--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    report = AuditReport.model_validate_json(report_path.read_bytes())
    assert [item.label for item in report.images.items] == [None, (3, 1), None]
    with over_http(client) as service:
        digest = upload_files(
            service, find_images([folder / "photos"]).files, GivenAnnotations(labels=LABELS, boxes=boxes)
        )
        status = service.submit({**REQUEST, "images": {"kind": "batch", "digest": digest}})
    stored = client.app.state.service.audits.get(ANONYMOUS, status.id)  # type: ignore[attr-defined]
    assert report.manifest.request_digest == digest_of(AuditRequest.model_validate_json(stored.request))


@pytest.mark.parametrize("command", ["audit", "submit"])
@pytest.mark.parametrize("option", ["--labels", "--boxes"])
def test_annotations_belong_to_images_given_with_them(folder: Path, command: str, option: str) -> None:
    done = run(command, str(folder / "request.json"), option, "[null]")
    assert done.exit_code == 2
    assert f"{option} needs --images" in done.output


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--labels", "[1]", "1 entries for 2 images"),
        ("--labels", '{"c.png": 1}', "no image"),
        ("--boxes", "[null, [[5, 2, 3, 4]]]", "box 0 of image 1 ('b.png')"),
        ("--boxes", "nowhere.json", "cannot be read"),
    ],
)
def test_a_mistake_names_the_option(folder: Path, option: str, text: str, words: str) -> None:
    done = run("audit", str(folder / "request.json"), "--images", str(folder / "photos"), option, text)
    assert done.exit_code == 2
    assert words in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("command", ["audit", "submit"])
def test_help_shows_what_a_box_is(command: str) -> None:
    shown = " ".join(run(command, "--help").output.replace("│", " ").split())
    assert "[[10, 20, 110, 90]]" in shown
    assert '{"cat.png": 285}' in shown
    assert "--boxes boxes.json" in shown


def test_paths_of_several_models_are_relative_to_the_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = digits.write_weights(folder)
    entry = {"kind": "factory", "target": "digits:build", "preprocessing": {"resize": 32, "crop": 32}}
    request = {
        **REQUEST,
        "models": [
            {"name": "one", "model": {**entry, "weights": {"uri": weights.name}}},
            {"name": "two", "model": {**entry, "weights": {"uri": "missing.safetensors"}}},
        ],
    }
    del request["model"]
    (folder / "request.json").write_text(json.dumps(request))
    monkeypatch.setenv("AUDIT_FACTORIES", '["digits:build"]')
    done = run("audit", str(folder / "request.json"), "--images", str(folder / "photos"), "--device", "cpu")
    assert done.exit_code == 2
    assert "models.1.model.weights.uri" in done.output
    assert str(folder / "missing.safetensors") in done.output
