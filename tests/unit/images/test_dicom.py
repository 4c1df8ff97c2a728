"""DICOM images, made by pydicom: their pixels in the units of the modality, and nothing about the patient."""

from __future__ import annotations

import io
import traceback
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.images import patient_data
from auditcore.images.patient_data import PIXEL_TAGS, bytes_to_keep, is_dicom, pixels_only
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


def table(entries: np.ndarray, first: int = 0, bits: int = 16) -> Sequence:
    """The sequence of a table of values, with a text that nobody may keep."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    item.LUTExplanation = PATIENT
    return Sequence([item])


CURVE = (np.linspace(0, 1, 3000) ** 2 * 65535).astype(np.uint16)
SHOWN: dict[str, dict[str, Any]] = {
    "sigmoid": {"WindowCenter": 2000, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    "linear exact": {"WindowCenter": 2000, "WindowWidth": 9, "VOILUTFunction": "LINEAR_EXACT"},
    "step": {"WindowCenter": 2000, "WindowWidth": 1},
    "table": {"VOILUTSequence": table(CURVE, 500)},
    "table before window": {"VOILUTSequence": table(CURVE >> 4, 500, 12), "WindowCenter": 2000, "WindowWidth": 900},
    "table of the modality": {"ModalityLUTSequence": table(CURVE, 500)},
    "both tables": {"ModalityLUTSequence": table(CURVE, 500), "VOILUTSequence": table(CURVE[::-1], 900)},
    "table of the modality and window": {
        "ModalityLUTSequence": table(CURVE, 500),
        "WindowCenter": 30000,
        "WindowWidth": 20000,
    },
    "rescale and sigmoid": {
        "RescaleSlope": 0.5,
        "RescaleIntercept": -1000,
        "WindowCenter": 40,
        "WindowWidth": 400,
        "VOILUTFunction": "SIGMOID",
    },
}
"""What else a file may say of how its values are shown."""


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("how", SHOWN)
def test_values_are_shown_as_pydicom_shows_them(how: str, syntax: str) -> None:
    data = file(syntax=syntax, **SHOWN[how])
    dataset = pydicom.dcmread(io.BytesIO(data))
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(float)
    # the range of pydicom's result: of the table, else of the values that the window stretches
    if "VOILUTSequence" in SHOWN[how]:
        low, high = 0.0, 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "ModalityLUTSequence" in SHOWN[how]:
        low, high = 0.0, 65535.0
    else:
        slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
        low, high = intercept, intercept + 4095 * slope
    np.testing.assert_allclose(pixels(data)[0], (shown - low) / (high - low), atol=1e-6)
    kept = pixels_only(data, field="images.0")
    assert b"Jana" not in kept
    assert np.array_equal(pixels(kept), pixels(data))
    # what a request declares is in the units of the modality
    units = apply_modality_lut(dataset.pixel_array, dataset)
    found = pixels(data, range=[-2000, 70000])[0]
    np.testing.assert_allclose(found, (units + 2000.0) / 72000, atol=1e-6)


@pytest.mark.parametrize("width", [0, 0.5])
def test_a_window_without_a_width_is_none(width: float) -> None:
    np.testing.assert_allclose(pixels(file(WindowCenter=0, WindowWidth=width))[0], STORED / 4095, atol=1e-6)


def test_low_values_of_a_table_are_white_in_monochrome1() -> None:
    tables = {"VOILUTSequence": table(CURVE, 500)}
    inverted = pixels(file(PhotometricInterpretation="MONOCHROME1", **tables))
    np.testing.assert_allclose(inverted, 1 - pixels(file(**tables)), atol=1e-6)


@pytest.mark.parametrize(
    "item",
    [
        {"LUTDescriptor": [3000, 0, 16], "LUTData": b"\0\0"},
        {"LUTDescriptor": [2, 0, 8], "LUTData": b"\xff\xff\xff\xff"},
        {"LUTDescriptor": [2, 0, 99], "LUTData": b"\0\0\0\0"},
    ],
)
def test_a_damaged_table_is_refused(item: dict[str, Any]) -> None:
    damaged = Dataset()
    for name, value in item.items():
        setattr(damaged, name, value)
        damaged[name].VR = "OW" if isinstance(value, bytes) else "US"
    with pytest.raises(UndecodableImage, match="damaged"):
        pixels(file(VOILUTSequence=Sequence([damaged])))


def test_entries_of_a_table_may_be_bytes() -> None:
    steps = Dataset()
    steps.LUTDescriptor, steps.LUTData = [256, 0, 8], bytes(range(255, -1, -1))
    steps["LUTDescriptor"].VR, steps["LUTData"].VR = "US", "OW"
    expected = (255 - STORED.clip(0, 255)) / 255.0
    np.testing.assert_allclose(pixels(file(VOILUTSequence=Sequence([steps])))[0], expected, atol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_values_may_be_in_the_upper_bits(signed: bool) -> None:  # noqa: FBT001
    stored = STORED.astype(np.int32) - 2048 * signed
    data = file((stored << 4).astype(np.int16 if signed else np.uint16), HighBit=15)
    np.testing.assert_allclose(pixels(data)[0], STORED / 4095, atol=1e-6)


@pytest.mark.parametrize("groups", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_enhanced_images_say_the_same_of_their_frame(groups: str) -> None:
    units, window, frame = Dataset(), Dataset(), Dataset()
    units.RescaleSlope, units.RescaleIntercept, units.RescaleType = 2, -1000, "HU"
    window.WindowCenter, window.WindowWidth = 40, 400
    frame.PixelValueTransformationSequence, frame.FrameVOILUTSequence = Sequence([units]), Sequence([window])
    found = pixels(file(NumberOfFrames=1, **{groups: Sequence([frame])}))
    plain = pixels(file(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=40, WindowWidth=400))
    assert np.array_equal(found, plain)


def test_values_of_floating_point_need_a_range() -> None:
    dataset = pydicom.dcmread(io.BytesIO(file()))
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, name)
    dataset.FloatPixelData, dataset.BitsAllocated = STORED.astype("<f4").tobytes(), 32
    written = io.BytesIO()
    dataset.save_as(written)
    with pytest.raises(UndecodableImage, match=r"declare `preprocessing.range`"):
        pixels(written.getvalue())
    np.testing.assert_allclose(pixels(written.getvalue(), range=[0, 5000])[0], STORED / 5000, atol=1e-6)


HEADLESS = {
    "without the preamble": lambda data: data[128:],
    "without the mark": lambda data: data[132:],
    "without a header": lambda data: data[data.index(b"\x08\x00\x05\x00") :],
}


@pytest.mark.parametrize("lost", HEADLESS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_that_lost_its_beginning_is_read_and_its_patient_removed(lost: str, syntax: str) -> None:
    data = HEADLESS[lost](file(syntax=syntax))
    assert is_dicom(data[:132])
    assert np.array_equal(pixels(data), pixels(file()))
    kept = bytes_to_keep(data)
    assert not any(text in kept for text in BYTES_OF_THE_PATIENT)
    assert np.array_equal(pixels(kept), pixels(file()))


@pytest.mark.parametrize(
    "start",
    [b"\x89PNG\r\n\x1a\n\0\0", b"II*\0\x08\0\0\0", b"\x08\0\0\0\0\0\0\0{}", b"\x10\x01\0\0\0\0\0\0{", b"", b"\x08\0"],
)
def test_other_files_are_not_taken_for_dicom(start: bytes) -> None:
    assert not is_dicom(start)


def test_a_damaged_file_is_kept_without_a_byte_of_it() -> None:
    for data in (file()[:400], file(WindowCenter="40").replace(b"DS\x02\x0040", b"DS\x02\x00Ja")):
        assert not any(text in bytes_to_keep(data) for text in (*BYTES_OF_THE_PATIENT, b"Ja"))
        with pytest.raises(UndecodableImage, match="no picture: it is damaged"):
            pixels(bytes_to_keep(data))
    assert bytes_to_keep(b"GIF89a") == b"GIF89a"


def test_a_file_without_a_picture_says_so() -> None:
    dataset = pydicom.dcmread(io.BytesIO(file()))
    del dataset.PixelData
    written = io.BytesIO()
    dataset.save_as(written)
    with pytest.raises(UndecodableImage, match=r"holds no picture.*index \(DICOMDIR\)"):
        pixels(written.getvalue())


def test_a_file_that_inflates_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file(syntax=DeflatedExplicitVRLittleEndian)
    assert np.array_equal(pixels(data), pixels(file()))
    monkeypatch.setattr(patient_data, "MOST_INFLATED", STORED.nbytes)
    with pytest.raises(UndecodableImage, match="damaged"):
        pixels(data)


def test_a_compression_without_a_decoder_is_named() -> None:
    dataset = pydicom.dcmread(io.BytesIO(file()))
    dataset.PixelData = encapsulate([b"\0\0\1\xb3"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    written = io.BytesIO()
    dataset.save_as(written)
    with pytest.raises(UndecodableImage, match=r"no decoder for.*\(MPEG2 Main Profile / Main Level\).*uncompressed"):
        pixels(written.getvalue())


def jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["stored", "JPEG"])
def test_colors_of_ultrasound_and_photos_become_rgb(kind: str) -> None:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    photo = np.stack([rows * 20, columns * 12, (rows + columns) * 7], axis=-1).astype(np.uint8)
    colors = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_FULL"}
    data = file(convert_color_space(photo, "RGB", "YBR_FULL"), BitsStored=8, HighBit=7, **colors)
    if kind == "JPEG":
        dataset = pydicom.dcmread(io.BytesIO(data))
        dataset.PixelData, dataset.PhotometricInterpretation = encapsulate([jpeg(photo)]), "YBR_FULL_422"
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        written = io.BytesIO()
        dataset.save_as(written)
        data = written.getvalue()
    found = pixels(data, mean=[0.5] * 3, std=[0.25] * 3)
    np.testing.assert_allclose(found, np.moveaxis(photo / 255, 2, 0), atol=4 / 255)
    assert np.array_equal(pixels(pixels_only(data, field="images.0"), mean=[0.5] * 3, std=[0.25] * 3), found)


def test_a_window_is_of_gray_values_only() -> None:
    photo = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    colors = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    data = file(photo, BitsStored=8, HighBit=7, WindowCenter=100, WindowWidth=50, **colors)
    found = pixels(data, mean=[0.5] * 3, std=[0.25] * 3)
    np.testing.assert_allclose(found, np.moveaxis(photo / 255, 2, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (file(np.stack([STORED, STORED]), NumberOfFrames=2), "2 frames; send each frame"),
        (file(PhotometricInterpretation="PALETTE COLOR"), "neither gray values nor RGB or YBR; convert"),
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


def test_a_lack_of_memory_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    data = file()
    monkeypatch.setattr("auditcore.images.dicom._stored", full)
    with pytest.raises(MemoryError):
        pixels(data)


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
