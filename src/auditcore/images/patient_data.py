"""DICOM files without what they say about the patient. Needs neither NumPy nor torch, as a gateway has none.

What pydicom raises is never repeated or chained: its messages quote the file, and the file is about a patient.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from auditcore.errors import InputError, UndecodableImage

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

_PREFIX_AT, _PREFIX = 128, b"DICM"

PIXEL_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    "PixelData",
)
"""Everything that says how the pixels are to be read; nothing else of a file is kept."""


def is_dicom(data: bytes) -> bool:
    """Whether a file is in the DICOM format."""
    return data[_PREFIX_AT : _PREFIX_AT + len(_PREFIX)] == _PREFIX


def pixels_only(data: bytes, *, field: str) -> bytes:
    """Return a DICOM file that holds the pixels of another, and nothing about the patient, the study or the place.

    Text that is part of the picture stays in it.

    Args:
        data: A DICOM file.
        field: Path of the image in the request, for the error.

    Raises:
        UndecodableImage: The file is damaged.
    """
    from pydicom.dataset import Dataset, FileMetaDataset  # noqa: PLC0415 - only where DICOM files are met
    from pydicom.uid import UID, SecondaryCaptureImageStorage  # noqa: PLC0415

    given = parsed(data, field)
    kept = Dataset()
    for tag in PIXEL_TAGS:
        if tag in given:
            kept[tag] = given[tag]
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = given.file_meta.TransferSyntaxUID
    kept.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    # made of nothing that could lead to the patient
    kept.file_meta.MediaStorageSOPInstanceUID = UID("2.25.0")
    file = io.BytesIO()
    try:
        kept.save_as(file, enforce_file_format=True)
    # what a damaged element raises when it is written again depends on its bytes
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None
    return file.getvalue()


def parsed(data: bytes, field: str) -> FileDataset:
    """Return the elements of a file.

    Raises:
        UndecodableImage: The file is damaged, or pydicom is not installed.
    """
    try:
        import pydicom  # noqa: PLC0415 - only where DICOM files are met
    except ImportError as error:
        msg = "reading DICOM files needs the package pydicom; install auditcore[dicom] where the worker and gateway run"
        raise UndecodableImage(msg, field=field) from error
    try:
        return pydicom.dcmread(io.BytesIO(data))
    except (InputError, MemoryError):
        raise
    # damaged files raise whatever their bytes lead to, and the message may repeat text of the file
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None


def unreadable(field: str) -> UndecodableImage:
    """The error of a file that cannot be read."""
    msg = "the DICOM file is damaged, or compressed in a way that cannot be read; export it again, uncompressed"
    return UndecodableImage(msg, field=field)
