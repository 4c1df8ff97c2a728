"""Names of further files in an ONNX graph or in an index of safetensors, found without the libraries that open them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from auditcore.errors import ModelNotLoadable

MOST_INDEX_BYTES: Final = 16 * 2**20

_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}
"""Wire types with a fixed number of bytes."""

# field numbers of onnx.proto, which its format fixes: ModelProto.graph, GraphProto.initializer,
# TensorProto.external_data
_EXTERNAL: Final = (7, 5, 13)
_KEY, _VALUE = 1, 2


def external_files(graph: Path) -> tuple[str, ...]:
    """Names of the files in which the weights of an ONNX graph are, in order; none if the file is damaged.

    Only initializers of the main graph count, where exporters put them. The loader refuses external data elsewhere.
    """
    if graph.stat().st_size == 0:
        return ()
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            entries = list(_inside(data, (0, len(data)), _EXTERNAL))
            pairs = [{number: data[start:end] for number, start, end in _fields(data, *entry)} for entry in entries]
        except (ValueError, IndexError):
            return ()
    named = [pair[_VALUE] for pair in pairs if pair.get(_KEY) == b"location" and _VALUE in pair]
    return tuple(dict.fromkeys(name.decode(errors="replace") for name in named))


def shards_of(index: bytes, *, field: str) -> dict[str, str]:
    """Name of a tensor -> name of the file in which it is, from `model.safetensors.index.json`.

    Raises:
        ModelNotLoadable: The file is no such index.
    """
    try:
        content = json.loads(index)
        names = content["weight_map"]
        if not names or not all(isinstance(file, str) for file in names.values()):
            raise ValueError  # noqa: TRY301 - one message for everything that is no index
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = "the JSON file is no index of safetensors (`weight_map`: name of a tensor to name of a file)"
        raise ModelNotLoadable(msg, field=field) from error
    return {str(name): file for name, file in names.items()}


def _inside(data: mmap.mmap, span: tuple[int, int], path: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where the messages at the end of a path of field numbers are."""
    if not path:
        yield span
        return
    for number, start, end in _fields(data, *span):
        if number == path[0]:
            yield from _inside(data, (start, end), path[1:])


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first byte and end of every length-delimited field of a message of protocol buffers."""
    while start < end:
        tag, start = _varint(data, start)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            size, start = _varint(data, start)
            if start + size > end:
                msg = "a field is longer than its message"
                raise ValueError(msg)
            yield tag >> 3, start, start + size
            start += size
        elif wire == 0:
            _, start = _varint(data, start)
        else:
            start += _FIXED.get(wire, end)


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A whole number and the place after it."""
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number has no highest bit
            return value, start
        if shift > 63:  # noqa: PLR2004 - numbers have 64 bits
            msg = "a number is too long"
            raise ValueError(msg)
