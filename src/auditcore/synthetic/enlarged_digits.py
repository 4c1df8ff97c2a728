"""Scikit-learn's digits as images of a chosen size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from auditcore.contracts.synthetic import DIGITS, Digits
from auditcore.errors import InvalidRequest
from auditcore.synthetic.marks import mark_side

_PARTS = {
    "all": range(DIGITS),
    "training": range(1078),
    "validation": range(1078, 1437),
    "test": range(1437, DIGITS),
}
"""Positions in scikit-learn's file: 1078, 359 and 360 digits. Each part has at least 33 of each digit."""


class DigitImage(NamedTuple):
    """One digit, without a mark.

    Attributes:
        number: Position in scikit-learn's file.
        label: Which digit it is.
        pixels: The image.
        region: Pixels of the ink: those that are not black.
    """

    number: int
    label: int
    pixels: UInt8[np.ndarray, "height width 3"]
    region: Bool[np.ndarray, "height width"]


def digit_images(parameters: Digits) -> list[DigitImage]:
    """Return the digits of a part, enlarged by bilinear interpolation into the image without its margin.

    The margin, in which marks are, is black.

    Args:
        parameters: The part, and the size.

    Raises:
        InvalidRequest: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - takes a second, and only digits need it
    except ImportError as error:
        msg = "the digits come with scikit-learn; install it with: pip install 'auditcore[engine]'"
        raise InvalidRequest(msg, field="kind") from error
    digits = load_digits()
    size, margin = parameters.size_px, mark_side(parameters.size_px)
    inner = (size - 2 * margin, size - 2 * margin)
    found = []
    for number in _PARTS[parameters.part]:
        ink = Image.fromarray(np.round(digits.images[number] * 255 / 16).astype(np.uint8))
        gray = np.zeros((size, size), dtype=np.uint8)
        gray[margin:-margin, margin:-margin] = np.asarray(ink.resize(inner, Image.Resampling.BILINEAR))
        found.append(DigitImage(number, int(digits.target[number]), np.repeat(gray[..., None], 3, axis=2), gray > 0))
    return found
