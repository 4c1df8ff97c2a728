"""Tensors in requests and answers of the Open Inference Protocol: as JSON, and by the binary extension.

The binary extension, which Triton and KServe share, sends a JSON header, whose length is in the HTTP header
`Inference-Header-Content-Length`, and after it the bytes of the tensors.
"""

from __future__ import annotations

import array
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from auditcore.errors import InvalidRequest
from auditcore.sources.servers.answers import Body
from auditcore.sources.servers.open_inference.metadata import Signature
from auditcore.sources.servers.tensors import RawTensor

HEADER_LENGTH = "Inference-Header-Content-Length"

JSON_BYTES_A_VALUE = 16
"""Most bytes of a float32 in JSON, with the nine digits that tell it from every other: `-1.23456789e-05,`."""

ID = "auditcore"
"""`id` of every request. The protocol calls it optional, but KServe 0.21 fails without one."""

FLOATS: Mapping[str, str] = {"FP32": "f", "FP64": "d", "FP16": "e"}
"""Tensor types that are read and written here -> the format character of `struct`."""


def bytes_of_value(signature: Signature) -> int:
    """Most bytes of one number in a request."""
    if signature.encoding == "json":
        return JSON_BYTES_A_VALUE
    return struct.calcsize(FLOATS[signature.input.datatype])


def request_body(batch: RawTensor, signature: Signature) -> Body:
    """A request for the outputs of a batch, which has the layout that the server wants.

    Raises:
        InvalidRequest: The images have values that the type of the server's tensor cannot hold.
    """
    tensor: dict[str, Any] = {
        "name": signature.input.name,
        "shape": list(batch.shape),
        "datatype": signature.input.datatype,
    }
    output: dict[str, Any] = {"name": signature.output}
    if signature.encoding == "json":
        return Body(_json_body(tensor, output, batch.data))
    data = _converted(batch.data, signature.input.datatype)
    tensor["parameters"] = {"binary_data_size": len(data)}
    output["parameters"] = {"binary_data": True}
    header = json.dumps({"id": ID, "inputs": [tensor], "outputs": [output]}).encode()
    return Body(header + data, "application/octet-stream", {HEADER_LENGTH: str(len(header))})


def values_of(tensor: Mapping[str, Any], datatype: str, data: bytes | None) -> array.array[float]:
    """The numbers of a tensor in an answer.

    Args:
        tensor: Its JSON.
        datatype: Its type, a key of `FLOATS`.
        data: Its bytes; None if the numbers are in the JSON.

    Raises:
        KeyError: The JSON has no `data`.
        TypeError: `data` is no list of numbers.
        ValueError: The bytes are not a whole number of values, or the text is no number.
        OverflowError: A number is too large for float32.
    """
    return array.array("f", _flat(tensor["data"]) if data is None else _floats(data, datatype))


def channels_last(batch: RawTensor) -> RawTensor:
    """(N,3,H,W) as (N,H,W,3)."""
    count, channels, height, width = batch.shape
    # the numbers are moved and not read, so their byte order does not matter
    values, moved = array.array("f", batch.data), array.array("f", bytes(len(batch.data)))
    plane = height * width
    for image in range(count):
        start = image * channels * plane
        for channel in range(channels):
            own = values[start + channel * plane : start + (channel + 1) * plane]
            moved[start + channel : start + channels * plane : channels] = own
    return RawTensor((count, height, width, channels), moved.tobytes())


def first_rows(outputs: RawTensor, rows: int) -> RawTensor:
    """The first rows of the outputs; the others answer images that only filled a fixed batch."""
    if not outputs.shape or outputs.shape[0] <= rows:
        return outputs
    row = len(outputs.data) // outputs.shape[0]
    return RawTensor((rows, *outputs.shape[1:]), outputs.data[: rows * row])


def _flat(data: object) -> list[float]:
    """Values of a JSON tensor, which may be nested or flat."""
    if isinstance(data, list):
        return [value for one in data for value in (_flat(one) if isinstance(one, list) else [float(one)])]
    msg = f"data is {type(data).__name__}, not a list"
    raise TypeError(msg)


def _json_body(tensor: Mapping[str, Any], output: Mapping[str, Any], data: bytes) -> bytes:
    """A request with its numbers as text.

    Nine digits identify a float32; `json` would write the seventeen digits of a double.
    """
    numbers = ",".join([f"{value:.9g}" for value in _floats(data, "FP32")])
    described = json.dumps(tensor)[:-1]
    return (
        f'{{"id": "{ID}", "inputs": [{described}, "data": [{numbers}]}}], "outputs": [{json.dumps(output)}]}}'.encode()
    )


def _floats(data: bytes, datatype: str) -> Sequence[float]:
    """Numbers of a tensor of this type, little-endian.

    Raises:
        ValueError: The bytes are not a whole number of them.
    """
    size = struct.calcsize(FLOATS[datatype])
    if len(data) % size:
        msg = f"{len(data)} bytes are not a whole number of {datatype} values"
        raise ValueError(msg)
    return struct.unpack(f"<{len(data) // size}{FLOATS[datatype]}", data)


def _converted(data: bytes, datatype: str) -> bytes:
    """Bytes of float32 as those of another type."""
    if datatype == "FP32":
        return data
    values = _floats(data, "FP32")
    try:
        return struct.pack(f"<{len(values)}{FLOATS[datatype]}", *values)
    except OverflowError as error:
        msg = f"the images have values beyond the range of {datatype}, the server's type; check `mean` and `std`"
        raise InvalidRequest(msg, field="model.preprocessing") from error
