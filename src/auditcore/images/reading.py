"""Read an image file as the channels that a model takes, with the values that the file holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Colors, Preprocessing
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.images import arrays, dicom, tiff
from auditcore.images.decode import open_photo, to_rgb
from auditcore.images.patient_data import is_dicom
from auditcore.images.raster import Raster

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as in Pillow's conversion to gray."""

SMALL_PART = 0.125
"""A file of more than 8 bits that reaches only this share of its range, three bits less, most probably has fewer bits
than its type: 12 bits in 16 reach a sixteenth."""


_DEEP_COLORS = frozenset({2, 4, 6})
"""Color types of PNG with several bands per pixel, of which Pillow reads only the upper 8 bits."""

_BYTE = 8

_BANDS = {"L", "LA", "RGB", "RGBA", "CMYK"}
"""Modes of Pillow whose 8-bit values are bands of the file."""


@final
@dataclass(frozen=True)
class DecodedImage:
    """An upright image with the channels of the model.

    Attributes:
        planes: Pillow images of equal size: one of mode RGB, or one per channel, of mode L (8-bit values) or F.
        range: The values that become 0 and 1; values outside, which resampling may make, become 0 or 1.
        note: What a reader of the report should know of the file's values; None if nothing.
    """

    planes: tuple[Image.Image, ...]
    range: tuple[float, float]
    note: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.planes[0].size


def read_image(data: bytes, preprocessing: Preprocessing, *, limits: Limits, field: str) -> DecodedImage:
    """Read one file: a photo, a TIFF of any depth, a DICOM image or a NumPy array.

    Photos with 8 bits per channel are decoded as `decode_image` does it. Of other files the values stay as they are:
    16 bits, floating point, any number of bands.

    Args:
        data: Bytes of the file.
        preprocessing: Colors and range of values that the model takes.
        limits: `image_bytes` is checked first, then `image_pixels` against the size in the header.
        field: Path of the image in the request, for the error.

    Raises:
        LimitExceeded: The file has too many bytes or its header claims too many pixels.
        UndecodableImage: The bytes are not a complete image, have other bands than the model, or values outside of
            what was declared.
    """
    raster = _raster(data, preprocessing, limits=limits, field=field)
    if raster is None:
        return _photo(data, preprocessing, limits=limits, field=field)
    return _scaled(raster, preprocessing, field)


def _raster(data: bytes, preprocessing: Preprocessing, *, limits: Limits, field: str) -> Raster | None:
    """The bands of a file whose values Pillow would change; None for a photo."""
    if len(data) > limits.image_bytes:
        raise LimitExceeded(
            what="the image file", limit=limits.image_bytes, actual=len(data), unit="bytes", field=field
        )
    if is_dicom(data):
        return dicom.read(data, shown=preprocessing.declared_range is None, limits=limits, field=field)
    channels = len(preprocessing.mean)
    if arrays.is_array(data):
        return arrays.read(data, channels=channels, limits=limits, field=field)
    if not tiff.is_tiff(data):
        return None
    # a model of bands takes transparency for what it is: one more band
    bands = channels if preprocessing.colors_seen == "bands" else None
    return tiff.read(data, bands=bands, limits=limits, field=field)


def _photo(data: bytes, preprocessing: Preprocessing, *, limits: Limits, field: str) -> DecodedImage:
    """A photo whose values are 8-bit ones, or 16-bit gray."""
    colors, channels = preprocessing.colors_seen, len(preprocessing.mean)
    image = open_photo(data, limits=limits, field=field)
    deep = _is_deep_png(data)
    if deep and preprocessing.declared_range is not None:
        msg = (
            "the image is a PNG of several bands with 16 bits each, of which only the upper 8 bits can be read, so the "
            "range that `preprocessing` declares does not fit; save it as TIFF or with numpy.save"
        )
        raise UndecodableImage(msg, field=field)
    if image.mode.startswith("I;16"):
        raster = _bands(image, 65535.0, 16)
        transparent = image.info.get("transparency")
        if transparent is not None:
            # over black, as a photo is
            raster = raster._replace(values=np.where(raster.values == transparent, np.float32(0), raster.values))
        return _scaled(raster, preprocessing, field)
    # a model of bands takes transparency for what it is: one more band
    if not (colors == "bands" and channels == len(image.getbands()) and image.mode in _BANDS):
        gray = image.mode in {"1", "L", "LA", "La"}
        image = to_rgb(image, field=field)
        if gray or colors == "gray":
            image = image.convert("L")
        if preprocessing.declared_range is None and colors != "bands":
            # 8-bit values stay 8-bit ones, since resampling rounds them as it did in training
            return DecodedImage(_photo_planes(image, colors), (0.0, 255.0), _dark(image) if deep else None)
    return _scaled(_bands(image, 255.0, 8), preprocessing, field)


def _is_deep_png(data: bytes) -> bool:
    """Whether a photo is a PNG of several bands with 16 bits each."""
    return data.startswith(b"\x89PNG") and data[24] == 16 and data[25] in _DEEP_COLORS  # noqa: PLR2004 - IHDR


def _dark(image: Image.Image) -> str | None:
    """What to know of a 16-bit color photo that uses only the lowest values; None if it uses more."""
    largest = int(np.asarray(image).max())
    if largest > 255 * SMALL_PART:
        return None
    return (
        f"uses only {largest / 255:.1%} of the range of its 16 bits, so the model sees it almost black; if that is not "
        "what the model was trained on, save it as TIFF or with numpy.save, and declare `preprocessing.bits`"
    )


