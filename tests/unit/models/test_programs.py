"""ONNX graphs, TorchScript and torch.export: the same answers, and gradients where there are any."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import digits
import foreign_servers
import prediction_only
from auditcore.auditing import inspect_model
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.capabilities import NO_GRADIENTS
from auditcore.contracts.explainers import GradCam, Gradient, GuidedBackpropagation
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.packaged_models import OnnxModel, TorchExportModel, TorchScriptModel
from auditcore.errors import InputError, ModelNotLoadable, ModelOutputInvalid, UnsafeReference
from auditcore.explainers.registry import applicability
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier

FED = digits.PREPROCESSING
PIXELS = digits.digit_pixels()[0][:4]


def onnx_model(path: Path, **changes: Any) -> OnnxModel:
    return OnnxModel.model_validate({"uri": path.as_uri(), "preprocessing": FED, **changes})


def same(classifier: Classifier, other: Classifier, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(classifier.logits(PIXELS), other.logits(PIXELS), atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign_servers.write_onnx(tmp_path_factory.mktemp("onnx") / "digits.onnx")


def test_a_graph_that_converts_is_a_white_box(graph: Path, digit_classifier: Classifier) -> None:
    classifier = load_classifier(onnx_model(graph), access=AccessRules(file_roots=(graph.parent,)))
    same(classifier, digit_classifier)
    assert classifier.capabilities.gradients
    assert applicability(classifier, Gradient()) is None
    # its parameters take part, so that it can be randomized
    assert classifier.parameters


def test_a_graph_can_be_audited_as_a_black_box(graph: Path, digit_classifier: Classifier, tmp_path: Path) -> None:
    access = AccessRules(file_roots=(graph.parent,))
    model = onnx_model(graph, gradients="never")
    same(load_classifier(model, access=access), digit_classifier)
    plan: dict[str, Any] = {
        "explainers": [{"kind": "ablation", "grid": 4}, {"kind": "gradient"}],
        "checks": prediction_only.CHECKS[2:5],
    }
    report = prediction_only.audited(model, access, **plan)
    itself = prediction_only.white_box(tmp_path, **plan)
    mine = report.model_copy(update={"results": tuple(one for one in report.results if one.explainer != "gradient")})
    compared, worst = prediction_only.differences(mine, itself)
    assert not worst
    assert compared > 40
    assert report.model is not None
    assert report.model.digest == sha256(graph.read_bytes())
    assert report.model.reference.sha256 == report.model.digest  # type: ignore[union-attr]
    reasons = {r for one in report.results if one.explainer == "gradient" for r in one.reasons.values()}
    assert reasons == {NO_GRADIENTS}
    assert "predictions came from ONNX Runtime" in report.notes


def test_probabilities_have_logarithms_for_logits(tmp_path: Path, digit_classifier: Classifier) -> None:
    path = foreign_servers.write_onnx(tmp_path / "p.onnx", nn.Sequential(digits.trained(), nn.Softmax(1)).eval())
    access = AccessRules(file_roots=(tmp_path,))
    for gradients in ("auto", "never"):
        classifier = load_classifier(onnx_model(path, outputs="probabilities", gradients=gradients), access=access)
        torch.testing.assert_close(
            classifier.probabilities(classifier.logits(PIXELS)),
            digit_classifier.probabilities(digit_classifier.logits(PIXELS)),
            atol=1e-5,
            rtol=1e-4,
        )
        assert classifier.capabilities.gradients == (gradients == "auto")


def test_a_fixed_batch_is_filled_up(tmp_path: Path, digit_classifier: Classifier) -> None:
    path = tmp_path / "fixed.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(digits.trained(), (torch.zeros(3, 3, 32, 32),), str(path), dynamo=False)
    model = onnx_model(path, gradients="never")
    classifier = load_classifier(model, access=AccessRules(file_roots=(tmp_path,)))
    same(classifier, digit_classifier)
    assert classifier.source is not None
    assert classifier.source.images_per_pass == 3
    # the conversion takes any number of images, and the report says so
    converted = load_classifier(onnx_model(path), access=AccessRules(file_roots=(tmp_path,)))
    same(converted, digit_classifier)
    assert converted.source is None
    assert applicability(converted, GradCam()) is None
    assert "exported for 3 images at a time" in converted.notes[0]


def small_graph(path: Path, *, kind: int = TensorProto.FLOAT, side: int = 32, outputs: int = 1) -> Path:
    """Mean over positions, a linear layer."""
    weight = np.ones((3, 5), helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["flat"], axes=[2, 3], keepdims=0),
        *(helper.make_node("MatMul", ["flat", "weight"], [f"scores{n}"]) for n in range(outputs)),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 3, side, side])],
        [helper.make_tensor_value_info(f"scores{n}", kind, ["n", 5]) for n in range(outputs)],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize(
    ("options", "field", "match"),
    [
        ({"kind": TensorProto.INT64}, "model.uri", "float32 inputs and outputs"),
        ({"side": 16}, "model.preprocessing", r'set `crop` of `preprocessing` to {"height": 16, "width": 16}'),
        ({"outputs": 2}, "model.select", "'scores0', 'scores1'"),
    ],
)
def test_graphs_of_something_else_are_refused_with_a_reason(
    tmp_path: Path, options: dict[str, Any], field: str, match: str
) -> None:
    path = small_graph(tmp_path / "g.onnx", **options)
    with pytest.raises(ModelOutputInvalid, match=match) as caught:
        load_classifier(onnx_model(path), access=AccessRules(file_roots=(tmp_path,)))
    assert caught.value.field == field


def test_a_graph_that_draws_random_numbers_is_refused(tmp_path: Path) -> None:
    path = small_graph(tmp_path / "g.onnx")
    made = onnx.load(str(path))
    made.graph.node.append(helper.make_node("RandomNormalLike", ["scores0"], ["drawn"]))
    made.graph.output[0].name = "drawn"
    onnx.save(made, str(path))
    with pytest.raises(ModelOutputInvalid, match=r"the same image twice.*exported in training mode"):
        load_classifier(onnx_model(path), access=AccessRules(file_roots=(tmp_path,)))


@pytest.mark.parametrize(("kind", "off"), [(TensorProto.FLOAT16, 2e-3), (TensorProto.DOUBLE, 1e-6)])
def test_graphs_of_other_precisions_get_images_of_theirs(tmp_path: Path, kind: int, off: float) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    for name, given in (("g.onnx", kind), ("float.onnx", TensorProto.FLOAT)):
        small_graph(tmp_path / name, kind=given)
    found, expected = (
        load_classifier(onnx_model(tmp_path / name), access=AccessRules(file_roots=(tmp_path,))).logits(images)
        for name in ("g.onnx", "float.onnx")
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=off, atol=off)


def test_weights_in_other_files_and_damaged_graphs_are_refused(graph: Path, tmp_path: Path) -> None:
    access = AccessRules(file_roots=(tmp_path,))
    outside = tmp_path / "models" / "outside.onnx"
    outside.parent.mkdir()
    location = "../weights.bin"
    named = onnx.load(str(graph))
    for tensor in named.graph.initializer:
        tensor.external_data.add(key="location", value=location)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
    outside.write_bytes(named.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(bytes(10**5))
    with pytest.raises(UnsafeReference, match="without a path"):
        load_classifier(onnx_model(outside), access=access)
    outside.write_bytes(b"no graph")
    with pytest.raises(ModelNotLoadable, match="not an ONNX graph"):
        load_classifier(onnx_model(outside), access=access)


def test_inspection_reports_the_result_of_the_conversion(graph: Path) -> None:
    access = AccessRules(file_roots=(graph.parent,))
    found = inspect_model(InspectionRequest(model=onnx_model(graph)), access=access)
    assert {one.name: one.runs for one in found.explainers}["gradient"]
    never = inspect_model(InspectionRequest(model=onnx_model(graph, gradients="never")), access=access)
    assert not {one.name: one.runs for one in never.explainers}["gradient"]


# --- TorchScript and torch.export ------------------------------------------------------------------


def script(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(digits.trained(), torch.zeros(1, 3, 32, 32)), path)
    return path


def exported(path: Path, *, dynamic: bool = True, images: int = 2) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("n", min=2)},) if dynamic else None
        program = torch.export.export(digits.trained(), (torch.zeros(images, 3, 32, 32),), dynamic_shapes=shapes)
        torch.export.save(program, path)
    return path


def program(path: Path, kind: type[TorchScriptModel | TorchExportModel]) -> TorchScriptModel | TorchExportModel:
    return kind.model_validate({"uri": path.as_uri(), "sha256": sha256(path.read_bytes()), "preprocessing": FED})


@pytest.mark.parametrize("kind", [TorchScriptModel, TorchExportModel])
def test_a_program_runs_if_the_operator_allows_it_and_has_gradients(
    tmp_path: Path, kind: Any, digit_classifier: Classifier
) -> None:
    path = script(tmp_path / "m.pt") if kind is TorchScriptModel else exported(tmp_path / "m.pt2")
    model = program(path, kind)
    closed = AccessRules(file_roots=(tmp_path,))
    with pytest.raises(UnsafeReference, match="AUDIT_CODE_DIGESTS") as caught:
        load_classifier(model, access=closed)
    assert caught.value.field == "model.sha256"
    access = closed.model_copy(update={"code_digests": (model.sha256,)})
    classifier = load_classifier(model, access=access)
    same(classifier, digit_classifier)
    report = prediction_only.audited(
        model,
        access,
        explainers=[{"kind": "gradient"}, {"kind": "ablation", "grid": 4}],
        checks=[{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda"}],
    )
    found = {one.explainer for one in report.results if one.mean is not None}
    assert {"gradient", "ablation"} <= found


def test_methods_that_need_layers_of_a_script_have_a_reason(tmp_path: Path) -> None:
    model = program(script(tmp_path / "m.pt"), TorchScriptModel)
    access = AccessRules(file_roots=(tmp_path,), code_digests=(model.sha256,))
    classifier = load_classifier(model, access=access)
    for contract in (GuidedBackpropagation(), GradCam()):
        reason = applicability(classifier, contract)
        assert reason is None or len(reason) > 20


@pytest.mark.parametrize("kind", [TorchScriptModel, TorchExportModel])
def test_other_files_are_not_programs(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"nothing")
    model = program(path, kind)
    with pytest.raises(ModelNotLoadable, match=r"no (TorchScript )?program"):
        load_classifier(model, access=AccessRules(file_roots=(tmp_path,), code_digests=(model.sha256,)))


def test_a_program_of_one_batch_size_says_how_to_export_it(tmp_path: Path) -> None:
    model = program(exported(tmp_path / "m.pt2", dynamic=False), TorchExportModel)
    with pytest.raises(InputError, match="dynamic batch dimension"):
        load_classifier(model, access=AccessRules(file_roots=(tmp_path,), code_digests=(model.sha256,)))


def test_a_program_of_one_image_runs_image_by_image(tmp_path: Path, digit_classifier: Classifier) -> None:
    model = program(exported(tmp_path / "m.pt2", dynamic=False, images=1), TorchExportModel)
    access = AccessRules(file_roots=(tmp_path,), code_digests=(model.sha256,))
    classifier = load_classifier(model, access=access)
    same(classifier, digit_classifier)
    assert classifier.capabilities.gradients
    assert any("image by image" in note for note in classifier.notes)
