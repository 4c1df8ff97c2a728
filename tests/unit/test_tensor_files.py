"""Tensors read and written without an array library, against safetensors itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from auditcore.tensor_files import SIZES, TensorFileInvalid, read_layout, write_tensors

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
FILE = safetensors.numpy.save({"b": VALUES, "a": np.array([7], np.int64)}, metadata={"note": "hello"})


def test_what_safetensors_writes_is_read() -> None:
    layout = read_layout(FILE)
    assert set(layout.tensors) == {"a", "b"}
    assert layout.metadata == {"note": "hello"}
    place = layout.tensors["b"]
    assert (place.dtype, place.shape) == ("F32", (2, 3, 4))
    np.testing.assert_array_equal(np.frombuffer(FILE[place.start : place.stop], np.float32).reshape(2, 3, 4), VALUES)


def test_the_header_is_enough_if_the_size_is_known() -> None:
    end = min(place.start for place in read_layout(FILE).tensors.values())
    assert read_layout(FILE[:end], size=len(FILE)) == read_layout(FILE)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2),
)
def test_safetensors_reads_what_is_written(shape: tuple[int, ...], metadata: dict[str, str]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    written = write_tensors({"x": ("F32", shape, values.tobytes())}, metadata)
    np.testing.assert_array_equal(safetensors.numpy.load(written)["x"], values)
    assert read_layout(written).metadata == metadata


def header(entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 this is a zip",
        (10**9).to_bytes(8, "little") + b"{}",
        header([1, 2]),
        header({"x": {"dtype": "F32"}}),
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + b"\0" * 4,
        header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}) + b"\0" * 4,
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}) + b"\0" * 4,
        header({"x": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}) + b"\0" * 4,
        header({"x": 3}),
        header({"__metadata__": 3}),
        (6).to_bytes(8, "little") + b"{nope}",
    ],
)
def test_damaged_files_are_refused(data: bytes) -> None:
    with pytest.raises(TensorFileInvalid):
        read_layout(data)


def test_a_truncated_file_is_told_from_a_damaged_one() -> None:
    with pytest.raises(TensorFileInvalid, match=rf"ends after {len(FILE) - 1} of at least {len(FILE)} bytes"):
        read_layout(FILE[:-1])


def test_sizes_are_those_of_the_types() -> None:
    # NumPy has no bfloat16, which is the upper half of a float32
    names = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "U8": "u1"}
    assert {name: np.dtype(names[name]).itemsize for name in SIZES} == dict(SIZES)
