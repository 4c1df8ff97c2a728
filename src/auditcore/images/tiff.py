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
            signed = page.sampleformat == tifffile.SAMPLEFORMAT.INT
            several = not alpha and bands > (3 if rgb else 1) and _is_plain(page)
            return bool(bits > _BYTE or signed or several or _bands_in_pages(file))
    # damaged files raise whatever their bytes lead to; Pillow's reader says what is wrong with them
    except Exception:  # noqa: BLE001
        return False


def read(data: bytes, *, limits: Limits, field: str) -> Raster:
    """Read the first page, with the bands in their order; white is the largest value.

    A band that is declared as transparency is dropped. If a file says that its pages are channels, as OME and ImageJ
    do, they are the bands.

    Raises:
        LimitExceeded: The header claims too many pixels.
        UndecodableImage: The file is damaged, or compressed in a way that cannot be read.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            check_pixels(page.imagelength, page.imagewidth, limits, field)
            bands = _bands_in_pages(file)
            return _raster(page, field) if not bands else _raster_of_pages(file, bands, field)
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


def _bands_in_pages(file: tifffile.TiffFile) -> int:
    """Number of pages that are bands of one image, by the metadata of the file; 0 if it does not say so."""
    if not (file.is_ome or file.is_imagej):
        return 0
    series = file.series[0]
    return int(series.shape[0]) if series.axes == "CYX" and series.shape[0] == len(series.pages) else 0


def _raster_of_pages(file: tifffile.TiffFile, bands: int, field: str) -> Raster:
    _check_bands(bands, field)
    values: NDArray[np.generic] = np.moveaxis(file.series[0].asarray(), 0, 2)
    own, bits = range_of(values.dtype, field)
    return Raster(values.astype(np.float32), own, bits)


def _check_bands(bands: int, field: str) -> None:
    if not 1 <= bands <= _MOST_BANDS:
        msg = f"the TIFF has {bands} bands; at most {_MOST_BANDS} are possible"
        raise UndecodableImage(msg, field=field)


def _raster(page: tifffile.TiffPage, field: str) -> Raster:
    bands = page.samplesperpixel
    _check_bands(bands, field)
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
