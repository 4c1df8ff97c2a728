"""Graphs in the operators of today's exporters become PyTorch models with the same outputs."""

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
from auditcore.auditing import inspect_model
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import GradCam, Gradient, LrpEpsilonPlusFlat
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.errors import ModelOutputInvalid
from auditcore.explainers.registry import applicability
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.onnx_operators import in_older_operators
from auditcore.models.loading import load_classifier

SIDE = 32
OPSET = 20
PIXELS = digits.digit_pixels()[0][:4]
Node = Any


def constant(name: str, *numbers: int) -> Any:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def weights(name: str, *shape: int) -> Any:
    values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def write(
    path: Path, nodes: list[Node], constants: list[Any], *, batch: int | str = "n", shape: Any = (3, SIDE, SIDE)
) -> Path:
    """A graph from `x` to `scores` after a convolution `features` of 4 channels."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


CONV = helper.make_node("Conv", ["x", "kernel"], ["features"], pads=[1, 1, 1, 1])
KERNEL = weights("kernel", 4, 3, 3, 3)
HEAD = [
    helper.make_node("ReduceMean", ["maps", "axes"], ["means"], keepdims=1),
    helper.make_node("Reshape", ["means", "flat"], ["vector"], allowzero=1),
    helper.make_node("Gemm", ["vector", "matrix"], ["scores"]),
]
CONSTANTS = [KERNEL, constant("axes", -1, -2), weights("matrix", 4, 5)]
FLAT = constant("flat", -1, 4)

MIDDLES: dict[str, tuple[list[Node], list[Any]]] = {
    "Relu": ([helper.make_node("Relu", ["features"], ["maps"])], []),
    "Gelu": ([helper.make_node("Gelu", ["features"], ["maps"])], []),
    "Gelu tanh": ([helper.make_node("Gelu", ["features"], ["maps"], approximate="tanh")], []),
    "Mish": ([helper.make_node("Mish", ["features"], ["maps"])], []),
    "AveragePool": (
        [helper.make_node("AveragePool", ["features"], ["maps"], kernel_shape=[2, 2], dilations=[1, 1])],
        [],
    ),
    "Pad": (
        [helper.make_node("Pad", ["features", "pads", "", "two"], ["maps"])],
        [constant("pads", 1, 0, 2, 3), constant("two", 3, -2)],
    ),
    "Split": (
        [
            helper.make_node("Split", ["features"], ["a", "b"], axis=1, num_outputs=2),
            helper.make_node("Concat", ["b", "a"], ["maps"], axis=1),
        ],
        [],
    ),
    "ReduceMax": (
        [
            helper.make_node("ReduceMax", ["features", "one"], ["peak"]),
            helper.make_node("Sub", ["features", "peak"], ["maps"]),
        ],
        [constant("one", 1)],
    ),
    "Shape": (
        [
            helper.make_node("Shape", ["features"], ["sizes"], start=0, end=2),
            helper.make_node("Concat", ["sizes", "rest"], ["target"], axis=0),
            helper.make_node("Reshape", ["features", "target"], ["lines"], allowzero=1),
            helper.make_node("Unsqueeze", ["lines", "last"], ["maps"]),
        ],
        [constant("rest", -1), constant("last", 3)],
    ),
    "GlobalMaxPool": (
        [
            helper.make_node("GlobalMaxPool", ["features"], ["peak"]),
            helper.make_node("Sub", ["features", "peak"], ["maps"]),
        ],
        [],
    ),
    "an empty reduction": (
        [helper.make_node("ReduceMean", ["features"], ["maps"], noop_with_empty_axes=1)],
        [],
    ),
}


def reference(path: Path, **changes: Any) -> OnnxModel:
    return OnnxModel.model_validate({"uri": path.as_uri(), "preprocessing": digits.PREPROCESSING, **changes})


def loaded(path: Path, **changes: Any) -> Classifier:
    return load_classifier(reference(path, **changes), access=AccessRules(file_roots=(path.parent,)))


def converts(path: Path, **changes: Any) -> Classifier:
    """The model as a white box, which answers as ONNX Runtime does."""
    found, runtime = loaded(path, **changes), loaded(path, gradients="never", **changes)
    assert found.source is None
    assert runtime.source is not None
    for images in (PIXELS, PIXELS[:1], PIXELS[:3]):
        torch.testing.assert_close(found.logits(images), runtime.logits(images), atol=1e-4, rtol=1e-4)
    return found


def middle(path: Path, name: str, *, batch: int | str = "n") -> Path:
    nodes, constants = MIDDLES[name]
    flat = FLAT if isinstance(batch, str) else constant("flat", batch, 4)
    return write(path, [CONV, *nodes, *HEAD], [*CONSTANTS, flat, *constants], batch=batch)


@pytest.mark.parametrize("name", MIDDLES)
def test_newer_operators_are_converted(name: str, tmp_path: Path) -> None:
    classifier = converts(middle(tmp_path / "g.onnx", name))
    assert applicability(classifier, Gradient()) is None
    assert applicability(classifier, GradCam()) is None
    assert classifier.notes == ()


def test_weights_may_be_constants(tmp_path: Path) -> None:
    """As Paddle's exporter writes them."""
    nodes = [helper.make_node("Constant", [], [one.name], value=one) for one in (*CONSTANTS, FLAT)]
    nodes += [CONV, helper.make_node("Relu", ["features"], ["maps"]), *HEAD]
    classifier = converts(write(tmp_path / "graph.onnx", nodes, []))
    assert applicability(classifier, GradCam()) is None
    assert applicability(classifier, LrpEpsilonPlusFlat()) is None
    assert classifier.parameters == sum(np.prod(one.dims) for one in (KERNEL, CONSTANTS[-1]))


