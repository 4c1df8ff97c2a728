"""The bands of a file, with the values that it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditcore.contracts.access import Limits
from auditcore.errors import LimitExceeded, UndecodableImage


class Raster(NamedTuple):
    """The bands of a file.

    Attributes:
        values: (H,W,C), as the file holds them.
        range: The values that mean black and white, by the type of the file or by what it declares.
        bits: Bits per value; None for floating point.
        low_is_white: Whether low values are white, as in MONOCHROME1 of DICOM.
        windowed: Whether the file names the range itself and means to cut what lies beyond, as a window of DICOM.
    """

    values: NDArray[np.float32]
    range: tuple[float, float]
    bits: int | None
    low_is_white: bool = False
    windowed: bool = False


def range_of(dtype: np.dtype[Any], field: str) -> tuple[tuple[float, float], int | None]:
    """The range of a type of values, and its bits; [0, 1] and None for floating point.

    Raises:
        UndecodableImage: The values are neither integers, booleans nor floating-point numbers.
    """
    match dtype.kind:
        case "b":
            return (0.0, 1.0), 1
        case "u":
            return (0.0, float(np.iinfo(dtype).max)), 8 * dtype.itemsize
        case "i":
            # half of the range is below 0, where an image has values only if a request says what black is
            return (0.0, float(np.iinfo(dtype).max)), 8 * dtype.itemsize - 1
        case "f":
            return (0.0, 1.0), None
    msg = f"pixels of type {dtype} are not numbers of an image; save integers or floating-point numbers"
    raise UndecodableImage(msg, field=field)


def check_pixels(height: int, width: int, limits: Limits, field: str) -> None:
    """Refuse an image without pixels or with too many, before its values are read.

    Raises:
        LimitExceeded: It has more pixels than allowed.
        UndecodableImage: It has none.
    """
    pixels = height * width
    if pixels > limits.image_pixels:
        raise LimitExceeded(what="the image", limit=limits.image_pixels, actual=pixels, unit="pixels", field=field)
    if pixels <= 0:
        msg = "the image has no pixels; export it again"
        raise UndecodableImage(msg, field=field)
