"""What models call their classes, from the file that says so to the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import ResNet50_Weights

import digits
import made_up_audits as made_up
from auditcore.auditing import audit
from auditcore.contracts.access import AccessRules
from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.class_names import LONGEST_CLASS_NAME
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.models import DemoModel
from auditcore.contracts.packaged_models import HuggingFaceModel
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.request import AuditRequest
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.class_names import imagenet_names, names_by_number
from auditcore.models.loading import load_classifier

NAMES = tuple(f"digit {number}" for number in range(10))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({0: "cat", 1: "dog"}, ("cat", "dog")),
        ({"1": "dog", "0": " cat "}, ("cat", "dog")),
        ({10 - number: str(number) for number in range(11)}, tuple(str(10 - number) for number in range(11))),
        ({0: "LABEL_0", 1: "LABEL_1"}, ()),
        ({0: "LABEL_0", 1: "dog"}, ("LABEL_0", "dog")),
        ({0: "cat", 2: "dog"}, ()),
        ({0: "cat", 1: " "}, ()),
        ({0: "x" * 300}, ("x" * LONGEST_CLASS_NAME,)),
        ({}, ()),
        (None, ()),
        (["cat"], ()),
    ],
)
def test_names_by_number(labels: object, expected: tuple[str, ...]) -> None:
    assert names_by_number(labels) == expected


def test_the_classes_of_imagenet_have_names() -> None:
    assert len(imagenet_names()) == 1000
    assert (imagenet_names()[504], imagenet_names()[285]) == ("coffee mug", "Egyptian cat")
    assert list(imagenet_names()) == ResNet50_Weights.IMAGENET1K_V2.meta["categories"]


def test_the_demo_model_knows_them() -> None:
    assert load_classifier(DemoModel(), access=AccessRules()).class_names == imagenet_names()


def test_names_of_another_number_of_classes_are_not_the_models() -> None:
    for names, expected in ((NAMES, NAMES), (NAMES[:9], ()), ((), ())):
        given = Classifier(digits.trained(), preprocessing=digits.PREPROCESSING, class_names=names)
        assert given.class_names == expected


def test_a_snapshot_of_transformers_and_of_timm_says_them(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415 - seconds of imports

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        id2label={0: "healthy", 1: "ill"}, label2id={"healthy": 0, "ill": 1},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    plain = Preprocessing(resize=32, crop=32)
    rules = AccessRules(file_roots=(tmp_path,))

    def names(folder: Path) -> tuple[str, ...]:
        reference = HuggingFaceModel(uri=folder.as_uri(), preprocessing=plain)
        return load_classifier(reference, access=rules).class_names

    assert names(tmp_path / "vit") == ("healthy", "ill")
    shutil.copytree(tmp_path / "vit", tmp_path / "plain")
    said = json.loads((tmp_path / "plain" / "config.json").read_text())
    (tmp_path / "plain" / "config.json").write_text(json.dumps(said | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    assert names(tmp_path / "plain") == ()


def report_of(tmp_path: Path, module: nn.Module, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> dict[int, str]:
    """Names in the report of a labeled digits audit of a model that calls its classes `NAMES`."""
    known = Classifier(module, preprocessing=digits.PREPROCESSING, class_names=NAMES)
    monkeypatch.setattr("auditcore.auditing.load_classifier", lambda *_args, **_options: known)
    weights = digits.write_weights(tmp_path)
    request = AuditRequest(
        model=digits.reference(weights), images=ImageBatchReference(digest="sha256:" + "0" * 64),
        plan=AuditPlan(explainers=(Gradient(),), checks=(EddaCheck(keep=(0.15,)),)), **fields,
    )  # fmt: skip
    images = digits.encoded(4, labeled=True)
    return audit(request, images=images, access=digits.access(tmp_path)).images.class_names


def test_a_report_names_the_classes_and_labels_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = report_of(tmp_path, digits.trained(), monkeypatch)
    assert set(found) >= {0, 1, 2, 3}
    assert len(found) < 10
    assert all(name == NAMES[number] for number, name in found.items())


def test_names_of_the_request_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tuple(f"class {number}" for number in range(10))
    found = report_of(tmp_path, digits.trained(), monkeypatch, class_names=own)
    assert all(name == own[number] for number, name in found.items())


def test_of_several_models_the_first_that_knows_a_name_gives_it() -> None:
    images = {index: [index] for index in range(2)}
    row = made_up.row("gradient", [0.1, 0.2])
    shards = (
        made_up.shard("one", images, row, class_names={}),
        made_up.shard("two", images, row, class_names={0: "cat"}),
        made_up.shard("three", images, row, class_names={0: "Katze", 1: "Hund"}),
    )
    assert made_up.report(*shards).images.class_names == {0: "cat", 1: "Hund"}