def test_methods_that_replace_rules_reach_a_converted_graph(tmp_path: Path) -> None:
    classifier = converts(middle(tmp_path / "g.onnx", "Relu"))
    assert applicability(classifier, LrpEpsilonPlusFlat()) is None
    gelu = loaded(middle(tmp_path / "gelu.onnx", "Gelu"))
    assert any(isinstance(layer, nn.GELU) for layer in gelu.module.modules())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["Relu", "Pad", "Split"])
def test_a_fixed_batch_is_freed(name: str, batch: int, tmp_path: Path) -> None:
    classifier = converts(middle(tmp_path / "g.onnx", name, batch=batch))
    assert applicability(classifier, GradCam()) is None
    assert f"exported for {batch} images at a time" in classifier.notes[0]
    assert "any number of images at once" in classifier.notes[0]


def token(path: Path, *, batch: int) -> Path:
    """A class token as a constant for one batch: nothing in the graph says that it is repeated."""
    nodes = [
        CONV,
        helper.make_node("Reshape", ["features", "tokens"], ["rows"]),
        helper.make_node("Concat", ["token", "rows"], ["all"], axis=2),
        helper.make_node("ReduceMean", ["all", "last"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "matrix"], ["scores"]),
    ]
    constants = [
        *CONSTANTS,
        constant("tokens", batch, 4, SIDE * SIDE),
        constant("last", 2),
        weights("token", batch, 4, 1),
    ]
    return write(path, nodes, [one for one in constants if one.name != "axes"], batch=batch)


def test_a_graph_of_one_image_runs_image_by_image(tmp_path: Path) -> None:
    classifier = converts(token(tmp_path / "g.onnx", batch=1))
    assert "for one image at a time" in classifier.notes[0]
    assert applicability(classifier, Gradient()) is None
    # the passes of single images hide the layers, which is said and not guessed
    assert applicability(classifier, GradCam()) is not None
    assert applicability(classifier, LrpEpsilonPlusFlat()) is not None


def test_a_graph_of_several_images_that_cannot_be_freed_is_a_black_box(tmp_path: Path) -> None:
    classifier = loaded(token(tmp_path / "g.onnx", batch=2))
    assert classifier.source is not None
    assert "its conversion to PyTorch fails" in str(classifier.capabilities.conversion_failure)
    assert classifier.logits(PIXELS[:3]).shape == (3, 5)


def channels_last(path: Path) -> Path:
    nodes = [
        helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["maps"]),
        *HEAD,
    ]
    return write(path, nodes, [*CONSTANTS, FLAT], shape=(SIDE, SIDE, 3))


