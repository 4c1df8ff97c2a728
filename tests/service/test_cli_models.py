"""Models on the command line: what will run on them, and archives of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from auditcore.contracts.access import AccessRules
from auditcore.contracts.inspection import Inspection
from auditcore.contracts.models import TorchvisionModel
from auditcore.contracts.packaged_models import MarModel
from auditcore.models.loading import load_classifier
from command_line import run
from small_model import SMALL_MODEL

# its activations are SiLU: guided backpropagation would be a plain gradient under another name
NO_RECTIFIER = {**SMALL_MODEL, "name": "efficientnet_b0"}


def write(folder: Path, document: Any) -> Path:
    path = folder / "model.json"
    path.write_text(json.dumps(document))
    return path


def test_a_model_without_a_plan_is_inspected_with_the_whole_catalogue(tmp_path: Path) -> None:
    done = run("inspect", write(tmp_path, SMALL_MODEL))
    assert done.exit_code == 0
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 1}
    assert rows["grad_cam"] == "yes"
    assert rows["deletion"] == "yes"
    assert rows["classes:"] == "5"
    found = Inspection.model_validate_json(run("inspect", write(tmp_path, SMALL_MODEL), "--json").stdout)
    classifier = load_classifier(TorchvisionModel.model_validate(SMALL_MODEL), access=AccessRules())
    assert found.found.digest == classifier.digest


def test_what_a_model_prints_is_no_part_of_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talkative_model.py").write_text(
        "import torch\n\n\n"
        "class Net(torch.nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        print('talking', x.shape)\n"
        "        return super().forward(x)\n\n\n"
        "def build():\n"
        "    print('loaded')\n"
        "    return Net(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = {
        "kind": "factory",
        "target": "talkative_model:build",
        "weights": {"uri": "random:1"},
        "preprocessing": {"resize": 16, "crop": 16},
    }
    PIL.Image.new("RGB", (20, 20), (9, 99, 199)).save(tmp_path / "a.png")
    plan = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "complexity"}]}
    file = write(tmp_path, {"model": model, "plan": plan})
    monkeypatch.setenv("AUDIT_FACTORIES", '["talkative_model:build"]')
    inspected = run("inspect", file, "--json")
    assert Inspection.model_validate_json(inspected.stdout).found is not None
    assert "loaded" in inspected.stderr
    audited = run("audit", file, "--images", tmp_path / "a.png", "--out", tmp_path / "report.json")
    assert audited.exit_code == 0
    assert "talking" not in audited.stdout


def test_of_a_request_its_plan_is_looked_at(tmp_path: Path) -> None:
    plan = {
        "explainers": [{"kind": "guided_backpropagation", "name": "mine"}],
        "checks": [{"kind": "deletion", "grid": 2}],
    }
    done = run("inspect", write(tmp_path, {"model": NO_RECTIFIER, "plan": plan}), "--json")
    found = Inspection.model_validate_json(done.stdout)
    assert [(one.name, one.runs, bool(one.reason)) for one in found.explainers] == [("mine", False, True)]
    assert [one.name for one in found.checks] == ["deletion"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"images": {}}, "holds no model"),
        ({**SMALL_MODEL, "name": "resnet51"}, "resnet51"),
        ({**SMALL_MODEL, "kind": "oracle"}, "oracle"),
        ({"kind": "onnx", "uri": "file:///a.onnx", "preprocessing": SMALL_MODEL["preprocessing"]}, "model.uri"),
        ({"kind": "torchserve", "url": "http://127.0.0.1:9", "name": "scans"}, "AUDIT_SERVER_PREFIXES"),
    ],
)
def test_a_mistake_is_reported_and_exits_with_status_2(tmp_path: Path, document: Any, said: str) -> None:
    done = run("inspect", write(tmp_path, document))
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_an_archive_is_the_model_and_the_same_each_time(tmp_path: Path) -> None:
    model = write(tmp_path, SMALL_MODEL)
    paths = [tmp_path / "one.mar", tmp_path / "two.mar"]
    for path in paths:
        done = run("mar", model, "--name", "small", "--model-version", "3.1", "--out", path)
        assert done.exit_code == 0, done.output
        assert "archive written" in done.output
    assert paths[0].read_bytes() == paths[1].read_bytes()
    access = AccessRules(file_roots=(tmp_path,))
    archived = load_classifier(MarModel(uri=paths[0].as_uri()), access=access)
    assert archived.digest == load_classifier(TorchvisionModel.model_validate(SMALL_MODEL), access=access).digest
    assert archived.shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {
                "kind": "open_inference",
                "url": "http://127.0.0.1:9",
                "name": "a",
                "outputs": "logits",
                "preprocessing": SMALL_MODEL["preprocessing"],
            },
            "'open_inference' cannot be archived",
        ),
        ({**SMALL_MODEL, "name": "resnet51"}, "resnet51"),
    ],
)
def test_what_cannot_be_archived_leaves_no_file(tmp_path: Path, document: Any, said: str) -> None:
    done = run("mar", write(tmp_path, document), "--name", "small", "--out", tmp_path / "one.mar")
    assert done.exit_code == 2
    assert said in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
