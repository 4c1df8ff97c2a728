"""One image that is a tensor ready for the model: back to pixels, so that the model gets the same tensor again."""

from __future__ import annotations

import io

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import UndecodableImage
from auditcore.images.raster import check_pixels
from auditcore.images.tensor_batches import TensorBatch, listed, open_batch, require_model

HALF_STEPS = {"F64": 0.0, "F32": 2**-24, "F16": 2**-11, "BF16": 2**-8}
"""Largest relative error of a value that was rounded to a type."""

OVERSHOOT = 1e-5
"""How far a pixel may lie outside of [0, 1] by the arithmetic of a normalization in float32, which is off by less than
1e-6; a mean or std that is rounded to two digits is off by more than 1e-3."""


def read_tensor_image(
    data: bytes, preprocessing: Preprocessing, *, limits: Limits, field: str
) -> Float[Tensor, "channel height width"]:
    """Return the pixels whose normalization is the tensor in a file.

    Normalization in float32 maps many pixels to one value and leaves out others. If a pixel gives the value exactly, it
    is found; this holds for every tensor that float32 pixels were normalized to. Otherwise the closest one is taken,
    which is off by at most 1e-7 (one step of float32 at 1) divided by `std`. Among equals, a pixel of 8 bits is
    taken, so that a photo gives the same pixels as its file.

    Args:
        data: A safetensors file with one image.
        preprocessing: Of the model; only `mean`, `std` and the shape of the input matter.
        limits: Bytes and pixels allowed per image.
        field: Path of the image in the request, for errors.

    Returns:
        float32 in [0, 1], on the CPU.

    Raises:
        LimitExceeded: The file has too many bytes or pixels.
        UndecodableImage: It is not an image for this model: another shape, another normalization, NaN or infinite
            values, or pixels outside of [0, 1].
    """
    batch = open_batch(io.BytesIO(data), size=len(data), limits=limits, field=field)
    if batch.images != 1:
        msg = (
            f"the file holds {batch.images} images; name it in `images` of kind `tensors`, or upload it as a batch, "
            "which cut it into single images"
        )
        raise UndecodableImage(msg, field=field)
    check_pixels(batch.shape.height, batch.shape.width, limits, field)
    require_model(batch, preprocessing, field=field)
    values = _values(data, batch, field)
    if not np.isfinite(values).all():
        msg = "the tensor has NaN or infinite values; replace them"
        raise UndecodableImage(msg, field=field)
    mean, std = (np.array(given, np.float32)[:, None, None] for given in (preprocessing.mean, preprocessing.std))
    wide = values.astype(np.float64) * std + mean
    rounding = OVERSHOOT + HALF_STEPS[batch.place.dtype] * np.abs(values) * std
    if (np.abs(wide - 0.5) > 0.5 + rounding).any():
        msg = (
            f"the tensor has values from {values.min():g} to {values.max():g}, which are pixels from {wide.min():.4g} "
            f"to {wide.max():.4g} by `preprocessing.mean` {listed(preprocessing.mean)} and `preprocessing.std` "
            f"{listed(preprocessing.std)}, and pixels lie between 0 and 1. Declare the mean and std that the tensor "
            "was normalized by. If there are none, choose values b and w that mean black and white, beyond which no "
            "tensor goes, and declare the mean -b / (w - b) and the std 1 / (w - b)"
        )
        raise UndecodableImage(msg, field=field)
    return torch.from_numpy(_closest(values, wide.clip(0, 1), mean, std))


def _values(data: bytes, batch: TensorBatch, field: str) -> NDArray[np.float32]:
    """The values as float32, (C,H,W)."""
    raw = data[batch.place.start : batch.place.stop]
    shape = tuple(batch.shape)
    if batch.place.dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    given = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[batch.place.dtype]).reshape(shape)
    with np.errstate(over="ignore"):
        values = given.astype(np.float32)
    if batch.place.dtype == "F64" and not np.array_equal(values, given, equal_nan=True):
        msg = (
            "the tensor has float64 values that float32, in which the model computes, cannot hold; save it as "
            "float32, as your preprocessing hands it to the model"
        )
        raise UndecodableImage(msg, field=field)
    return values


def _closest(
    values: NDArray[np.float32], wide: NDArray[np.float64], mean: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The float32 pixels in [0, 1], near `wide`, whose normalization in float32 is closest to `values`."""
    best = np.rint(wide * 255).astype(np.float32) / np.float32(255)
    error = np.abs((best - mean) / std - values)
    near = wide.astype(np.float32)
    # the coarser of two grids: of pixels, and of their differences to the mean
    step = np.maximum(np.spacing(np.abs(near)), np.spacing(np.abs(near - mean)))
    # by halves, because a whole step from the middle of two differences leads to the middle of two others, and a tie
    # goes to the even one
    for steps in (0, 0.5, -0.5, 1, -1, 2, -2):
        if not error.any():
            break
        other = (near + np.float32(steps) * step).clip(0, 1)
        distance = np.abs((other - mean) / std - values)
        best = np.where(distance < error, other, best)
        error = np.minimum(distance, error)
    return best