def test_channels_may_come_last(tmp_path: Path) -> None:
    path = channels_last(tmp_path / "g.onnx")
    with pytest.raises(ModelOutputInvalid, match="set `layout` to NHWC") as caught:
        loaded(path)
    assert caught.value.field == "model.layout"
    classifier = converts(path, layout="NHWC")
    first = loaded(middle(tmp_path / "first.onnx", "Relu"))
    torch.testing.assert_close(classifier.logits(PIXELS), first.logits(PIXELS), atol=1e-4, rtol=1e-4)
    for explainer in (GradCam(), LrpEpsilonPlusFlat()):
        assert applicability(classifier, explainer) is None
    with pytest.raises(ModelOutputInvalid, match="set `layout` to NCHW"):
        loaded(tmp_path / "first.onnx", layout="NHWC")


def test_height_and_width_may_be_dynamic(tmp_path: Path) -> None:
    nodes, constants = MIDDLES["Relu"]
    path = write(tmp_path / "g.onnx", [CONV, *nodes, *HEAD], [*CONSTANTS, FLAT, *constants], shape=(3, "h", "w"))
    converts(path)
    last = channels_last(tmp_path / "last.onnx")
    graph = onnx.load(str(last))
    for axis in (1, 2):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    last.write_bytes(graph.SerializeToString())
    converts(last, layout="NHWC")


def test_inspection_tells_why_a_graph_is_a_black_box(tmp_path: Path) -> None:
    path = write(
        tmp_path / "g.onnx",
        [
            CONV,
            helper.make_node("GridSample", ["features", "grid"], ["maps"]),
            *HEAD,
        ],
        [*CONSTANTS, FLAT, weights("grid", 1, 2, 2, 2)],
        batch=1,
    )
    found = inspect_model(InspectionRequest(model=reference(path)), access=AccessRules(file_roots=(tmp_path,)))
    reasons = {one.name: one.reason for one in found.explainers}
    assert "onnx2torch has no converter for GridSample" in str(reasons["gradient"])
    assert "send the model itself" not in str(reasons["gradient"])
    assert reasons["occlusion"] is None
    assert "GridSample" in str({one.name: one.reason for one in found.checks}["randomization"])
    assert found.capabilities is not None
    assert "GridSample" in str(found.capabilities.conversion_failure)


def test_a_graph_stays_as_it_is_where_the_older_operator_computes_something_else(tmp_path: Path) -> None:
    node = helper.make_node("AveragePool", ["features"], ["maps"], kernel_shape=[2, 2], dilations=[2, 2])
    path = write(tmp_path / "g.onnx", [CONV, node, *HEAD], [*CONSTANTS, FLAT])
    assert loaded(path).source is not None
    before = onnx.load(str(path))
    copy = onnx.ModelProto.FromString(before.SerializeToString())
    in_older_operators(before)
    assert before == copy


@pytest.mark.parametrize("external_data", [True, False])
@pytest.mark.parametrize("dynamic", ["batch", "nothing", "sizes"])
def test_the_exporter_of_pytorch_itself(*, dynamic: str, external_data: bool, tmp_path: Path) -> None:
    shapes: Any = {
        "batch": ({0: torch.export.Dim("n")},),
        "sizes": ({0: torch.export.Dim("n"), 2: 4 * torch.export.Dim("h"), 3: 4 * torch.export.Dim("w")},),
        "nothing": None,
    }[dynamic]
    network = digits.trained()
    if dynamic == "sizes":
        # a pooling to 2 x 2 positions depends on the sizes
        network = nn.Sequential(network.stem, network.down, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
        network.eval()
    path = tmp_path / "exported.onnx"
    example = torch.zeros(1 if dynamic == "nothing" else 2, 3, SIDE, SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=True,
            dynamic_shapes=shapes,
            external_data=external_data,
            verbose=False,
        )
    assert (tmp_path / "exported.onnx.data").exists() == external_data
    classifier = converts(path)
    inputs = classifier.normalize(PIXELS)
    with torch.no_grad():
        torch.testing.assert_close(classifier.score(inputs), network(inputs), atol=1e-4, rtol=1e-4)
    for explainer in (Gradient(), GradCam(), LrpEpsilonPlusFlat()):
        assert applicability(classifier, explainer) is None, explainer
