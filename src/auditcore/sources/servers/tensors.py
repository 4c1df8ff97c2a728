"""Tensors in requests and answers: a shape and bytes, without an array library."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class RawTensor:
    """A float32 tensor.

    Attributes:
        shape: Size of each axis; the first is the number of images.
        data: Values in C order, little-endian, 4 bytes each.
    """

    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, shape: tuple[int, ...], values: Iterable[float]) -> RawTensor:
        """A tensor of these values, in C order."""
        return cls(shape, _little(array.array("f", values)).tobytes())

    def __len__(self) -> int:
        """Number of images."""
        return self.shape[0]

    def values(self) -> array.array[float]:
        """All values, in C order."""
        found = array.array("f")
        found.frombytes(self.data)
        return _little(found)


def _little(values: array.array[float]) -> array.array[float]:
    """The same numbers, converted in place between this machine's byte order and the little-endian one."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
