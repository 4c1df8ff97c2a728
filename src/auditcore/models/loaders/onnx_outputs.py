"""The output of an ONNX graph that has the class scores, if it has several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from auditcore.contracts.outputs import Select
from auditcore.errors import ModelOutputInvalid
from auditcore.models.adapted import LOGITS, SELECT_FIELD

_KEEPING = frozenset(
    {
        *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather"),
        *("Cast", "Clip", "QuantizeLinear", "DequantizeLinear"),
    }
)
"""Operators that move, round or limit the values of their first input."""


def keep_output(graph: Any, select: Select | None) -> None:  # noqa: ANN401 - onnx publishes no types
    """Leave only the output with the class scores in a graph, and the nodes that it needs.

    Args:
        graph: An `onnx.ModelProto`, which is changed.
        select: Position or name of the output; None for the only one, or the one called `logits`.

    Raises:
        ModelOutputInvalid: There is no such output.
    """
    names = [output.name for output in graph.graph.output]
    try:
        chosen = _position(names, select)
    except (ValueError, IndexError) as error:
        listed = ", ".join(map(repr, names))
        found = (
            f"the graph has the outputs {listed}" if select is None else f"`select` is {select!r}, not one of {listed}"
        )
        msg = f"{found}; set `select` to the name or position of the output with the class scores"
        raise ModelOutputInvalid(msg, field=SELECT_FIELD) from error
    if len(names) == 1:
        return
    for position in reversed(range(len(names))):
        if position != chosen % len(names):
            del graph.graph.output[position]
    # nodes are in the order in which they can be computed, so those that need a value follow the one that makes it
    needed = {names[chosen]}
    for position in reversed(range(len(graph.graph.node))):
        node = graph.graph.node[position]
        if needed.isdisjoint(node.output):
            del graph.graph.node[position]
        else:
            needed.update(_read_by(node))


def last_operation(graph: Any) -> str:  # noqa: ANN401 - onnx publishes no types
    """Name of the last operator that computes the values of the only output, in lower case; empty if there is none.

    Args:
        graph: An `onnx.ModelProto` with one output.
    """
    nodes = {name: node for node in graph.graph.node for name in node.output}
    wanted = graph.graph.output[0].name
    while (node := nodes.get(wanted)) is not None and node.op_type in _KEEPING:
        wanted = node.input[0]
    return "" if node is None else node.op_type.lower()


def _position(names: list[str], select: Select | None) -> int:
    """Position of the output with the class scores; ValueError or IndexError if there is none."""
    if select is None:
        return 0 if len(names) == 1 else names.index(LOGITS)
    if isinstance(select, str):
        return names.index(select)
    names[select]
    return select


def _read_by(node: Any) -> Iterator[str]:  # noqa: ANN401 - onnx publishes no types
    """Names of the values that a node reads, also within its branches and loops."""
    yield from node.input
    for attribute in node.attribute:
        for part in (attribute.g, *attribute.graphs):
            yield from (output.name for output in part.output)
            for inner in part.node:
                yield from _read_by(inner)
