"""Tensors in a file or a message, in the safetensors format, read and written without any array library.

8 bytes with the length of a JSON header, little-endian; the header: name -> dtype, shape, data_offsets, and strings
under `__metadata__`; then the values. Reading one runs no code. Gateways look at uploaded maps so; servers are asked
so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

SIZES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "U8": 1}
"""Types that are read here, and the bytes of one value."""

MOST_HEADER_BYTES = 16 * 2**20
LENGTH_BYTES = 8


class TensorFileInvalid(ValueError):
    """The bytes are no tensors in this format; the message says why."""


@final
@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies.

    Attributes:
        dtype: A key of `SIZES`.
        shape: Sizes, none for a single value.
        start: First byte of its values, counted from the beginning of the file.
        stop: One past the last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@final
@dataclass(frozen=True)
class Layout:
    """What a file holds.

    Attributes:
        tensors: By name, in the order of the header.
        metadata: Strings beside them.
    """

    tensors: Mapping[str, TensorPlace]
    metadata: Mapping[str, str] = field(default_factory=dict)


def header_end(start: bytes, *, size: int) -> int:
    """Where the values begin, from the first 8 bytes of a file of `size` bytes.

    Raises:
        TensorFileInvalid: No header can begin so.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < LENGTH_BYTES or not 2 <= length <= min(size - LENGTH_BYTES, MOST_HEADER_BYTES):  # noqa: PLR2004 - {}
        msg = "it does not begin with the length of a header; save it with safetensors"
        raise TensorFileInvalid(msg)
    return LENGTH_BYTES + length


def read_layout(data: bytes, *, size: int | None = None) -> Layout:
    """What a file holds.

    Args:
        data: The file, or at least its header.
        size: Bytes of the whole file; those of `data` if None.

    Raises:
        TensorFileInvalid: It is damaged, or holds a type that is not read here.
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
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = "its header is damaged; save it again with safetensors"
        raise TensorFileInvalid(msg) from error
    return Layout(found, strings)


def _place(entry: Mapping[str, Any], end: int, size: int) -> TensorPlace:
    dtype, shape = str(entry["dtype"]), tuple(int(extent) for extent in entry["shape"])
    start, stop = (end + int(offset) for offset in entry["data_offsets"])
    if dtype not in SIZES:
        msg = f"it holds values of type {dtype}; those that are read are {', '.join(SIZES)}"
        raise TensorFileInvalid(msg)
    if min(shape, default=0) < 0 or not end <= start <= stop <= size or stop - start != math.prod(shape) * SIZES[dtype]:
        msg = "its header does not fit its values; save it again with safetensors"
        raise TensorFileInvalid(msg)
    return TensorPlace(dtype, shape, start, stop)


def write_tensors(
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """A file of some tensors.

    Args:
        tensors: Name -> type, shape, and values in C order, little-endian.
        metadata: Strings to go beside them.
    """
    header: dict[str, Any] = {} if not metadata else {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(values)]}
        offset += len(values)
    text = json.dumps(header, separators=(",", ":")).encode()
    # the format wants values aligned to 8 bytes
    text += b" " * (-len(text) % LENGTH_BYTES)
    return b"".join((len(text).to_bytes(LENGTH_BYTES, "little"), text, *(values for _, _, values in tensors.values())))
