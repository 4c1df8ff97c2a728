"""Images in NumPy's file format (.npy)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from auditcore.contracts.access import Limits
from auditcore.errors import UndecodableImage
from auditcore.images.raster import Raster, check_pixels, range_of

_MAGIC = b"\x93NUMPY"
_MOST_BANDS = 64


def is_array(data: bytes) -> bool:
    """Whether a file is in NumPy's format."""
    return data.startswith(_MAGIC)


def read(data: bytes, *, channels: int, limits: Limits, field: str) -> Raster:
    """Read an array (H,W), (H,W,C) or (C,H,W).

    Of the last two it is the one with the channels of the model; if both or neither have them, the one with fewer.

    The header is checked before anything is read, and an array of Python objects is refused.

    Args:
        data: The file.
        channels: Channels of the model.
        limits: `image_pixels` bounds height times width.
        field: Path of the image in the request, for the error.

    Raises:
        LimitExceeded: It has too many pixels.
        UndecodableImage: It is not such an array.
    """
    file = io.BytesIO(data)
    try:
        shape, _, dtype = _header(file)
    # every type: NumPy evaluates the header as Python, and damaged ones raise TokenError, TypeError, RecursionError ...
    except Exception as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) and str(error) else "damaged header"
        msg = f"not a NumPy array of an image ({reason}); save it with numpy.save"
        raise UndecodableImage(msg, field=field) from error
    if len(shape) not in {2, 3}:
        msg = f"the array has shape {shape}; an image is (H,W), (H,W,C) or (C,H,W)"
        raise UndecodableImage(msg, field=field)
    first = len(shape) == 3 and _channels_first(shape, channels)  # noqa: PLR2004 - axes
    height, width = shape[1:] if first else shape[:2]
    bands = 1 if len(shape) == 2 else shape[0] if first else shape[2]  # noqa: PLR2004 - axes
    if not 1 <= bands <= _MOST_BANDS:
        msg = f"the array has shape {shape}, which is an image of {bands} channels; at most {_MOST_BANDS} are possible"
        raise UndecodableImage(msg, field=field)
    check_pixels(height, width, limits, field)
    own, bits = range_of(dtype, field)
    if len(data) - file.tell() < height * width * bands * dtype.itemsize:
        # before memory for all of it is taken
        msg = "the array is not complete; save it again"
        raise UndecodableImage(msg, field=field)
    file.seek(0)
    try:
        values = np.load(file, allow_pickle=False)
    except ValueError as error:
        msg = "the array is not complete; save it again"
        raise UndecodableImage(msg, field=field) from error
    if first:
        values = np.moveaxis(values, 0, 2)
    return Raster(values.reshape(height, width, bands).astype(np.float32), own, bits)


def _channels_first(shape: tuple[int, ...], channels: int) -> bool:
    begins, ends = shape[0] == channels, shape[2] == channels
    return begins if begins != ends else shape[0] < shape[2]


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type that a file announces.

    Raises:
        ValueError: The header is damaged, or of a version that does not exist.
    """
    version = np.lib.format.read_magic(file)
    match version:
        case (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        case (2, 0):
            return np.lib.format.read_array_header_2_0(file)
    msg = f"version {version}"
    raise ValueError(msg)
