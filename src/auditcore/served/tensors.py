"""Tensors as servers see them: a shape, a type and bytes; no array library is needed to pass them on."""

from __future__ import annotations

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

    def __len__(self) -> int:
        """Number of images."""
        return self.shape[0]
