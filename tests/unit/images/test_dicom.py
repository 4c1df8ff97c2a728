"""DICOM images, made by pydicom: their pixels in the units of the modality, and nothing about the patient."""

from __future__ import annotations

import io
import traceback
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.images.patient_data import PIXEL_TAGS, pixels_only
from auditcore.images.preprocess import to_pixels
from auditcore.images.reading import read_image
from dicom_files import BYTES_OF_THE_PATIENT, PATIENT, dicom_file

HEIGHT, WIDTH = 12, 20
GRAY: dict[str, Any] = {"resize": None, "crop": {"height": HEIGHT, "width": WIDTH}, "mean": [0.5], "std": [0.25]}
STORED = np.random.default_rng(1).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)


def file(array: np.ndarray = STORED, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> bytes:
    return dicom_file(array, syntax, **tags)


def pixels(data: bytes, **more: Any) -> np.ndarray:
    preprocessing = Preprocessing.model_validate(GRAY | more)
    decoded = read_image(data, preprocessing, limits=Limits(), field="images.0")
    found: np.ndarray = to_pixels(decoded, preprocessing, limits=Limits(), field="images.0").numpy()
    return found


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_stored_bits_are_the_range(syntax: str) -> None:
    np.testing.assert_allclose(pixels(file(syntax=syntax))[0], STORED / 4095, atol=1e-6)


def test_rescale_gives_the_units_and_the_window_their_range() -> None:
    data = file(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=[40, 300], WindowWidth=[400, 1500])
    units = STORED * 2.0 - 1000
    # PS3.3 C.11.2.1.2: 0 up to center - 0.5 - (width - 1) / 2, 1 from center - 0.5 + (width - 1) / 2 on
    expected = ((units - (40 - 0.5)) / (400 - 1) + 0.5).clip(0, 1)
    np.testing.assert_allclose(pixels(data)[0], expected, atol=1e-6)
    declared = pixels(data, range=[-1000, 3000])[0]
    np.testing.assert_allclose(declared, ((units + 1000) / 4000).clip(0, 1), atol=1e-6)


def test_low_values_are_white_in_monochrome1() -> None:
    np.testing.assert_allclose(pixels(file(PhotometricInterpretation="MONOCHROME1"))[0], 1 - STORED / 4095, atol=1e-6)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 900, "WindowWidth": 700}])
def test_monochrome1_is_inverted_within_the_declared_range(window: dict[str, int]) -> None:
    """As code that knows nothing of the file's window does it, such as torchxrayvision's `read_xray_dcm`."""
    data = file(PhotometricInterpretation="MONOCHROME1", **window)
    np.testing.assert_allclose(pixels(data, bits=12)[0], 1 - STORED / 4095, atol=1e-6)
    shown = ((STORED - 1000.0) / 2000).clip(0, 1)
    np.testing.assert_allclose(pixels(data, range=[1000, 3000])[0], 1 - shown, atol=1e-6)


def test_signed_values() -> None:
    stored = (STORED.astype(np.int32) - 2048).astype(np.int16)
    np.testing.assert_allclose(pixels(file(stored))[0], (stored + 2048.0) / 4095, atol=1e-6)


def test_colors() -> None:
    photo = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    data = file(
        photo, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsStored=8, HighBit=7
    )
    rgb = {"mean": [0.5] * 3, "std": [0.25] * 3}
    np.testing.assert_allclose(pixels(data, **rgb), np.moveaxis(photo / 255, 2, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (file(np.stack([STORED, STORED]), NumberOfFrames=2), "2 frames; send each frame"),
        (file(PhotometricInterpretation="PALETTE COLOR"), "neither gray values nor RGB"),
        (file()[:-40], "damaged"),
        (file()[:400], "damaged"),
        (file(Rows=HEIGHT + 1), "damaged"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 50, "damaged"),
    ],
)
def test_other_files_are_refused_without_a_word_of_their_text(data: bytes, match: str) -> None:
    with pytest.raises(UndecodableImage, match=match) as caught:
        pixels(data)
    told = "".join(traceback.format_exception(caught.value))
    assert "Jana" not in told
    assert "4711" not in told


def test_a_damaged_element_is_not_quoted() -> None:
    data = file(WindowCenter="40", WindowWidth="400").replace(b"DS\x02\x0040", b"DS\x02\x00Ja")
    with pytest.raises(UndecodableImage, match="damaged") as caught:
        pixels(data)
    assert "Ja" not in "".join(traceback.format_exception(caught.value))


def test_limits_hold() -> None:
    asked = Preprocessing.model_validate(GRAY)
    with pytest.raises(LimitExceeded, match="240 pixels"):
        read_image(file(), asked, limits=Limits(image_pixels=100), field="images.0")


def test_only_pixels_are_kept() -> None:
    data = file(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=40, WindowWidth=400)
    kept = pixels_only(data, field="images.0")
    for text in BYTES_OF_THE_PATIENT:
        assert text in data
        assert text not in kept
    assert {element.keyword for element in pydicom.dcmread(io.BytesIO(kept))} <= set(PIXEL_TAGS)
    assert np.array_equal(pixels(kept), pixels(data))
    # the same picture of another patient has the same digest
    assert pixels_only(kept, field="images.0") == kept
    with pytest.raises(UndecodableImage, match="damaged") as caught:
        pixels_only(data[:132] + b"\xff" * 40 + PATIENT.encode(), field="images.0")
    assert "Nov" not in "".join(traceback.format_exception(caught.value))
