"""The pixels of DICOM images, in the units of their modality or as their file means them to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditcore.contracts.access import Limits
from auditcore.errors import UndecodableImage
from auditcore.images.patient_data import picture, unreadable
from auditcore.images.raster import Raster, check_pixels

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GRAY = frozenset({"MONOCHROME1", "MONOCHROME2"})

_COLORS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
"""Colors that pydicom returns as RGB."""


class _Values(NamedTuple):
    """Values of an image, and what they can be.

    Attributes:
        values: (H,W,C).
        range: The values that mean black and white; the other way around in MONOCHROME1.
        bits: Bits per value; None for floating point.
        windowed: Whether the file itself says what is black and white.
    """

    values: NDArray[np.float64]
    range: tuple[float, float]
    bits: int | None
    windowed: bool = False


def read(data: bytes, *, shown: bool, limits: Limits, field: str) -> Raster:
    """Read the pixels of a DICOM image, in the units of its modality, such as Hounsfield units.

    Rescale slope and intercept are applied, or the file's table for them. The range is the file's window, or all values
    that its stored bits can have. A table of values to show (VOI LUT) comes before a window. In MONOCHROME1, low values
    are white.

    Args:
        data: The file.
        shown: Whether the file's window or table of values to show counts; it does not where a request declares the
            range of values.
        limits: `image_pixels` bounds rows times columns.
        field: Path of the image in the request, for the error.

    Raises:
        LimitExceeded: The header claims too many pixels.
        UndecodableImage: The file is damaged, has several frames, colors of a palette, or a compression that cannot be
            read. The message holds nothing of the file's text.

    Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (rescale, modality LUT), C.11.2 (window, VOI LUT).
    """
    dataset = picture(data, field)
    try:
        height, width = int(dataset.Rows), int(dataset.Columns)
        frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
        meaning = str(dataset.PhotometricInterpretation)
    # an element that is missing or damaged; its text is not repeated, since it may be about the patient
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None
    check_pixels(height, width, limits, field)
    if frames > 1:
        msg = f"the DICOM file has {frames} frames; send each frame as a file of its own"
        raise UndecodableImage(msg, field=field)
    if meaning not in _GRAY | _COLORS:
        msg = "the DICOM file has neither gray values nor RGB or YBR; convert it to MONOCHROME2 or RGB"
        raise UndecodableImage(msg, field=field)
    _require_decoder(dataset, field)
    try:
        found = _in_units(dataset, _stored(dataset).reshape(height, width, samples))
        if shown and meaning in _GRAY:
            found = _as_shown(dataset, found)
    except MemoryError:
        raise
    # damaged pixels and tables raise whatever their bytes lead to
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None
    return Raster(
        found.values.astype(np.float32),
        found.range,
        found.bits,
        low_is_white=meaning == "MONOCHROME1",
        windowed=found.windowed,
    )


def _require_decoder(dataset: Dataset, field: str) -> None:
    """Refuse a compression that nothing installed can decode.

    Raises:
        UndecodableImage: It is such a compression; the message has its name.
    """
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 - only where DICOM files are met

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        readable = get_decoder(syntax).is_available
    except NotImplementedError:
        readable = False
    if not readable:
        # names of the standard only; what is not in it might be any text
        name = f" ({syntax.name})" if syntax.is_transfer_syntax and not syntax.is_private else ""
        msg = f"no decoder for the compression of the DICOM file{name} is installed; export it again, uncompressed"
        raise UndecodableImage(msg, field=field)


def _stored(dataset: Dataset) -> NDArray[Any]:
    """The stored values. Those of some scanners are not in the lowest bits, as their highest bit says."""
    high = dataset.get("HighBit")
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    if high is None or compressed or "PixelData" not in dataset or int(high) < int(dataset.BitsStored):
        stored: NDArray[Any] = dataset.pixel_array
        return stored
    bits = dataset.BitsStored
    # pydicom reads the lowest bits in any case
    dataset.BitsStored = int(high) + 1
    shifted: NDArray[Any] = dataset.pixel_array >> (int(high) + 1 - int(bits))
    dataset.BitsStored = bits
    return shifted


def _in_units(dataset: Dataset, stored: NDArray[Any]) -> _Values:
    """Stored values in the units of the modality."""
    if "PixelData" not in dataset:
        return _rescaled(dataset, _Values(stored.astype(np.float64), (0.0, 1.0), None))
    table = _table(dataset, "ModalityLUTSequence")
    if table is not None:
        return table.look_up(stored)
    bits = int(dataset.BitsStored)
    first, last = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)
    return _rescaled(dataset, _Values(stored.astype(np.float64), (float(first), float(last)), bits))


def _rescaled(dataset: Dataset, given: _Values) -> _Values:
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    low, high = sorted(end * slope + intercept for end in given.range)
    return given._replace(values=given.values * slope + intercept, range=(low, high))


def _as_shown(dataset: Dataset, given: _Values) -> _Values:
    """Values as the file means them to be shown: by its first table, or its first window; unchanged if it has none."""
    table = _table(dataset, "VOILUTSequence")
    if table is not None:
        return table.look_up(given.values)._replace(windowed=True)
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 0:
        return given
    match str(dataset.get("VOILUTFunction") or "LINEAR"):
        case "LINEAR" if width > 1:
            window = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
        case "LINEAR" if width < 1:
            # which the standard does not allow: files without a window have a width of 0
            return given
        case "LINEAR":
            # C.11.2.1.2: a width of 1 is a step
            return _Values((given.values > center - 0.5).astype(np.float64), (0.0, 1.0), 1, windowed=True)
        case "LINEAR_EXACT":
            window = center - width / 2, center + width / 2
        case "SIGMOID":
            # the exponent is large where the value is 0 in any case
            exponents = np.minimum(-4 * (given.values - center) / width, 700)
            return _Values(1 / (1 + np.exp(exponents)), (0.0, 1.0), given.bits, windowed=True)
        case _:
            msg = "a function that the standard does not have"
            raise ValueError(msg)
    return given._replace(range=window, windowed=True)


class _Table(NamedTuple):
    """A table of values.

    Attributes:
        first: The value that the first entry is for; lower values have the same, and there is a last one.
        entries: What values become.
        bits: Bits per entry.
    """

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def look_up(self, values: NDArray[Any]) -> _Values:
        """What the values become."""
        # NumPy keeps unsigned integers, in which nothing is below 0
        places = np.floor(values.astype(np.float64)) - self.first
        positions = places.clip(0, len(self.entries) - 1).astype(np.intp)
        return _Values(self.entries[positions].astype(np.float64), (0.0, float(2**self.bits - 1)), self.bits)


def _table(dataset: Dataset, name: str) -> _Table | None:
    """The first table of a sequence; None if there is none.

    Source: PS3.3 C.11.1.1: number of entries, where 0 means 65536, first value, bits per entry.
    """
    if not dataset.get(name):
        return None
    item = dataset[name].value[0]
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count = count or 2**16
    given = item.LUTData
    if isinstance(given, bytes):
        little = dataset.file_meta.TransferSyntaxUID.is_little_endian
        kind = "u1" if len(given) < 2 * count else "<u2" if little else ">u2"
        given = np.frombuffer(given, kind)
    entries = np.asarray(given).ravel()[:count]
    if len(entries) < count or not 1 <= bits <= 16 or entries.max() >= 2**bits:  # noqa: PLR2004 - of an entry
        msg = "a table that is not complete"
        raise ValueError(msg)
    return _Table(first, entries.astype(np.uint16), bits)


def _first(value: Any) -> float | None:  # noqa: ANN401 - one number, several, or none
    from pydicom.multival import MultiValue  # noqa: PLC0415 - only where DICOM files are met

    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value is None else float(value)
