"""Commands study, measure and remediate with `--url`: a real service with its worker does what they ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from auditcore import ObjectsOnScenes, RemedyReport, StudyReport, generate_images
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.retraining.idsds import IdsdsReport
from auditcore_service.cli.labeled_folders import find_labeled_folder
from auditcore_service.cli.outcome import CommandError
from auditcore_service.cli.service_client import connected, upload_files
from auditcore_service.cli.submitting_experiments import _fetch
from command_line import run
from commands_in_process import client_of
from running_service import report_of, serving, submit

NETWORK = "auditcore.models.small_convnet:small_convnet"
MODEL = {
    "kind": "factory",
    "target": NETWORK,
    "kwargs": {"classes": 2, "width": 4},
    "weights": {"uri": "random:0"},
    "preprocessing": {"resize": 24, "crop": 24, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
TRAINED = {"epochs": 1, "batch_size": 16, "optimizer": {"kind": "adam", "learning_rate": 0.01}}
AUDIT = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    images = generate_images(ObjectsOnScenes(images=60, size_px=24, object_classes=2, scene_classes=2))
    for name, part in zip(("training", "validation", "test"), images.split(0.6, 0.2), strict=True):
        part.write_folder(folder / name)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, AUDIT_QUEUE="database", AUDIT_FACTORIES=json.dumps([NETWORK]), AUDIT_DEVICE="cpu") as client:
        yield client


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "request.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.long
@pytest.mark.slow
def test_a_study_is_done_by_the_service_and_its_files_come_back(
    service: httpx.Client, shapes: Path, tmp_path: Path
) -> None:
    methods = [{"name": "plain", "plan": TRAINED}, {"name": "smooth", "plan": TRAINED | {"label_smoothing": 0.5}}]
    plan = {"kind": "study", "methods": methods, "seeds": [0], "audit": AUDIT, "audit_images": 4}
    path = written(tmp_path, {"model": MODEL, "plan": plan})
    folders = ("--training", shapes / "training", "--test", shapes / "test", "--validation", shapes / "validation")
    out = tmp_path / "study"
    found = run("study", path, *folders, "--out", out, "--url", str(service.base_url))
    assert found.exit_code == 0, found.output
    assert "accepted" in found.output
    assert "inter_model_deletion" in found.output
    report = StudyReport.model_validate_json((out / "report.json").read_bytes())
    assert isinstance(report.request.validation, ImageBatchReference)
    for one in report.models:
        assert sha256((out / "weights" / f"{one.method}-0.safetensors").read_bytes()) == one.weights
    # the folder is the one that a study without a service writes, which goes on with it
    here = run("study", path, *folders, "--out", tmp_path / "here")
    assert here.exit_code != 0  # the operator of this machine allows no network
    assert "AUDIT_FACTORIES" in here.output


@pytest.mark.slow
def test_a_measure_prints_its_report(service: httpx.Client, shapes: Path, tmp_path: Path) -> None:
    tuned = TRAINED | {"method": {"kind": "random_masks", "masks": {"kind": "patches"}}}
    plan = {"kind": "idsds", "training": tuned, "explainers": [{"kind": "gradient"}], "grid": 2}
    path = written(tmp_path, {"model": MODEL, "plan": plan})
    found = run(
        "measure", path, "--training", shapes / "training", "--out", tmp_path / "idsds", "-u", str(service.base_url)
    )
    assert found.exit_code == 0, found.output
    assert "better than random by" in found.output
    IdsdsReport.model_validate_json((tmp_path / "idsds" / "report.json").read_bytes())


@pytest.mark.slow
def test_a_remedy_takes_the_id_of_an_audit_or_its_report(service: httpx.Client, shapes: Path, tmp_path: Path) -> None:
    with connected(str(service.base_url)) as client:
        tested = find_labeled_folder(shapes / "test", option="--test")
        batch = upload_files(client, tested.files, tested.annotations)
    policy = [
        {
            "check": "deletion",
            "explainer": "gradient",
            "metric": "inter_model_deletion",
            "at_least": 0.99,
            "min_images": 2,
        }
    ]
    request = {"model": MODEL, "images": {"kind": "batch", "digest": batch}, "plan": AUDIT, "policy": policy}
    audit = submit(service, request)
    failed = report_of(service, audit)
    assert failed.verdict == "fail"
    (tmp_path / "plan.json").write_text(
        json.dumps({"learning_rates": [0.001], "epochs": [1], "accuracy_guard": 1.0, "probe_images": 2})
    )
    (tmp_path / "failed.json").write_text(failed.model_dump_json())
    arguments = ("--training", shapes / "training", "--plan", tmp_path / "plan.json", "-u", str(service.base_url))
    for number, given in enumerate((audit, tmp_path / "failed.json")):
        out = tmp_path / f"remedy-{number}"
        found = run("remediate", given, *arguments, "--out", out)
        assert found.exit_code == 1, found.output
        report = RemedyReport.model_validate_json((out / "report.json").read_bytes())
        assert report.verdict_after == "fail"
        assert report.request.audit == audit
        assert (out / "model.safetensors").exists()
    both = run("remediate", audit, *arguments, "--audited", shapes / "test", "--out", tmp_path / "x")
    assert both.exit_code == 2
    assert "exclude each other" in both.output
    unknown = run("remediate", "nothing", *arguments, "--out", tmp_path / "x")
    assert unknown.exit_code == 2
    assert "there is no audit 'nothing'" in unknown.output


def test_without_a_service_a_remedy_needs_the_audited_images(shapes: Path, tmp_path: Path) -> None:
    found = run("remediate", "report.json", "--training", shapes / "training", "--out", tmp_path)
    assert found.exit_code == 2
    assert "--audited" in found.output


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_service_cannot_choose_where_files_are_written(name: str, tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files"):
            return httpx.Response(200, json={"items": [{"name": name, "digest": sha256(b"x")}]})
        return httpx.Response(200, content=b"x")

    with (
        pytest.raises(CommandError, match="no name of a kept file"),
        client_of(httpx.MockTransport(answer)) as client,
    ):
        _fetch(client, "e", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_stay_with_the_service(tmp_path: Path) -> None:
    names = ("checkpoints/plain-0", "report.json")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files"):
            return httpx.Response(200, json={"items": [{"name": name, "digest": sha256(b"x")} for name in names]})
        return httpx.Response(200, content=b"x")

    with client_of(httpx.MockTransport(answer)) as client:
        assert _fetch(client, "e", tmp_path) == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_bytes_that_were_damaged_on_their_way_are_not_kept(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/files"):
            return httpx.Response(200, json={"items": [{"name": "report.json", "digest": sha256(b"x")}]})
        return httpx.Response(200, content=b"y")

    with (
        pytest.raises(CommandError, match="came damaged"),
        client_of(httpx.MockTransport(answer)) as client,
    ):
        _fetch(client, "e", tmp_path / "out")
    assert not (tmp_path / "out").exists()
