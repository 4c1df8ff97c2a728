"""Tensors as servers see them: a shape, a type and bytes; no array library is needed to pass them on."""

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
        shape: Sizes; the first is the number of images.
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
    """The same numbers between this machine's order of bytes and the little-endian one, in place."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
