"""Commands that take labeled folders: study, measure, remediate. Each is run as it is typed, on small images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditcore import ObjectsOnScenes, RemedyReport, RoarReport, StudyReport, TrainingReport, generate_images
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.retraining.idsds import IdsdsReport
from auditcore.report.reading import read_report
from command_line import run

NETWORK = "auditcore.models.small_convnet:small_convnet"
MODEL = {
    "kind": "factory",
    "target": NETWORK,
    "kwargs": {"classes": 2, "width": 4},
    "weights": {"uri": "random:0"},
    "preprocessing": {"resize": 24, "crop": 24, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}
TRAINED = {"epochs": 2, "batch_size": 16, "optimizer": {"kind": "adam", "learning_rate": 0.01}}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    images = generate_images(ObjectsOnScenes(images=90, size_px=24, object_classes=2, scene_classes=2))
    for name, part in zip(("training", "validation", "test"), images.split(0.6, 0.2), strict=True):
        part.write_folder(folder / name)
    return folder


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_FACTORIES", json.dumps([NETWORK]))


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "request.json"
    path.write_text(json.dumps(document))
    return path


def test_a_study_prints_its_tables_and_goes_on_where_it_was(shapes: Path, tmp_path: Path) -> None:
    audit = {"explainers": [{"kind": "grad_cam"}], "checks": [{"kind": "edda", "keep": [0.3]}]}
    methods = [
        {"name": "baseline", "plan": TRAINED},
        {"name": "smoothing", "plan": TRAINED | {"label_smoothing": 0.5}},
    ]
    plan = {"methods": methods, "seeds": [0, 1], "audit": audit, "audit_images": 4}
    path = written(tmp_path, {"model": MODEL, "plan": plan})
    arguments = (path, "--training", shapes / "training", "--test", shapes / "test", "--out", tmp_path / "study")
    first = run("study", *arguments)
    assert first.exit_code == 0, first.output
    assert "**edda drop_percent top_30**" in first.output
    report = StudyReport.model_validate_json((tmp_path / "study" / "report.json").read_bytes())
    assert [(one.method, one.seed) for one in report.models] == [
        ("baseline", 0),
        ("smoothing", 0),
        ("baseline", 1),
        ("smoothing", 1),
    ]
    before = (tmp_path / "study" / "weights" / "baseline-1.safetensors").stat().st_mtime_ns
    assert run("study", *arguments).output.split("**", 1)[1] == first.output.split("**", 1)[1]
    assert (tmp_path / "study" / "weights" / "baseline-1.safetensors").stat().st_mtime_ns == before


def test_roar_is_measured_from_a_folder(shapes: Path, tmp_path: Path) -> None:
    plan = {"kind": "roar", "training": TRAINED, "explainers": [{"kind": "grad_cam"}], "shares": [0, 0.5], "repeats": 1}
    path = written(tmp_path, {"model": MODEL, "plan": plan})
    arguments = (path, "--training", shapes / "training", "--validation", shapes / "validation")
    found = run("measure", *arguments, "--out", tmp_path / "roar")
    assert found.exit_code == 0, found.output
    assert "area, roar" in found.output
    report = RoarReport.model_validate_json((tmp_path / "roar" / "report.json").read_bytes())
    assert {one.explainer for one in report.results} == {"grad_cam", "random"}
    assert (report.data.training_images, report.data.validation_images) == (54, 18)
    again = run("measure", *arguments, "--out", tmp_path / "roar")
    assert again.exit_code == 0, again.output
    # nothing is trained again, so the seconds of all trainings are those of the first time
    assert RoarReport.model_validate_json((tmp_path / "roar" / "report.json").read_bytes()).cost == report.cost


def test_a_fine_tuned_measure_keeps_its_weights(shapes: Path, tmp_path: Path) -> None:
    tuned = TRAINED | {"method": {"kind": "random_masks", "masks": {"kind": "patches"}}}
    plan = {"kind": "idsds", "training": tuned, "explainers": [{"kind": "grad_cam"}]}
    path = written(tmp_path, {"model": MODEL, "plan": plan})
    found = run("measure", path, "--training", shapes / "training", "--out", tmp_path / "idsds")
    assert found.exit_code == 0, found.output
    report = IdsdsReport.model_validate_json((tmp_path / "idsds" / "report.json").read_bytes())
    assert isinstance(report.training, TrainingReport)
    weights = (tmp_path / "idsds" / "weights" / "fine_tuned.safetensors").read_bytes()
    assert sha256(weights) == report.training.trained.weights


def test_a_failed_report_is_remedied_from_folders(shapes: Path, tmp_path: Path) -> None:
    """The condition cannot be met, so that the verdict stays and the exit code says so."""
    request = written(tmp_path, {"model": MODEL, "plan": TRAINED})
    weights = tmp_path / "first.safetensors"
    sets = ("--training", shapes / "training", "--validation", shapes / "validation")
    trained = run("train", request, *sets, "--out", weights)
    assert trained.exit_code == 0, trained.output
    learned = TrainingReport.model_validate_json((tmp_path / "first.safetensors.report.json").read_bytes())
    assert (learned.data.training_images, learned.data.validation_images) == (54, 18)
    both = run("train", request, *sets, "--images", shapes / "training" / "images", "--out", weights)
    assert both.exit_code == 2
    assert "--training and --images both name images" in both.output
    model = json.loads(trained.stdout)
    condition = {
        "check": "edda",
        "explainer": "grad_cam",
        "metric": "drop_percent",
        "variant": "top_30",
        "at_most": 0.1,
    }
    plan = {"explainers": [{"kind": "grad_cam"}], "checks": [{"kind": "edda", "keep": [0.3]}]}
    audit = written(tmp_path, {"model": model, "plan": plan, "policy": [condition]})
    report = tmp_path / "report.json"
    tested = shapes / "test"
    failed = run("audit", audit, "--images", tested / "images", "--labels", tested / "labels.csv", "--out", report)
    assert failed.exit_code == 1, failed.output
    may = tmp_path / "plan.json"
    may.write_text(json.dumps({"learning_rates": [0.001], "epochs": [1], "accuracy_guard": 1, "probe_images": 4}))
    folders = ("--training", shapes / "training", "--validation", shapes / "validation", "--audited", tested)
    found = run("remediate", report, *folders, "--plan", may, "--out", tmp_path / "remedy")
    assert found.exit_code == 1, found.output
    assert "drop_percent top_30 of grad_cam went from" in found.output
    out = tmp_path / "remedy"
    remedy = RemedyReport.model_validate_json((out / "report.json").read_bytes())
    assert remedy.failed_report == sha256(report.read_bytes())
    assert remedy.audit_report == sha256((out / "audit.json").read_bytes())
    assert read_report((out / "audit.json").read_bytes()).verdict == remedy.verdict_after == "fail"
    named = json.loads((out / "model.json").read_text())["weights"]
    assert named["uri"] == (out / "model.safetensors").as_uri()
    assert named["sha256"] == sha256((out / "model.safetensors").read_bytes())
    overlap = run("remediate", report, "--training", tested, "--audited", tested, "--out", tmp_path / "other")
    assert overlap.exit_code == 2
    assert "training images are images of the audit" in overlap.output


def test_folders_of_classes_are_read_too(shapes: Path, tmp_path: Path) -> None:
    rows = (shapes / "training" / "labels.csv").read_text().splitlines()[1:]
    for row in rows:
        name, label = row.split(",")[:2]
        folder = tmp_path / "classes" / f"class-{label}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((shapes / "training" / "images" / name).read_bytes())
    plan = {"kind": "idsds", "training": TRAINED, "explainers": [{"kind": "grad_cam"}]}
    path = written(tmp_path, {"model": MODEL, "plan": plan})
    found = run("measure", path, "--training", tmp_path / "classes", "--out", tmp_path / "idsds")
    assert found.exit_code == 0, found.output
    report = IdsdsReport.model_validate_json((tmp_path / "idsds" / "report.json").read_bytes())
    assert report.training is not None
    assert set(report.training.data.training_per_class) == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--training", "nowhere"), "--training nowhere: there is no such folder"),
        (("--training", "empty"), "--training empty: this folder holds neither `images` beside labels.csv"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(
    arguments: tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    plan = {"kind": "idsds", "training": TRAINED, "explainers": [{"kind": "grad_cam"}]}
    found = run("measure", written(tmp_path, {"model": MODEL, "plan": plan}), *arguments, "--out", "out")
    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"kind": "other"}, "plan"),
        ({"kind": "roar", "training": TRAINED, "shares": [0.5, 0.1], "explainers": [{"kind": "grad_cam"}]}, "ascend"),
    ],
)
def test_a_plan_that_is_wrong_is_named(plan: dict[str, Any], message: str, shapes: Path, tmp_path: Path) -> None:
    found = run(
        "measure", written(tmp_path, {"model": MODEL, "plan": plan}), "--training", shapes / "training", "--out", "out"
    )
    assert found.exit_code == 2
    assert "is not a valid request for a measure that retrains" in found.output
    assert message in found.output
