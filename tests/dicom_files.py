"""DICOM files for tests, made by pydicom, with a patient that nothing may keep."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

PATIENT = "Nováková^Jana"
PATIENT_ID = "ID-4711"
BYTES_OF_THE_PATIENT = (PATIENT.encode(), b"Jana", PATIENT_ID.encode(), b"chest of")


def dicom_file(stored: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    """A gray image of 12 bits, unless the tags say otherwise."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT_ID
    dataset.StudyDescription = f"chest of {PATIENT}"
    dataset.add_new(0x00091010, "LO", PATIENT)  # a private element
    dataset.Rows, dataset.Columns = stored.shape[-3:-1] if "SamplesPerPixel" in tags else stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()
