"""Data of ONNX graphs in other files: read by this project where exporters put it, and refused everywhere else.

No library that reads the graph opens a file: the data becomes part of the graph first, and what is left is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from auditcore.errors import LimitExceeded, ModelNotLoadable, UnsafeReference

TENSOR = "onnx.TensorProto"
NODE = "onnx.NodeProto"

OPENS_FILES = frozenset({"EPContext"})
"""Operators of ONNX Runtime that read a file named in an attribute."""

ONE_FILE = "save it as one file: onnx.save(onnx.load(path), path)"

NAMED_CHARACTERS = 80
"""Characters of a name in the graph that an error repeats."""


MOST_GRAPH_BYTES = 2**31 - 1
"""Size of the largest message of protocol buffers; ONNX Runtime is given the whole graph as one."""


def include_external_data(model: Any, read: Callable[[str], bytes], *, field: str) -> dict[str, bytes]:  # noqa: ANN401 - onnx publishes no types
    """Put the data of initializers that is in other files into the graph itself.

    Only initializers of the main graph are changed, where exporters put external data. The caller refuses all
    other external data afterwards, with `refuse_external_data`.

    Args:
        model: A parsed `ModelProto`, changed in place.
        read: Returns the bytes of a file beside the graph; it refuses a name that is not plain or not allowed.
        field: Path in the request, for errors.

    Returns:
        The files that were read, by name.

    Raises:
        ModelNotLoadable: A tensor has a type of no fixed size, or its place in the file does not fit its shape.
        LimitExceeded: The graph and its data are too large for one message.
        InputError: As `read`.
    """
    files: dict[str, bytes] = {}
    total = model.ByteSize()
    for tensor in model.graph.initializer:
        if tensor.data_location != tensor.EXTERNAL or tensor.raw_data:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        if not place.get("location") or place.keys() - {"location", "offset", "length", "checksum"}:
            continue
        name = place["location"]
        if name not in files:
            files[name] = read(name)
        begin, end = _span(tensor, place, len(files[name]), field)
        total += end - begin
        if total > MOST_GRAPH_BYTES:
            raise LimitExceeded(
                what="the graph with its data", limit=MOST_GRAPH_BYTES, actual=total, unit="bytes", field=field
            )
        tensor.raw_data = files[name][begin:end]
        tensor.ClearField("external_data")
        tensor.data_location = tensor.DEFAULT
    return files


def _span(tensor: Any, place: Mapping[str, str], size: int, field: str) -> tuple[int, int]:  # noqa: ANN401 - onnx publishes no types
    """First byte and end of a tensor in its file."""
    from onnx import helper  # noqa: PLC0415 - an extra

    count = 1
    for one in tensor.dims:
        count *= one
    try:
        needed = count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        begin = int(place.get("offset") or 0)
        length = int(place.get("length") or needed)
    except (KeyError, ValueError) as error:
        msg = f"tensor {_named(tensor)} has a type or a place in {place['location']!r} that cannot be read; {ONE_FILE}"
        raise ModelNotLoadable(msg, field=field) from error
    if length != needed or count < 0 or not 0 <= begin <= begin + length <= size:
        msg = (
            f"tensor {_named(tensor)} needs {needed} bytes from byte {begin} of {place['location']!r}; the file has "
            f"{size} bytes, and the graph gives it {length} of them; export both again"
        )
        raise ModelNotLoadable(msg, field=field)
    return begin, begin + length


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
                f"{ONE_FILE}"
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
