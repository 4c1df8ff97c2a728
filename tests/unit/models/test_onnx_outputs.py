"""Of a graph with several outputs, the one with the class scores is audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from auditcore.contracts.access import AccessRules
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.errors import ModelOutputInvalid
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.onnx_outputs import keep_output
from auditcore.models.loading import load_classifier

SIDE = 8
INPUTS = np.random.default_rng(1).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)


def write(path: Path, first: str = "scores") -> Path:
    """A graph with scores of 5 classes, a map of features, and boxes by an operator that has no gradient."""
    drawn = np.random.default_rng(2)
    kernel = numpy_helper.from_array(drawn.normal(size=(4, 3, 3, 3)).astype(np.float32), "kernel")
    matrix = numpy_helper.from_array(drawn.normal(size=(4, 5)).astype(np.float32), "matrix")
    k = numpy_helper.from_array(np.array([1], np.int64), "k")
    branch = helper.make_graph(
        [helper.make_node("Relu", ["features"], ["kept"])],
        "branch",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["n", 4, SIDE, SIDE])],
    )
    yes = numpy_helper.from_array(np.ones((), bool), "yes")
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("If", ["yes"], ["rectified"], then_branch=branch, else_branch=branch),
        helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], [first]),
        helper.make_node("TopK", [first, "k"], ["best", "which"]),
    ]
    outputs = {first: ["n", 5], "features": ["n", 4, SIDE, SIDE], "best": ["n", 1]}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [kernel, matrix, k, yes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def load(path: Path, **fields: Any) -> Classifier:
    preprocessing = {"resize": SIDE, "crop": SIDE, "mean": [0, 0, 0], "std": [1, 1, 1]}
    reference = OnnxModel.model_validate({"uri": path.as_uri(), "preprocessing": preprocessing, **fields})
    return load_classifier(reference, access=AccessRules(file_roots=(path.parent,)))


@pytest.mark.parametrize("select", ["scores", 0, -3])
@pytest.mark.parametrize("gradients", ["auto", "never"])
def test_the_selected_output_is_read(tmp_path: Path, select: str | int, gradients: str) -> None:
    path = write(tmp_path / "g.onnx")
    (expected,) = onnxruntime.InferenceSession(path.read_bytes()).run(["scores"], {"x": INPUTS})
    found = load(path, select=select, gradients=gradients).logits(torch.from_numpy(INPUTS))
    assert found.numpy() == pytest.approx(expected, abs=1e-5)


def test_logits_need_no_name(tmp_path: Path) -> None:
    path = write(tmp_path / "g.onnx", first="logits")
    (expected,) = onnxruntime.InferenceSession(path.read_bytes()).run(["logits"], {"x": INPUTS})
    assert load(path).logits(torch.from_numpy(INPUTS)).numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (None, "the graph has the outputs 'scores', 'features', 'best'; set `select` to the name or position"),
        ("score", "`select` is 'score', not one of 'scores', 'features', 'best'; set `select` to the name"),
        (3, "`select` is 3, not one of 'scores', 'features', 'best'; set `select` to the name"),
    ],
)
def test_an_output_that_is_not_there_is_named(tmp_path: Path, select: str | int | None, message: str) -> None:
    with pytest.raises(ModelOutputInvalid, match=message) as refused:
        load(write(tmp_path / "g.onnx"), select=select)
    assert refused.value.field == "model.select"


def test_what_only_other_outputs_need_is_not_computed(tmp_path: Path) -> None:
    """TopK has no gradient here, and a conversion of the whole graph would fail on it."""
    graph = onnx.load(str(write(tmp_path / "g.onnx")))
    keep_output(graph, "scores")
    assert [node.op_type for node in graph.graph.node] == ["Conv", "If", "GlobalAveragePool", "Flatten", "MatMul"]
    assert [output.name for output in graph.graph.output] == ["scores"]


def ended(path: Path, *operators: str, columns: int = 5) -> Path:
    """The first columns of the scores, and operators after them."""
    model = onnx.load(write(path))
    graph = model.graph
    del graph.output[:]
    given = {"ends": [columns], "begins": [0], "ones": [2, 3], "axes": [1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(value, np.int64), name) for name, value in given.items())
    graph.node.append(helper.make_node("Slice", ["scores", "begins", "ends", "axes"], ["part"]))
    values = ["part", *(f"then{number}" for number, _ in enumerate(operators))]
    for number, operator in enumerate(operators):
        also = ["ones"] if operator == "Unsqueeze" else []
        to = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
        graph.node.append(helper.make_node(operator, [values[number], *also], [values[number + 1]], **to))
    graph.output.append(helper.make_tensor_value_info(values[-1], TensorProto.FLOAT, None))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("operators", "fields", "columns", "said"),
    [
        (("Softmax",), {}, 5, "ends with softmax"),
        (("Softmax", "Cast"), {}, 5, "ends with softmax"),
        (("Sigmoid", "Unsqueeze"), {"scores": "sigmoid"}, 5, "ends with sigmoid"),
        # independent probabilities are not those of softmax
        (("Sigmoid",), {}, 5, "`outputs` to `probabilities` and `scores` to `sigmoid`"),
        (("Sigmoid",), {}, 1, "set `outputs` to `probabilities`$"),
        (("LogSoftmax",), {"scores": "sigmoid"}, 5, "set `outputs` to `log_probabilities`"),
    ],
)
@pytest.mark.parametrize("gradients", ["auto", "never"])
def test_a_graph_that_ends_with_probabilities_has_no_logits(
    tmp_path: Path, operators: tuple[str, ...], fields: dict[str, Any], columns: int, said: str, gradients: str
) -> None:
    path = ended(tmp_path / "g.onnx", *operators, columns=columns)
    with pytest.raises(ModelOutputInvalid, match=said) as caught:
        load(path, gradients=gradients, **fields)
    assert caught.value.field == "model.outputs"
    declared = "log_probabilities" if operators == ("LogSoftmax",) else "probabilities"
    softmax = operators[0] != "Sigmoid"
    scores = "softmax" if softmax else "sigmoid"
    assert load(path, gradients=gradients, outputs=declared, scores=scores).classes == max(2, columns)


@pytest.mark.parametrize("gradients", ["auto", "never"])
def test_axes_of_length_one_are_removed(tmp_path: Path, gradients: str) -> None:
    found = load(ended(tmp_path / "g.onnx", "Unsqueeze"), gradients=gradients).logits(torch.from_numpy(INPUTS))
    expected = load(ended(tmp_path / "h.onnx")).logits(torch.from_numpy(INPUTS))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
