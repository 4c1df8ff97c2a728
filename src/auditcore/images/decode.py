"""Decode untrusted bytes into an upright RGB image; every limit is checked before a pixel is decoded."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from auditcore.contracts.access import Limits
from auditcore.errors import InputError, LimitExceeded, UndecodableImage
from auditcore.images.other_formats import fault_of_format

_PILLOW = re.compile(r"PIL\.")
_FILTERS = threading.Lock()

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""Pillow's decoders that may read the bytes. Others never do: EPS starts a program, ICNS and PSD nest files."""

_EIGHT_BIT = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LA", "La", "PA", "RGBA", "RGBa", "RGBX"})
_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def decode_image(data: bytes, *, limits: Limits, field: str) -> Image.Image:
    """Decode one image file; for an animation or a multi-page file, the first frame.

    The EXIF orientation is applied. 16-bit gray is scaled to 8 bits. Transparent pixels become black, the color that
    augmentations fill with. Color profiles are not applied, as in the training pipelines of torchvision and timm.

    Args:
        data: Bytes of a PNG, JPEG, WebP, BMP, TIFF or GIF file.
        limits: `image_bytes` is checked first, then `image_pixels` against the size in the header.
        field: Path of the image in the request, for the error.

    Returns:
        An image of mode RGB.

    Raises:
        LimitExceeded: The file has too many bytes or its header claims too many pixels.
        UndecodableImage: The bytes are not a complete image in one of these formats.
    """
    return to_rgb(open_photo(data, limits=limits, field=field), field=field)


def open_photo(data: bytes, *, limits: Limits, field: str) -> Image.Image:
    """Decode one image file in the mode in which it is stored, with the EXIF orientation applied.

    Args:
        data: Bytes of a PNG, JPEG, WebP, BMP, TIFF or GIF file.
        limits: `image_bytes` is checked first, then `image_pixels` against the size in the header.
        field: Path of the image in the request, for the error.

    Raises:
        LimitExceeded: The file has too many bytes or its header claims too many pixels.
        UndecodableImage: The bytes are not a complete image in one of these formats.
    """
    if len(data) > limits.image_bytes:
        raise LimitExceeded(
            what="the image file", limit=limits.image_bytes, actual=len(data), unit="bytes", field=field
        )
    # Pillow warns about sizes (checked here) and about damaged metadata, which does not matter for an audit. Only its
    # own warnings are silenced, and permanently: `catch_warnings` is not thread-safe, and images are decoded in threads
    with _FILTERS:
        # only if it is missing: adding a filter resets the registry of warnings that were already shown
        if not any(known[0] == "ignore" and known[3] == _PILLOW for known in warnings.filters):
            warnings.filterwarnings("ignore", module=_PILLOW.pattern)
    try:
        with _damage_as_reason(field, data):
            return _decode(data, limits, field)
    except Image.DecompressionBombError as error:
        raise LimitExceeded(
            what="the image",
            limit=limits.image_pixels,
            actual=2 * (Image.MAX_IMAGE_PIXELS or limits.image_pixels),
            unit="pixels",
            field=field,
        ) from error


@contextmanager
def _damage_as_reason(field: str, data: bytes = b"") -> Iterator[None]:
    """Turn what Pillow raises for damaged bytes, or those of another format, into one error.

    Raises:
        UndecodableImage: Pillow raised anything but an exhausted memory or a size beyond its own limit.
    """
    try:
        yield
    except (InputError, MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        # every type: on damaged bytes, Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error,
        # IndexError, KeyError, OverflowError, ZeroDivisionError ...
        other = fault_of_format(data) if isinstance(error, UnidentifiedImageError) else None
        msg = other or f"not a complete PNG, JPEG, WebP, BMP, TIFF or GIF image ({reason_of(error)}); export it again"
        raise UndecodableImage(msg, field=field) from error


def _decode(data: bytes, limits: Limits, field: str) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_pixels(image, limits, field)
        # in one call where the format allows it; Pillow gives up Python's lock for each, and waits for it again
        image.decodermaxblock = max(image.decodermaxblock, len(data))
        image.load()
        # in place, as nothing here copies an image without need: Pillow copies inside Python's lock, so that threads
        # that decode would wait for each other
        ImageOps.exif_transpose(image, in_place=True)
        return image


def _check_pixels(image: Image.Image, limits: Limits, field: str) -> None:
    pixels = image.width * image.height
    if pixels > limits.image_pixels:
        raise LimitExceeded(what="the image", limit=limits.image_pixels, actual=pixels, unit="pixels", field=field)
    if pixels == 0:
        msg = "the image has no pixels; export it again"
        raise UndecodableImage(msg, field=field)


def to_rgb(image: Image.Image, *, field: str) -> Image.Image:
    """Convert a decoded image to 8-bit RGB, over black where it is transparent.

    Args:
        image: As `open_photo` returns it.
        field: Path of the image in the request, for the error.

    Raises:
        UndecodableImage: Its pixels have no defined range, or their conversion fails.
    """
    with _damage_as_reason(field):
        return _to_rgb(image, field)


def _to_rgb(image: Image.Image, field: str) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.uint32)
        # 65535 = 255 * 257: rounds to the nearest 8-bit value; Pillow's own conversion clips at 255
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode not in _EIGHT_BIT:
        msg = f"pixels of type {image.mode} have no defined colors; save the image as gray or RGB of 8 or 16 bits"
        raise UndecodableImage(msg, field=field)
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def reason_of(error: Exception) -> str:
    """Return the first line of Pillow's message, without the memory address of a buffer."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "format not recognized" if "cannot identify" in text else text
