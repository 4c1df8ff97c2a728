"""Graphs of today's exporters in the older operators that onnx2torch converts.

onnx2torch 1.5 has no converters for most operators of opset 18 and later, although few have changed: axes became an
input, types were added, and attributes with a default that means "as before". A graph is rewritten only where the older
operator computes the same, and the loader compares the result with ONNX Runtime.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import nn
from torch.nn import functional

Proto = Any
"""A message of onnx, which publishes no types for them."""

OLDER_OPSET = 17
"""Version of the operators for which onnx2torch 1.5 has nearly all of its converters."""

DOMAIN = "auditcore"
"""Domain of the operators that this module converts itself."""

_REDUCTIONS = frozenset(
    {
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSumSquare"),
    }
)
"""Operators whose axes are an attribute before version 18; those of `ReduceSum` are an input since 13."""

_WITHOUT_EFFECT: Mapping[str, Mapping[str, Any]] = {
    "AveragePool": {"dilations": 1},
    "Cast": {"saturate": 1, "round_mode": b"up"},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
}
"""Newer attributes, and the value with which they change nothing."""


@final
class Reshape(nn.Module):
    """A reshape to sizes that the graph gives as numbers; 0 keeps a size."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        """Keep the sizes."""
        super().__init__()
        self.sizes = sizes

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - a tensor, or its symbol while torch.fx traces
        """The same values in another shape."""
        return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(self.sizes)])


@final
class GroupNormalization(nn.Module):
    """A normalization over groups of channels, with a scale and a bias for each channel."""

    def __init__(self, groups: int, epsilon: float) -> None:
        """Keep the parameters."""
        super().__init__()
        self.groups = groups
        self.epsilon = epsilon

    def forward(self, x: Any, scale: Any, bias: Any) -> Any:  # noqa: ANN401 - as above
        """Normalized values of the same shape."""
        return functional.group_norm(x, self.groups, scale, bias, self.epsilon)


@final
@dataclass(frozen=True)
class _Graph:
    """A graph and what is known of its values.

    Attributes:
        model: The `ModelProto`, changed in place.
        constants: Values of initializers, by name.
        shapes: Sizes of other values, by name; None for a size that is not fixed.
    """

    model: Proto
    constants: Mapping[str, Proto]
    shapes: Mapping[str, tuple[int | None, ...]]

    def constant(self, node: Proto, place: int) -> list[int] | None:
        """The whole numbers of an input of a node; None if there is none or it is computed."""
        if len(node.input) <= place or node.input[place] not in self.constants:
            return None
        from onnx import numpy_helper  # noqa: PLC0415 - an extra

        return [int(one) for one in numpy_helper.to_array(self.constants[node.input[place]]).reshape(-1)]


def in_older_operators(model: Proto, *, free_batch: int | None = None) -> Proto:
    """A copy of a graph in operators of version 17, some of them in the domain of this module.

    Args:
        model: A `ModelProto` without external data.
        free_batch: Batch size for which the graph was exported, to let the copy take any batch; None to change nothing.
    """
    import onnx  # noqa: PLC0415 - an extra
    from onnx import inliner, shape_inference  # noqa: PLC0415 - an extra

    _add_converters()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = inliner.inline_local_functions(copy)
    _constants_as_initializers(copy.graph)
    copy = shape_inference.infer_shapes(copy)
    graph = _Graph(copy, {one.name: one for one in copy.graph.initializer}, dict(_shapes(copy.graph)))
    for node in copy.graph.node:
        if node.domain in {"", "ai.onnx"}:
            _rewrite(node, graph, free_batch)
    if free_batch is not None:
        for value in (*copy.graph.input, *copy.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        # they hold the batch size, which is no longer fixed
        copy.graph.ClearField("value_info")
    others = [one for one in copy.opset_import if one.domain not in {"", "ai.onnx"}]
    own = [onnx.helper.make_opsetid("", OLDER_OPSET), onnx.helper.make_opsetid(DOMAIN, 1)]
    del copy.opset_import[:]
    copy.opset_import.extend([*own, *others])
    return copy


def without_converter(model: Proto) -> tuple[str, ...]:
    """Names of the operators of a graph for which onnx2torch has no converter."""
    from onnx2torch.node_converters import get_converter  # noqa: PLC0415 - an extra

    versions = {one.domain: one.version for one in model.opset_import}
    found = []
    for node in model.graph.node:
        try:
            get_converter(node.op_type, versions.get(node.domain, 1), node.domain)
        except NotImplementedError:
            found.append(f"{node.domain}.{node.op_type}".removeprefix("."))
    return tuple(dict.fromkeys(found))


def _rewrite(node: Proto, graph: _Graph, free_batch: int | None) -> None:
    """Change a node in place to the older operator, if that computes the same."""
    for name, neutral in _WITHOUT_EFFECT.get(node.op_type, {}).items():
        value = _attribute(node, name)
        if value is not None and all(one == neutral for one in ([value] if isinstance(value, int | bytes) else value)):
            _drop(node, name)
    if node.op_type in _REDUCTIONS:
        _axes_as_attribute(node, graph)
    rewrite = _REWRITES.get(node.op_type)
    if rewrite is not None:
        rewrite(node, graph, free_batch)


def _axes_as_attribute(node: Proto, graph: _Graph) -> None:
    axes = graph.constant(node, 1)
    keeps = bool(_attribute(node, "noop_with_empty_axes"))
    if axes is None and len(node.input) > 1 and node.input[1]:
        return
    if not axes and keeps:
        node.op_type = "Identity"
        del node.attribute[:]
    elif axes:
        _set(node, "axes", axes)
    _drop(node, "noop_with_empty_axes")
    del node.input[1:]


def _reshape(node: Proto, graph: _Graph, free_batch: int | None) -> None:
    sizes = graph.constant(node, 1)
    zeros = bool(_attribute(node, "allowzero"))
    # a size of 0 would make an empty tensor, which no classifier has
    _drop(node, "allowzero")
    if sizes is None:
        return
    if free_batch is not None:
        sizes = _any_batch(node, graph, sizes)
    if not (zeros and 0 in sizes):
        del node.input[1:]
        node.domain = DOMAIN
        _set(node, "sizes", sizes)


def _any_batch(node: Proto, graph: _Graph, sizes: list[int]) -> list[int]:
    """Sizes for which the first one follows from the number of values, so that it may be any multiple of the batch."""
    whole = graph.shapes.get(node.output[0])
    if whole is None or None in whole or len(whole) != len(sizes) or not whole:
        return sizes
    return [-1, *(size for size in whole[1:] if size is not None)]


def _pad(node: Proto, graph: _Graph, _free_batch: int | None) -> None:
    pads, axes = graph.constant(node, 1), graph.constant(node, 3)
    if axes is None:
        return
    shape = graph.shapes.get(node.input[0])
    if pads is None or shape is None:
        return
    rank = len(shape)
    full = [0] * (2 * rank)
    for place, axis in enumerate(axes):
        full[axis % rank] = pads[place]
        full[rank + axis % rank] = pads[len(axes) + place]
    node.input[1] = _add_constant(graph, node.output[0] + "_pads", full)
    del node.input[3:]


def _split(node: Proto, graph: _Graph, _free_batch: int | None) -> None:
    parts = _attribute(node, "num_outputs")
    if parts is None:
        return
    shape = graph.shapes.get(node.input[0])
    size = None if shape is None else shape[_attribute(node, "axis") or 0]
    if size is not None:
        part = math.ceil(size / parts)
        sizes = [min(part, size - part * number) for number in range(parts)]
        del node.input[1:]
        node.input.append(_add_constant(graph, node.output[0] + "_sizes", sizes))
    _drop(node, "num_outputs")


def _own(node: Proto, _graph: _Graph, _free_batch: int | None) -> None:
    """Leave an operator to a converter of this module."""
    node.domain = DOMAIN


_REWRITES: Mapping[str, Callable[[Proto, _Graph, int | None], None]] = {
    "Reshape": _reshape,
    "Pad": _pad,
    "Split": _split,
    "Gelu": _own,
    "GlobalMaxPool": _own,
    "GroupNormalization": _own,
    "Mish": _own,
}


@functools.cache
def _add_converters() -> None:
    """Give onnx2torch converters for the operators in the domain of this module."""
    from onnx2torch.node_converters.registry import add_converter  # noqa: PLC0415 - an extra
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node  # noqa: PLC0415 - an extra

    def converter(build: Callable[[Mapping[str, Any]], nn.Module]) -> Callable[[Any, Any], Any]:
        def convert(node: Proto, _graph: Proto) -> Any:  # noqa: ANN401 - onnx2torch publishes no types
            module = build(node.attributes)
            return OperationConverterResult(torch_module=module, onnx_mapping=onnx_mapping_from_node(node=node))

        return convert

    for name, build in _MODULES.items():
        add_converter(name, version=1, domain=DOMAIN)(converter(build))


_MODULES: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "Reshape": lambda attributes: Reshape(tuple(attributes["sizes"])),
    "Gelu": lambda attributes: nn.GELU(approximate=attributes.get("approximate", "none")),
    "GlobalMaxPool": lambda _: nn.AdaptiveMaxPool2d(1),
    "GroupNormalization": lambda attributes: GroupNormalization(
        attributes["num_groups"], attributes.get("epsilon", 1e-5)
    ),
    "Mish": lambda _: nn.Mish(),
}


def _constants_as_initializers(graph: Proto) -> None:
    """Turn constants into initializers, where onnx2torch looks for weights. Paddle's exporter writes constants."""
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            graph.initializer.add().CopyFrom(node.attribute[0].t)
            graph.initializer[-1].name = node.output[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _shapes(graph: Proto) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = value.type.tensor_type.shape.dim
            yield value.name, tuple(one.dim_value if one.HasField("dim_value") else None for one in sizes)


def _attribute(node: Proto, name: str) -> Any:  # noqa: ANN401 - of any type
    from onnx import helper  # noqa: PLC0415 - an extra

    found = next((one for one in node.attribute if one.name == name), None)
    return None if found is None else helper.get_attribute_value(found)


def _drop(node: Proto, name: str) -> None:
    kept = [one for one in node.attribute if one.name != name]
    if len(kept) != len(node.attribute):
        del node.attribute[:]
        node.attribute.extend(kept)


def _set(node: Proto, name: str, value: list[int]) -> None:
    from onnx import AttributeProto, helper  # noqa: PLC0415 - an extra

    _drop(node, name)
    node.attribute.append(helper.make_attribute(name, value, attr_type=AttributeProto.INTS))


def _add_constant(graph: _Graph, name: str, numbers: list[int]) -> str:
    import numpy as np  # noqa: PLC0415 - beside onnx
    from onnx import numpy_helper  # noqa: PLC0415 - an extra

    graph.model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name
