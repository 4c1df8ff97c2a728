"""Read and write tensors in the safetensors format, in files and messages, without an array library.

The format: 8 bytes with the length of a JSON header, little-endian; the header, which maps a name to dtype, shape and
data_offsets, and has strings under `__metadata__`; then the values. Reading a file runs no code. The gateway reads
uploaded maps with this module, and requests to model servers are written with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

SIZES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}
"""Supported types, and the size of one value in bytes."""

MOST_HEADER_BYTES = 16 * 2**20
LENGTH_BYTES = 8


class TensorFileInvalid(ValueError):
    """The bytes are not a valid file in this format; the message says why."""


@final
@dataclass(frozen=True)
class TensorPlace:
    """Position of a tensor in a file.

    Attributes:
        dtype: A key of `SIZES`.
        shape: Sizes of its axes; empty for a single value.
        start: First byte of its values, counted from the beginning of the file.
        stop: One past the last byte.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@final
@dataclass(frozen=True)
class Layout:
    """Contents of a file.

    Attributes:
        tensors: Positions of the tensors by name, in the order of the header.
        metadata: Strings of the header.
    """

    tensors: Mapping[str, TensorPlace]
    metadata: Mapping[str, str] = field(default_factory=dict)


def header_end(start: bytes, *, size: int) -> int:
    """Return the offset of the values, from the first 8 bytes of a file of `size` bytes.

    Raises:
        TensorFileInvalid: These bytes are not the length of a header.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < LENGTH_BYTES or not 2 <= length <= min(size - LENGTH_BYTES, MOST_HEADER_BYTES):  # noqa: PLR2004 - {}
        msg = "it does not begin with the length of a header; save it with safetensors"
        raise TensorFileInvalid(msg)
    return LENGTH_BYTES + length


def read_layout(data: bytes, *, size: int | None = None) -> Layout:
    """Read the header of a file.

    Args:
        data: The file, or at least its header.
        size: Size of the whole file in bytes; the size of `data` if None.

    Raises:
        TensorFileInvalid: The file is damaged or contains an unsupported type.
    """
    size = len(data) if size is None else size
    end = header_end(data, size=size)
    try:
        header = json.loads(data[LENGTH_BYTES:end])
        metadata = header.pop("__metadata__", {}) or {}
        found = {str(name): _place(entry, end, size) for name, entry in header.items()}
        strings = {str(name): str(text) for name, text in metadata.items()}
    except TensorFileInvalid:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        msg = "its header is damaged; save it again with safetensors"
        raise TensorFileInvalid(msg) from error
    return Layout(found, strings)


def _place(entry: Mapping[str, Any], end: int, size: int) -> TensorPlace:
    dtype, shape = str(entry["dtype"]), tuple(int(extent) for extent in entry["shape"])
    start, stop = (end + int(offset) for offset in entry["data_offsets"])
    if dtype not in SIZES:
        msg = f"it contains values of type {dtype}; supported types are {', '.join(SIZES)}"
        raise TensorFileInvalid(msg)
    if size < stop and end <= start <= stop:
        msg = f"it ends after {size} of at least {stop} bytes; send it again in full"
        raise TensorFileInvalid(msg)
    if min(shape, default=0) < 0 or not end <= start <= stop <= size or stop - start != math.prod(shape) * SIZES[dtype]:
        msg = "its header does not match its values; save it again with safetensors"
        raise TensorFileInvalid(msg)
    return TensorPlace(dtype, shape, start, stop)


def write_tensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Write tensors as the bytes of a file.

    Args:
        tensors: Name -> type, shape, and values in C order, little-endian.
        metadata: Strings for the header.
    """
    header: dict[str, Any] = {} if not metadata else {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(values)]}
        offset += len(values)
    text = json.dumps(header, separators=(",", ":")).encode()
    # the format requires values aligned to 8 bytes
    text += b" " * (-len(text) % LENGTH_BYTES)
    return b"".join((len(text).to_bytes(LENGTH_BYTES, "little"), text, *(values for _, _, values in tensors.values())))
