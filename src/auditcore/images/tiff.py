"""TIFF files whose values Pillow would change: more than 8 bits, floating point, other numbers of bands."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from auditcore.contracts.access import Limits
from auditcore.errors import InputError, UndecodableImage
from auditcore.images.raster import Raster, check_pixels, range_of

_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NOT_PILLOWS = b"MM\0+"
"""BigTIFF of the other byte order, which Pillow does not know."""

_MOST_BANDS = 64
_BYTE = 8
_ORIENTATION = 274

_INFLATED: dict[int, Callable[[], zlib._Decompress | lzma.LZMADecompressor]] = {
    tifffile.COMPRESSION.ADOBE_DEFLATE: zlib.decompressobj,
    tifffile.COMPRESSION.DEFLATE: zlib.decompressobj,
    tifffile.COMPRESSION.LZMA: lzma.LZMADecompressor,
}
_SLACK = 2**16

_WHOLE_IN_PILLOW = frozenset({np.dtype("u2"), np.dtype("f4")})
"""Types of single bands whose bits Pillow keeps."""

_PREDICTORS = frozenset({1, tifffile.PREDICTOR.HORIZONTAL})
"""None, and differences of integers; the one of floating point is not among those of tifffile."""

_PLAIN = frozenset({tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.RGB})
_UNSPECIFIED = tifffile.EXTRASAMPLE.UNSPECIFIED
_REDUCED = tifffile.FILETYPE.REDUCEDIMAGE

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
            colors = 3 if page.photometric in {tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR} else 1
            # one band of transparency that says so is Pillow's subject, and so are palettes, CMYK and colors of JPEG
            transparent = any(kind != _UNSPECIFIED for kind in page.extrasamples)
            signed = page.sampleformat == tifffile.SAMPLEFORMAT.INT
            several = bands > colors + transparent and page.photometric in _PLAIN
            deep = bool(bits > _BYTE or signed or several or _bands_in_pages(file))
            return deep or data.startswith(_NOT_PILLOWS) or bool(page.subfiletype & _REDUCED)
    # damaged files raise whatever their bytes lead to; Pillow's reader says what is wrong with them
    except Exception:  # noqa: BLE001
        return False


def read(data: bytes, *, bands: int | None, limits: Limits, field: str) -> Raster:
    """Read the first page upright, with the bands in their order; white is the largest value.

    Where a band declares transparency, the image is over black, as a photo is. If a file says that its pages are
    channels, as OME and ImageJ do, they are the bands.

    Args:
        data: The file.
        bands: Number of bands that a model takes as they are. If the file has as many, transparency is one of them.
        limits: `image_pixels` bounds height times width.
        field: Path of the image in the request, for the error.

    Raises:
        LimitExceeded: The header claims too many pixels.
        UndecodableImage: The file is damaged, compressed in a way that cannot be read, or begins with a preview.
    """
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            check_pixels(page.imagelength, page.imagewidth, limits, field)
            _refuse_other_pictures(page, field)
            pages = _bands_in_pages(file)
            for one in file.series[0].pages if pages else (page,):
                _refuse_page(one, data, field)
            found = _raster_of_pages(file, pages, field) if pages else _raster(page, data, bands, field)
            orientation = page.tags.valueof(_ORIENTATION, 1)
            return found._replace(values=_upright(found.values, orientation))
    except (InputError, MemoryError):
        raise
    # every type: damaged files raise struct.error, IndexError, KeyError, zlib.error ...
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"the TIFF cannot be read ({reason}); save it uncompressed, or with deflate and without a predictor"
        raise UndecodableImage(msg, field=field) from error


def _refuse_other_pictures(page: tifffile.TiffPage, field: str) -> None:
    """Refuse a first page whose values are not those of gray, red, green and blue, or other bands.

    Raises:
        UndecodableImage: It is a preview, as in raw files of cameras, a volume, or has another meaning.
    """
    if page.subfiletype & _REDUCED:
        msg = "the first page of the TIFF is a preview, as in raw files of cameras; export the picture as TIFF or PNG"
        raise UndecodableImage(msg, field=field)
    if page.imagedepth > 1:
        msg = f"the TIFF is a volume of {page.imagedepth} slices; send each slice as a file of its own"
        raise UndecodableImage(msg, field=field)
    if page.photometric not in {*_PLAIN, tifffile.PHOTOMETRIC.SEPARATED}:
        meaning = getattr(page.photometric, "name", page.photometric)
        msg = f"the values of the TIFF are {meaning}, which are neither gray nor RGB; convert it to gray or RGB"
        raise UndecodableImage(msg, field=field)


def _refuse_page(page: tifffile.TiffPage | tifffile.TiffFrame | None, data: bytes, field: str) -> None:
    """Refuse a page before its pixels are read.

    Raises:
        UndecodableImage: It is in another file, by the metadata of this one. Or a part of it is inflated to much more
            than its pixels, which tifffile would do in one piece.
    """
    if page is None:
        msg = "bands of the TIFF are in other files, by its metadata; save all bands in one file"
        raise UndecodableImage(msg, field=field)
    layout = page.keyframe
    decompressor = None if layout is None else _INFLATED.get(layout.compression)
    if layout is None or decompressor is None:
        return
    rows = layout.tilelength if layout.is_tiled else min(layout.rowsperstrip, layout.imagelength)
    columns = layout.tilewidth if layout.is_tiled else layout.imagewidth
    bands = 1 if layout.planarconfig == tifffile.PLANARCONFIG.SEPARATE else layout.samplesperpixel
    # some programs write a little more
    most = 2 * rows * columns * bands * np.dtype(layout.dtype).itemsize + _SLACK
    for start, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if len(decompressor().decompress(data[start : start + length], most + 1)) > most:
            msg = "a part of the TIFF is inflated to more than its pixels have; save it again"
            raise UndecodableImage(msg, field=field)


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


def _raster(page: tifffile.TiffPage, data: bytes, wanted: int | None, field: str) -> Raster:
    bands = page.samplesperpixel
    _check_bands(bands, field)
    values: NDArray[np.generic] = _values(page, data)
    if bands > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        values = np.moveaxis(values.reshape(bands, page.imagelength, page.imagewidth), 0, 2)
    values = values.reshape(page.imagelength, page.imagewidth, bands)
    own, bits = range_of(values.dtype, field)
    if bits is not None and page.sampleformat == tifffile.SAMPLEFORMAT.UINT and page.bitspersample < bits:
        # such as 12 bits each, which fill whole bytes only together
        own, bits = (0.0, float(2**page.bitspersample - 1)), page.bitspersample
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = own[1] - values.astype(np.float64)
    if bands != wanted:
        values = _opaque(values, own[1], page.extrasamples)
    return Raster(values.astype(np.float32), own, bits)


def _values(page: tifffile.TiffPage, data: bytes) -> NDArray[np.generic]:
    """The values of a page, which tifffile can read if they are not compressed, or by deflate or LZMA.

    Pillow reads other compressions by libtiff. Of one band it keeps all bits; of several it would keep 8.
    """
    plain = page.compression == tifffile.COMPRESSION.NONE or page.compression in _INFLATED
    whole = page.samplesperpixel == 1 and page.dtype in _WHOLE_IN_PILLOW
    if whole and not (plain and page.predictor in _PREDICTORS):
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            return np.asarray(image).astype(page.dtype)
    return page.asarray()


def _opaque(values: NDArray[np.generic], white: float, extras: tuple[int, ...]) -> NDArray[np.generic]:
    """The bands of an image over black, without those that declare its transparency.

    Args:
        values: (H,W,C).
        white: The value that means opaque.
        extras: What each of the last bands is.
    """
    first = values.shape[2] - len(extras)
    alpha = [first + place for place, kind in enumerate(extras) if kind != _UNSPECIFIED]
    kept = np.delete(values, alpha, axis=2)
    for band in alpha:
        # the values of an associated one are over black already
        if extras[band - first] == tifffile.EXTRASAMPLE.UNASSALPHA:
            kept = kept.astype(np.float64) * (values[:, :, band : band + 1].astype(np.float64) / white)
    return kept


def _upright(values: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """An image (H,W,C) turned as its file says, from 1 (upright) to 8.

    Source: TIFF 6.0, tag Orientation: where the first row and the first column of the file belong.
    """
    if orientation in {5, 6, 7, 8}:
        values = values.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    return np.ascontiguousarray(values)
