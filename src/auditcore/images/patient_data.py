"""DICOM files without what they say about the patient. Needs neither NumPy nor torch, as a gateway has none.

What pydicom raises is never repeated or chained: its messages quote the file, and the file is about a patient.
"""

from __future__ import annotations

import io
import re
import zlib
from typing import TYPE_CHECKING

from auditcore.errors import InputError, UndecodableImage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

_PREFIX_AT, _PREFIX = 128, b"DICM"
_HEADER_GROUP = b"\x02\x00"
_GROUPS = (_HEADER_GROUP, b"\x08\x00", b"\x10\x00")
"""Groups that the first element of a file without a preamble has: header, identification, patient."""

_FIRST_ELEMENTS = 0x100
"""Numbers of the elements with which these groups begin are lower."""

MOST_INFLATED = 2**28
"""Most bytes of the elements of a deflated file: two bytes for each of 134 megapixels."""

_INFLATED_AT_ONCE = 2**20

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
    "VOILUTFunction",
    "RescaleIntercept",
    "RescaleSlope",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)
"""Everything that says how the pixels are to be read, besides `TABLES`; nothing else of a file is kept."""

TABLES = ("ModalityLUTSequence", "VOILUTSequence")
"""Sequences whose first item is a table of values."""

TABLE_TAGS = ("LUTDescriptor", "LUTData")
"""What is kept of a table; its explanation is free text."""

_NO_PICTURE = bytes(_PREFIX_AT) + _PREFIX
"""A DICOM file without a single element, which an audit leaves out with the reason."""

_PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_NUMBERS = frozenset({"DS", "IS"})
_WORD = "CS"
_IS_WORD = re.compile("[A-Z0-9_ ]{0,16}")
"""What elements of these types hold, by PS3.5, 6.2."""

_OF_FRAMES = {
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}
"""Where images of the enhanced kinds have elements that other images have at their top level."""


def is_dicom(data: bytes) -> bool:
    """Whether a file is in the DICOM format; also one that has lost the 128 bytes before its mark, or the mark.

    Args:
        data: At least the first 132 bytes of the file.
    """
    if data[_PREFIX_AT : _PREFIX_AT + len(_PREFIX)] == _PREFIX or data.startswith(_PREFIX):
        return True
    return data.startswith(_GROUPS) and _is_element(data)


def _is_element(data: bytes) -> bool:
    """Whether bytes begin with the number of an element, and then its type, or its length where types are left out."""
    number, kind, length = int.from_bytes(data[2:4], "little"), data[4:6], int.from_bytes(data[4:8], "little")
    if number >= _FIRST_ELEMENTS:
        return False
    # of a file of tensors, bytes 4 to 7 are 0
    return (kind.isalpha() and kind.isupper()) or (0 < length <= 64 and length % 2 == 0)  # noqa: PLR2004 - of a text


def bytes_to_keep(data: bytes) -> bytes:
    """The bytes of an image that an audit may keep: of a DICOM file `pixels_only`, of any other file all.

    A damaged DICOM file, of which the patient cannot be removed, becomes one without a picture.
    """
    try:
        return pixels_only(data, field="") if is_dicom(data) else data
    except UndecodableImage:
        return _NO_PICTURE


def pixels_only(data: bytes, *, field: str) -> bytes:
    """Return a DICOM file that holds the pixels of another, and nothing about the patient, the study or the place.

    Text that is part of the picture stays in it.

    Args:
        data: A DICOM file.
        field: Path of the image in the request, for the error.

    Raises:
        UndecodableImage: The file is damaged, or holds no picture.
    """
    file = io.BytesIO()
    kept = picture(data, field)
    try:
        kept.save_as(file, enforce_file_format=True)
    except MemoryError:
        raise
    # what a damaged element raises when it is written again depends on its bytes
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None
    return file.getvalue()


def picture(data: bytes, field: str) -> Dataset:
    """Return the elements of a file that say what its picture is, and no others.

    What images of the enhanced kinds say of their first frame is at the top level, as in other images.

    Raises:
        UndecodableImage: The file is damaged, or holds no picture, or pydicom is not installed.
    """
    given = _parsed(data, field)
    try:
        kept = _picture(given)
    except MemoryError:
        raise
    # elements are decoded when they are read, and damaged ones raise whatever their bytes lead to
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None
    if not any(name in kept for name in _PIXEL_DATA):
        msg = (
            "the DICOM file holds no picture: it is damaged or cut off, or an index (DICOMDIR), a report or a display "
            "setting; export it again, or leave it out"
        )
        raise UndecodableImage(msg, field=field)
    return kept