def _photo_planes(image: Image.Image, colors: Colors) -> tuple[Image.Image, ...]:
    """The channels of a photo of mode RGB or L, in the order of the model."""
    match colors:
        case "gray":
            return (image,)
        case "bgr":
            return image.convert("RGB").split()[::-1]
        case _:
            return (image if image.mode == "RGB" else image.convert("RGB"),)


def _bands(image: Image.Image, largest: float, bits: int) -> Raster:
    values = np.asarray(image).astype(np.float32)
    return Raster(values.reshape(image.height, image.width, -1), (0.0, largest), bits)


def _scaled(raster: Raster, preprocessing: Preprocessing, field: str) -> DecodedImage:
    """Bands as the channels of the model, with the range that was declared or the file's own."""
    values = raster.values
    if not np.isfinite(values).all():
        msg = "the image has NaN or infinite values; replace them"
        raise UndecodableImage(msg, field=field)
    smallest, largest = float(values.min()), float(values.max())
    declared, own = preprocessing.declared_range, raster.range
    low, high = declared or own
    if preprocessing.bits is not None and not low <= smallest <= largest <= high:
        msg = (
            f"the image has values from {smallest:g} to {largest:g}, but `preprocessing.bits` {preprocessing.bits} "
            f"means 0 to {high:g}; declare the bits, the range or the window of these files"
        )
        raise UndecodableImage(msg, field=field)
    if declared is None and not raster.windowed and not low <= smallest <= largest <= high:
        kind = "floating-point values have no range of their own beyond 0 to 1"
        if raster.bits is not None:
            kind = f"signed integers have no range of their own beyond 0 to {high:g}"
        msg = (
            f"the image has values from {smallest:g} to {largest:g}; declare `preprocessing.range`, the values that "
            f"mean black and white, since {kind}"
        )
        raise UndecodableImage(msg, field=field)
    if raster.low_is_white:
        values = np.float32(low + high) - values
    # before resizing, so that a marker that the window cuts off is as white around its edges as in the middle
    values = values.clip(low, high)
    bands = _channels(values, preprocessing, field)
    note = _range_note(values, raster, low, high, declared=declared is not None)
    planes = tuple(Image.fromarray(np.ascontiguousarray(bands[:, :, band])) for band in range(bands.shape[2]))
    return DecodedImage(planes, (low, high), note)


def _range_note(values: NDArray[np.float32], raster: Raster, low: float, high: float, *, declared: bool) -> str | None:
    """What to know of values that use only a small part of their range, or none of it; None if they use more.

    Args:
        values: As the model sees them.
        raster: The file.
        low: The value that means black.
        high: The value that means white.
        declared: Whether a request declares what means black and white; otherwise the file does, or its type.
    """
    if not declared and not raster.windowed and (raster.bits is None or raster.bits <= _BYTE):
        return None
    seen, part = _part(values, low, high)
    smallest, largest = float(raster.values.min()), float(raster.values.max())
    own = f"values {smallest:g} to {largest:g}"
    if declared and not _between(values, low, high) and _between(raster.values, smallest, largest):
        return (
            f"has no value between {low:g} and {high:g}, the range that `preprocessing` declares ({own}), so the model "
            "sees only black and white; declare the bits, the range or the window of these files"
        )
    if part > SMALL_PART:
        return None
    which = f"range of its {raster.bits} bits"
    remedy = "declare `preprocessing.range`, what means black and white"
    if declared:
        which = "range that `preprocessing` declares"
        remedy = "declare the bits, the range or the window of these files"
    elif raster.windowed:
        which = "range that the file declares"
    elif low == 0 and seen == "almost black":
        own = f"largest value {largest:g}"
        remedy = f"declare `preprocessing.bits`, such as {max(8, int(largest).bit_length())}"
    return (
        f"uses only {part:.1%} of the {which} ({own}), so the model sees it {seen}; if that is not what the model was "
        f"trained on, {remedy}"
    )


def _part(values: NDArray[np.float32], low: float, high: float) -> tuple[str, float]:
    """How values look, and the share of a range that they use: from black on if all are dark."""
    smallest, largest = ((float(end) - low) / (high - low) for end in (values.min(), values.max()))
    if largest <= SMALL_PART:
        return "almost black", largest
    return "almost white" if 1 - smallest <= SMALL_PART else "almost gray", largest - smallest


def _between(values: NDArray[np.float32], low: float, high: float) -> bool:
    return bool(((values > low) & (values < high)).any())


def _channels(values: NDArray[np.float32], preprocessing: Preprocessing, field: str) -> NDArray[np.float32]:
    """Bands of a file as the channels of the model, (H,W,C)."""
    bands, channels = values.shape[2], len(preprocessing.mean)
    match preprocessing.colors_seen, bands:
        case ("gray", 1) | ("rgb", 3) | ("bands", _) if bands == channels:
            return values
        case "bgr", 3:
            return values[:, :, ::-1]
        case (("rgb" | "bgr"), 1):
            return np.repeat(values, 3, axis=2)
        case "gray", 3:
            return (values @ np.array(LUMA, np.float32))[:, :, None]
    msg = (
        f"the image has {_counted(bands)}, and the model takes {_counted(channels)} (`preprocessing.colors` "
        f"{preprocessing.colors_seen}); send files with the bands of the model, in its order"
    )
    raise UndecodableImage(msg, field=field)


def _counted(bands: int) -> str:
    return f"{bands} band{'s' * (bands != 1)}"
