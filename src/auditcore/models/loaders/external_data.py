"""Refusal of ONNX graphs that would make a reader open other files, directly after they are parsed."""

from __future__ import annotations

from typing import Any

from auditcore.errors import UnsafeReference

TENSOR = "onnx.TensorProto"
NODE = "onnx.NodeProto"

OPENS_FILES = frozenset({"EPContext"})
"""Operators of ONNX Runtime that read a file named in an attribute."""

NAMED_CHARACTERS = 80
"""Characters of a name in the graph that an error repeats."""


def refuse_external_data(model: Any, *, field: str) -> None:  # noqa: ANN401 - onnx publishes no types
    """Refuse a model with any part in another file.

    Every message inside the model is visited, in every field: initializers, attributes of nodes, subgraphs, functions,
    sparse tensors, training information, and fields that later versions of ONNX add.

    Args:
        model: A parsed `ModelProto` without unknown fields.
        field: Path in the request, for errors.

    Raises:
        UnsafeReference: A tensor or an operator names a file; the message says which and how to save the model.
    """
    waiting = [("", model)]
    while waiting:
        place, message = waiting.pop()
        kind = message.DESCRIPTOR.full_name
        if kind == TENSOR and (message.data_location != message.DEFAULT or message.external_data):
            msg = (
                f"tensor {_named(message)} at {place} keeps its data in another file, whose path could lead anywhere; "
                "save it as one file: onnx.save(onnx.load(path), path)"
            )
            raise UnsafeReference(msg, field=field)
        if kind == NODE and message.op_type in OPENS_FILES:
            msg = f"node {_named(message)} at {place} is an {message.op_type}, which can read files; export without it"
            raise UnsafeReference(msg, field=field)
        for descriptor, value in message.ListFields():
            if descriptor.message_type is None:
                continue
            inside = f"{place}.{descriptor.name}".lstrip(".")
            if hasattr(value, "ListFields"):
                waiting.append((inside, value))
            else:
                waiting.extend((f"{inside}.{number}", entry) for number, entry in enumerate(value))


def _named(message: Any) -> str:  # noqa: ANN401 - onnx publishes no types
    return repr(message.name[:NAMED_CHARACTERS])
