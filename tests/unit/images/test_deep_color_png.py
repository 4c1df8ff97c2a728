"""Color PNG files of 16 bits, of which Pillow reads the upper 8."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import UndecodableImage
from auditcore.images.reading import read_image

COLOR = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint16)
TYPES = {2: 4, 3: 2, 4: 6}
"""Color type of a PNG by its number of bands, transparency counted."""


def png(values: NDArray[np.uint16]) -> bytes:
    height, width, bands = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, TYPES[bands], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def preprocessing(**more: int) -> Preprocessing:
    return Preprocessing(resize=8, crop=8, mean=(0.5,) * 3, std=(0.5,) * 3, **more)


def opaque(values: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.dstack([values, np.full(values.shape[:2], 65535, np.uint16)])


@pytest.mark.parametrize(
    ("values", "transparency"), [(COLOR, False), (COLOR, True), (COLOR[:, :, :1], True)], ids=["RGB", "RGBA", "LA"]
)
def test_a_full_range_is_read_and_a_small_part_is_noted(values: NDArray[np.uint16], transparency: bool) -> None:  # noqa: FBT001
    full, part = values * 257, values * 16
    if transparency:
        full, part = opaque(full), opaque(part)
    found = read_image(png(full), preprocessing(), limits=Limits(), field="images")
    assert found.note is None
    np.testing.assert_array_equal(np.asarray(found.planes[0]), np.broadcast_to(values, COLOR.shape))
    dark = read_image(png(part), preprocessing(), limits=Limits(), field="images")
    assert dark.note is not None
    assert "almost black" in dark.note
    assert "TIFF" in dark.note


def test_a_declared_range_needs_all_bits() -> None:
    with pytest.raises(UndecodableImage, match=r"only the upper 8 bits.*save it as TIFF"):
        read_image(png(COLOR * 16), preprocessing(bits=12), limits=Limits(), field="images")
