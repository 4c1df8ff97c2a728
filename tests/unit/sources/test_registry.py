"""One record for each kind of model reference; what lacks one fails at import, and the records need no torch."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

import pytest
from pydantic import Field, TypeAdapter

from auditcore.contracts import model_reference
from auditcore.contracts.access import AccessRules
from auditcore.contracts.contract import Contract
from auditcore.contracts.model_reference import ModelReference
from auditcore.errors import UnsafeReference
from auditcore.sources import registry
from auditcore.sources.built_models import DEMO, TIMM
from auditcore.sources.model_source import ModelSource, nothing_to_pin
from auditcore.sources.registry import RECORDS, SOURCES, by_contract, check_model, source_of
from auditcore.sources.resolving import resolve_model

KINDS = get_args(get_args(ModelReference)[0])

SHA256 = f"sha256:{64 * 'a'}"
PREPROCESSING = {"resize": 8, "crop": 8}
WEIGHTS = {"uri": "file:///models/weights.safetensors"}
TIMM_WEIGHTS = {"kind": "timm", "name": "resnet18", "classes": 3}

REFERENCES: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"kind": "torchvision", "name": "resnet50", "weights": WEIGHTS}, "resnet50 (torchvision)", "resnet50"),
    ({"kind": "timm", "name": "resnet18.a1_in1k", "weights": WEIGHTS}, "resnet18.a1_in1k (timm)", "resnet18"),
    (
        {"kind": "factory", "target": "a.b:C", "args": ["x", 2], "weights": WEIGHTS, "preprocessing": PREPROCESSING},
        "a.b:C(x, 2)",
        "a.b:C(x, 2)",
    ),
    (
        {"kind": "demo"},
        "EfficientNet-Lite0 (demo)",
        "efficientnet_lite_pytorch:EfficientNet.from_name(efficientnet-lite0)",
    ),
    ({"kind": "mar", "uri": "file:///models/digits.mar"}, "digits.mar (mar)", "mar"),
    (
        {
            "kind": "mlflow",
            "uri": "models:/digits@champion",
            "version": "3",
            "architecture": TIMM_WEIGHTS,
            "preprocessing": PREPROCESSING,
        },
        "models:/digits@champion (version 3)",
        "mlflow",
    ),
    ({"kind": "huggingface", "repo": "org/name", "revision": 40 * "a"}, "org/name", "huggingface"),
    ({"kind": "huggingface", "uri": "file:///models/snapshot/"}, "snapshot", "huggingface"),
    (
        {"kind": "onnx", "uri": "file:///models/digits.onnx", "preprocessing": PREPROCESSING},
        "digits.onnx (onnx)",
        "onnx",
    ),
    (
        {"kind": "torchscript", "uri": "file:///m/a.pt", "sha256": SHA256, "preprocessing": PREPROCESSING},
        "a.pt (torchscript)",
        "torchscript",
    ),
    (
        {"kind": "torch_export", "uri": "file:///m/a.pt2", "sha256": SHA256, "preprocessing": PREPROCESSING},
        "a.pt2 (torch_export)",
        "torch_export",
    ),
    (
        {"kind": "torchserve", "url": "http://server:8080", "name": "digits"},
        "digits at http://server:8080",
        "torchserve",
    ),
    (
        {
            "kind": "open_inference",
            "url": "http://server",
            "name": "digits",
            "version": "2",
            "outputs": "logits",
            "preprocessing": PREPROCESSING,
        },
        "digits at http://server, version 2",
        "open_inference",
    ),
)


class ToyModel(Contract):
    """A kind of reference that nobody has written a record for."""

    kind: Literal["toy"] = "toy"


def parsed(reference: dict[str, Any]) -> ModelReference:
    found: ModelReference = TypeAdapter(ModelReference).validate_python(reference)
    return found


def test_importing_the_registry_fails_if_a_kind_has_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    union = Annotated[get_args(ModelReference)[0] | ToyModel, Field(discriminator="kind")]
    monkeypatch.setattr(model_reference, "ModelReference", union)
    with pytest.raises(TypeError, match="ToyModel is a kind of ModelReference without a record; add one to sources"):
        runpy.run_path(str(registry.__file__))


def test_two_records_of_a_kind_and_a_record_of_no_kind_are_refused() -> None:
    toy = ModelSource(
        contract=ToyModel,
        check_access=lambda _model, _access: None,
        resolve=nothing_to_pin,
        loader="toy",
        display_name=lambda _: "toy",
    )
    with pytest.raises(TypeError, match="ToyModel has a record and is no kind of ModelReference"):
        by_contract((*RECORDS, toy), KINDS)
    with pytest.raises(TypeError, match="TimmModel has two records"):
        by_contract((*RECORDS, replace(TIMM, loader="another")), KINDS)
    assert by_contract((*RECORDS, toy), (*KINDS, ToyModel))[ToyModel] is toy


def test_a_record_says_how_its_kind_is_resolved() -> None:
    with pytest.raises(TypeError, match="resolve"):
        ModelSource(  # type: ignore[call-arg]
            contract=ToyModel, check_access=lambda _model, _access: None, loader="toy", display_name=lambda _: "toy"
        )
    assert [record for record in RECORDS if record.resolve is nothing_to_pin] == [DEMO]
    resolution = resolve_model(parsed({"kind": "demo"}), AccessRules())
    assert (resolution.reference, resolution.capabilities, resolution.facts) == (parsed({"kind": "demo"}), None, {})


def test_every_kind_has_an_example_here() -> None:
    assert {type(parsed(reference)) for reference, _, _ in REFERENCES} == set(SOURCES) == set(KINDS)


@pytest.mark.parametrize(("reference", "name", "architecture"), REFERENCES)
def test_models_have_names_that_a_reader_understands(reference: dict[str, Any], name: str, architecture: str) -> None:
    record = source_of(parsed(reference))
    assert record.display_name(parsed(reference)) == name
    assert record.architecture_name(parsed(reference)) == architecture


@pytest.mark.parametrize("reference", [one for one, _, _ in REFERENCES if one["kind"] != "demo"])
def test_nothing_but_the_demo_model_is_allowed_unless_the_operator_says_so(reference: dict[str, Any]) -> None:
    with pytest.raises(UnsafeReference):
        check_model(parsed(reference), AccessRules(factories=(), packages=()))


def test_records_need_no_torch_and_no_client_of_a_registry() -> None:
    heavy = ("torch", "numpy", "PIL", "mlflow", "huggingface_hub", "fsspec", "auditcore.models")
    code = (
        "import sys; from auditcore.sources.registry import SOURCES; assert SOURCES; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
