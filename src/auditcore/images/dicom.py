"""The pixels of DICOM images, in the units of their modality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from auditcore.contracts.access import Limits
from auditcore.errors import UndecodableImage
from auditcore.images.patient_data import parsed, unreadable
from auditcore.images.raster import Raster, check_pixels

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


def read(data: bytes, *, limits: Limits, field: str) -> Raster:
    """Read the pixels of a DICOM image, in the units of its modality, such as Hounsfield units.

    Rescale slope and intercept are applied. The range is the file's window, or all values that its stored bits can
    have. In MONOCHROME1, low values are white.

    Raises:
        LimitExceeded: The header claims too many pixels.
        UndecodableImage: The file is damaged, has several frames, colors that are not RGB, or a compression that cannot
            be read. The message holds nothing of the file's text.

    Source: DICOM PS3.3, C.7.6.3 (pixels), C.11.1 (rescale), C.11.2 (window).
    """
    dataset = parsed(data, field)
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
    if meaning not in {"MONOCHROME1", "MONOCHROME2", "RGB"}:
        msg = "the DICOM file has neither gray values nor RGB; convert it to MONOCHROME2 or RGB"
        raise UndecodableImage(msg, field=field)
    try:
        stored = dataset.pixel_array.astype(np.float64).reshape(height, width, samples)
        slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
        bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
        window = _window(dataset)
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None
    values = stored * slope + intercept
    first, last = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low, high = window or sorted((first * slope + intercept, last * slope + intercept))
    return Raster(
        values.astype(np.float32),
        (low, high),
        bits,
        low_is_white=meaning == "MONOCHROME1",
        windowed=window is not None,
    )


def _window(dataset: FileDataset) -> tuple[float, float] | None:
    """The first window of a file; None if it has none."""
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 1:
        return None
    # the linear function of C.11.2.1.2
    return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2


def _first(value: Any) -> float | None:  # noqa: ANN401 - one number, several, or none
    from pydicom.multival import MultiValue  # noqa: PLC0415 - only where DICOM files are met

    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value is None else float(value)