def _picture(given: FileDataset) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset  # noqa: PLC0415 - only where DICOM files are met
    from pydicom.sequence import Sequence  # noqa: PLC0415
    from pydicom.uid import (  # noqa: PLC0415
        UID,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        SecondaryCaptureImageStorage,
    )

    kept = Dataset()
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for sequence, tags in _OF_FRAMES.items():
            found = _first_item(_first_item(given, groups), sequence)
            _copy(found, kept, tags)
    _copy(given, kept, PIXEL_TAGS)
    for name in TABLES:
        table = Dataset()
        _copy(_first_item(given, name), table, TABLE_TAGS)
        if table:
            setattr(kept, name, Sequence([table]))
    kept.file_meta = FileMetaDataset()
    # a file without a header has none of the compressed kinds, whose elements all have types
    implied = ImplicitVRLittleEndian if given.original_encoding[0] else ExplicitVRLittleEndian
    kept.file_meta.TransferSyntaxUID = given.file_meta.get("TransferSyntaxUID", implied)
    kept.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    # made of nothing that could lead to the patient
    kept.file_meta.MediaStorageSOPInstanceUID = UID("2.25.0")
    return kept


def _copy(given: Dataset | None, kept: Dataset, tags: tuple[str, ...]) -> None:
    """Copy elements; one that an image has at its top level replaces that of its frame.

    Raises:
        ValueError: An element of a number or a word has other text, which may be about the patient.
    """
    for tag in tags:
        if given is not None and tag in given:
            element = given[tag]
            for value in element.value if element.VM > 1 else [element.value]:
                if element.VR in _NUMBERS and value is not None:
                    float(value)
                if element.VR == _WORD and not _IS_WORD.fullmatch(str(value or "")):
                    msg = "other text than a word"
                    raise ValueError(msg)
            kept[tag] = element


def _first_item(given: Dataset | None, name: str) -> Dataset | None:
    found = None if given is None else given.get(name)
    return found[0] if found else None


def _parsed(data: bytes, field: str) -> FileDataset:
    """Return the elements of a file.

    Raises:
        UndecodableImage: The file is damaged, or pydicom is not installed.
    """
    try:
        import pydicom  # noqa: PLC0415 - only where DICOM files are met
    except ImportError as error:
        msg = "reading DICOM files needs the package pydicom; install auditcore[dicom] where the worker and gateway run"
        raise UndecodableImage(msg, field=field) from error
    given = _with_preamble(data)
    try:
        _refuse_bomb(given)
        # `force`: a file without a preamble
        return pydicom.dcmread(io.BytesIO(given), force=True)
    except (InputError, MemoryError):
        raise
    # damaged files raise whatever their bytes lead to, and the message may repeat text of the file
    except Exception:  # noqa: BLE001
        raise unreadable(field) from None


def _with_preamble(data: bytes) -> bytes:
    if data.startswith(_PREFIX):
        return bytes(_PREFIX_AT) + data
    return bytes(_PREFIX_AT) + _PREFIX + data if data.startswith(_HEADER_GROUP) else data


def _refuse_bomb(data: bytes) -> None:
    """Refuse a deflated file that becomes huge, before pydicom inflates it in one piece.

    Raises:
        ValueError: It has too many bytes.
    """
    from pydicom.filereader import read_dataset  # noqa: PLC0415 - only where DICOM files are met
    from pydicom.uid import DeflatedExplicitVRLittleEndian  # noqa: PLC0415

    if not data[_PREFIX_AT:].startswith(_PREFIX):
        return
    stream = io.BytesIO(data)
    stream.seek(_PREFIX_AT + len(_PREFIX))
    header = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != _HEADER_GROUP[0])  # noqa: FBT003
    if header.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflating, rest, total = zlib.decompressobj(-zlib.MAX_WBITS), stream.read(), 0
    while rest and not inflating.eof:
        total += len(inflating.decompress(rest, _INFLATED_AT_ONCE))
        rest = inflating.unconsumed_tail
        if total > MOST_INFLATED:
            msg = f"more than {MOST_INFLATED} bytes"
            raise ValueError(msg)


def unreadable(field: str) -> UndecodableImage:
    """The error of a file that cannot be read."""
    msg = "the DICOM file is damaged, or compressed in a way that cannot be read; export it again, uncompressed"
    return UndecodableImage(msg, field=field)
