"""TIFF files whose values Pillow would change: more than 8 bits, floating point, other numbers of bands."""

from __future__ import annotations

import io

import numpy as np
import tifffile
from numpy.typing import NDArray

from auditcore.contracts.access import Limits
from auditcore.errors import InputError, UndecodableImage
from auditcore.images.raster import Raster, check_pixels, range_of

_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_BANDS = 64
_BYTE = 8

# it logs what it meets in damaged files, and an audit says that in its own words
tifffile.logger().setLevel("CRITICAL")


def is_tiff(data: bytes) -> bool:
    """Whether a file is a TIFF that Pillow would not show as it is."""
    if not data.startswith(_MAGICS):
        return False
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            bands, bits = page.samplesperpixel, page.bitspersample
            rgb = page.photometric in {tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR}
            # an alpha band that says so is Pillow's subject, and so are palettes, CMYK and colors of JPEG
            alpha = any(kind != tifffile.EXTRASAMPLE.UNSPECIFIED for kind in page.extrasamples)
            return bool(bits > _BYTE or (not alpha and bands > (3 if rgb else 1) and _is_plain(page)))
    # damaged files raise whatever their bytes lead to; Pillow's reader says what is wrong with them
    except Exception:  # noqa: BLE001
        return False


def read(data: bytes, *, limits: Limits, field: str) -> Raster:
    """Read the first page, with the bands in their order; white is the largest value.

    A band that is declared as transparency is dropped.

    Raises:
        LimitExceeded: The header claims too many pixels.
        UndecodableImage: The file is damaged, or compressed in a way that cannot be read.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            check_pixels(page.imagelength, page.imagewidth, limits, field)
            return _raster(page, field)
    except (InputError, MemoryError):
        raise
    # every type: damaged files raise struct.error, IndexError, KeyError, zlib.error ...
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"the TIFF cannot be read ({reason}); save it uncompressed, or with deflate"
        raise UndecodableImage(msg, field=field) from error


def _is_plain(page: tifffile.TiffPage) -> bool:
    return page.photometric in {
        tifffile.PHOTOMETRIC.MINISBLACK,
        tifffile.PHOTOMETRIC.MINISWHITE,
        tifffile.PHOTOMETRIC.RGB,
    }


def _raster(page: tifffile.TiffPage, field: str) -> Raster:
    bands = page.samplesperpixel
    if not 1 <= bands <= _MOST_BANDS:
        msg = f"the TIFF has {bands} bands; at most {_MOST_BANDS} are possible"
        raise UndecodableImage(msg, field=field)
    values: NDArray[np.generic] = page.asarray()
    if bands > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        values = np.moveaxis(values.reshape(bands, page.imagelength, page.imagewidth), 0, 2)
    values = values.reshape(page.imagelength, page.imagewidth, bands)
    own, bits = range_of(values.dtype, field)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = own[1] - values.astype(np.float64)
    kinds = page.extrasamples
    opaque = bands - sum(kind != tifffile.EXTRASAMPLE.UNSPECIFIED for kind in kinds)
    return Raster(values[:, :, :opaque].astype(np.float32), own, bits)
