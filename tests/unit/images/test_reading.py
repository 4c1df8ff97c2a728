"""Files of any depth and number of bands: the values that a model sees are those that the file holds."""

from __future__ import annotations

import io
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from pydantic import ValidationError
from torch.nn import functional

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.images.decode import decode_image
from auditcore.images.preprocess import to_pixels
from auditcore.images.reading import read_image

HEIGHT, WIDTH = 12, 20
GRAY: dict[str, Any] = {"resize": None, "crop": {"height": HEIGHT, "width": WIDTH}, "mean": [0.5], "std": [0.25]}
RGB = GRAY | {"mean": [0.5] * 3, "std": [0.25] * 3}


def bands(count: int) -> dict[str, Any]:
    return GRAY | {"mean": [0.5] * count, "std": [0.25] * count, "colors": "bands"}


def values(dtype: type, largest: float, channels: int | None = None) -> np.ndarray:
    shape = (HEIGHT, WIDTH) if channels is None else (HEIGHT, WIDTH, channels)
    found = np.random.default_rng(3).random(shape) * largest
    found.flat[0], found.flat[1] = 0, largest
    return found.astype(dtype)


def tif(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def pixels(data: bytes, asked: dict[str, Any], **more: Any) -> np.ndarray:
    preprocessing = Preprocessing.model_validate(asked | more)
    decoded = read_image(data, preprocessing, limits=Limits(), field="images.0")
    found: np.ndarray = to_pixels(decoded, preprocessing, limits=Limits(), field="images.0").numpy()
    return found


def note(data: bytes, asked: dict[str, Any], **more: Any) -> str | None:
    return read_image(data, Preprocessing.model_validate(asked | more), limits=Limits(), field="images.0").note


@pytest.mark.parametrize("save", [png, tif, npy])
def test_16_bits_stay_16_bits(save: Any) -> None:
    array = values(np.uint16, 65535)
    expected = array.astype(np.float64) / 65535
    np.testing.assert_allclose(pixels(save(array), GRAY)[0], expected, atol=1e-7)
    # gray in all three channels of a model that takes colors
    for channel in pixels(save(array), RGB):
        np.testing.assert_allclose(channel, expected, atol=1e-7)


@pytest.mark.parametrize("save", [png, tif, npy])
def test_12_bits_in_16_are_declared_or_reported(save: Any) -> None:
    data = save(values(np.uint16, 4095))
    said = note(data, GRAY)
    assert said is not None
    assert "6.2% of the range of its 16 bits (largest value 4095)" in said
    assert "such as 12" in said
    assert note(data, GRAY, bits=12) is None
    np.testing.assert_allclose(pixels(data, GRAY, bits=12)[0], values(np.uint16, 4095) / 4095, atol=1e-7)
    assert note(save(values(np.uint16, 65535)), GRAY) is None


@pytest.mark.parametrize(
    ("array", "declared", "words"),
    [
        (values(np.uint16, 2000) + 32768, {}, "3.1% of the range of its 16 bits (values 32768 to 34768), so the model"),
        (65535 - values(np.uint16, 4095), {}, "sees it almost white"),
        (values(np.uint16, 2000) + 32768, {}, "sees it almost gray"),
        (values(np.uint8, 255), {"bits": 12}, "6.2% of the range that `preprocessing` declares (values 0 to 255)"),
        (values(np.float32, 300), {"range": [0, 65535]}, "almost black; if that is not what the model was trained on"),
    ],
)
def test_a_small_part_of_a_range_is_reported_wherever_it_is(array: Any, declared: dict[str, Any], words: str) -> None:
    said = note(npy(array), GRAY, **declared)
    assert said is not None
    assert words in said
    assert note(npy(array), GRAY, range=[float(array.min()), float(array.max())]) is None


def test_a_declared_range_of_other_units_is_reported() -> None:
    for data, asked in ((png(values(np.uint8, 255, 3)), RGB), (npy(values(np.int16, 4000)), GRAY)):
        said = note(data, asked, range=[0, 1])
        assert said is not None
        assert "no value between 0 and 1, the range that `preprocessing` declares (values 0 to" in said
        assert "only black and white" in said
    # an image of two values has none between in any range
    assert note(png(values(np.uint8, 1).astype(bool)), GRAY, range=[0, 255]) is None


def test_a_photo_of_8_bits_where_12_were_declared_is_reported() -> None:
    said = note(png(values(np.uint8, 255, 3)), RGB, bits=12)
    assert said is not None
    assert "6.2% of the range that `preprocessing` declares" in said
    assert note(png(values(np.uint8, 9, 3)), RGB) is None


def test_a_window_clips_and_a_range_scales() -> None:
    array = values(np.float32, 400) - 100
    scaled = pixels(npy(array), GRAY, range=[-100, 300])[0]
    np.testing.assert_allclose(scaled, (array.astype(np.float64) + 100) / 400, atol=1e-6)
    windowed = pixels(npy(array), GRAY, window={"center": 50, "width": 100})[0]
    np.testing.assert_allclose(windowed, ((array.astype(np.float64)) / 100).clip(0, 1), atol=1e-6)


def test_a_window_clips_before_the_image_is_resized() -> None:
    array = np.full((24, 40), 50, np.int16)
    array[8:14, 9:23] = 4000  # as a marker of metal on an X-ray
    smaller = GRAY | {"resize": {"height": HEIGHT, "width": WIDTH}, "fit": "squash", "crop": None}
    found = pixels(npy(array), smaller, window={"center": 50, "width": 100})[0]
    shown = torch.from_numpy((array / 100.0).clip(0, 1))[None, None]
    expected = functional.interpolate(shown, size=(HEIGHT, WIDTH), mode="bilinear", antialias=True)[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4, 6, 13])
def test_bands_keep_their_number_order_and_values(count: int) -> None:
    array = values(np.uint16, 65535, count)
    expected = np.moveaxis(array.astype(np.float64) / 65535, 2, 0)
    planar = np.moveaxis(array, 2, 0)
    for data in (
        tif(array, photometric="minisblack", planarconfig="contig"),
        tif(planar, photometric="minisblack", planarconfig="separate"),
        npy(array),
        npy(planar),
    ):
        np.testing.assert_allclose(pixels(data, bands(count)), expected, atol=1e-7)


@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_are_bands_where_the_file_says_so(options: dict[str, bool], dtype: type) -> None:
    largest = np.iinfo(dtype).max
    planar = np.moveaxis(values(dtype, largest, 5), 2, 0)
    found = pixels(tif(planar, photometric="minisblack", metadata={"axes": "CYX"}, **options), bands(5))
    np.testing.assert_allclose(found, planar / largest, atol=1e-7)
    slices = tif(planar, photometric="minisblack", metadata={"axes": "ZYX"}, **options)
    np.testing.assert_allclose(pixels(slices, GRAY)[0], planar[0] / largest, atol=1e-7)


OME = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="20" SizeY="12" SizeC="2" SizeZ="1"
SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><Channel ID="Channel:0:1" SamplesPerPixel="1"/>
<TiffData IFD="0" FirstC="0" PlaneCount="1"><UUID FileName="this.tif">urn:uuid:1</UUID></TiffData>
<TiffData IFD="0" FirstC="1" PlaneCount="1"><UUID FileName="{path}">urn:uuid:2</UUID></TiffData>
</Pixels></Image></OME>"""


def test_a_tiff_opens_no_other_file_and_its_bands_are_not_invented(tmp_path: Path) -> None:
    (tmp_path / "other.tif").write_bytes(tif(values(np.uint16, 65535)))
    for path in (str(tmp_path / "other.tif"), "missing.tif"):
        data = tif(values(np.uint16, 65535), description=OME.format(path=path), metadata=None)
        with pytest.raises(UndecodableImage, match="bands of the TIFF are in other files"):
            pixels(data, bands(2))


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("save", [tif, npy])
def test_signed_integers_need_a_range_for_what_lies_below_0(save: Any, dtype: type) -> None:
    largest = np.iinfo(dtype).max
    array = values(dtype, largest)
    np.testing.assert_allclose(pixels(save(array), GRAY)[0], array / largest, atol=1e-6)
    array[0, 0] = -100
    with pytest.raises(UndecodableImage, match=r"from -100 to .* declare `preprocessing.range`.*signed integers"):
        pixels(save(array), GRAY)
    expected = (array.astype(float) + 100) / (largest + 100)
    found = pixels(save(array), GRAY, range=[-100, largest])[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_fourth_band_is_no_transparency_unless_it_says_so() -> None:
    array = values(np.uint8, 255, 4)
    unspecified = tif(array, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_allclose(pixels(unspecified, bands(4)), np.moveaxis(array / 255, 2, 0), atol=1e-7)
    with pytest.raises(UndecodableImage, match="4 bands, and the model takes 3 bands"):
        pixels(unspecified, RGB)
    alpha = tif(array, photometric="rgb", extrasamples=["unassalpha"])
    assert pixels(alpha, RGB).shape == (3, HEIGHT, WIDTH)
    # the whole photo is over black, as everywhere
    expected = np.asarray(decode_image(alpha, limits=Limits(), field="x")).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(pixels(alpha, RGB), expected, atol=1e-7)


TURNED = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: np.rot90,
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
"""Orientation of TIFF -> how an upright image is stored."""


@pytest.mark.parametrize("orientation", TURNED)
def test_a_turned_tiff_stands_upright_at_any_depth(orientation: int) -> None:
    tag = [(274, 3, 1, orientation, True)]
    for dtype, largest, photometric in ((np.uint16, 65535, "rgb"), (np.uint8, 255, "rgb")):
        array = values(dtype, largest, 3)
        data = tif(TURNED[orientation](array), photometric=photometric, extratags=tag)
        np.testing.assert_allclose(pixels(data, RGB), np.moveaxis(array / largest, 2, 0), atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "extras", [["unspecified", "unassalpha"], ["unassalpha", "unspecified"]], ids=["behind", "in front"]
)
def test_transparency_beside_other_bands_is_found_by_what_the_file_says(dtype: type, extras: list[str]) -> None:
    largest = np.iinfo(dtype).max
    array = values(dtype, largest, 5)
    data = tif(array, photometric="rgb", extrasamples=extras)
    alpha = 3 + extras.index("unassalpha")
    over_black = np.delete(array, alpha, axis=2) / largest * (array[:, :, alpha : alpha + 1] / largest)
    np.testing.assert_allclose(pixels(data, bands(4)), np.moveaxis(over_black, 2, 0), atol=1e-6)
    # a model of as many bands takes transparency for one of them
    np.testing.assert_allclose(pixels(data, bands(5)), np.moveaxis(array / largest, 2, 0), atol=1e-6)


def test_a_deep_image_is_over_black_as_a_photo_is() -> None:
    array = values(np.uint8, 255, 4)
    for kind in ("unassalpha", "assocalpha"):
        photo = pixels(tif(array, photometric="rgb", extrasamples=[kind]), RGB)
        deep = pixels(tif(array.astype(np.uint16) * 257, photometric="rgb", extrasamples=[kind]), RGB)
        if kind == "unassalpha":
            np.testing.assert_allclose(deep, photo, atol=2 / 255)
        else:
            np.testing.assert_allclose(deep, np.moveaxis(array[:, :, :3] / 255, 2, 0), atol=1e-6)
    # of a gray PNG, one value may be declared transparent
    gray = values(np.uint16, 65535)
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG", transparency=65535)
    np.testing.assert_allclose(pixels(file.getvalue(), GRAY)[0], np.where(gray == 65535, 0, gray) / 65535, atol=1e-7)


@pytest.mark.parametrize("photometric", ["cielab", "ycbcr", "palette", "cfa"])
def test_values_that_are_no_colors_are_not_taken_for_some(photometric: str) -> None:
    deep = values(np.uint16, 65535, 3 if photometric in {"cielab", "ycbcr"} else None)
    more: dict[str, Any] = {}
    if photometric == "palette":
        more["colormap"] = np.zeros((3, 65536), np.uint16)
    if photometric == "cfa":
        more["extratags"] = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)]
    with pytest.raises(UndecodableImage, match=f"TIFF are {photometric.upper()}.*convert it to gray or RGB"):
        pixels(tif(deep, photometric=photometric, **more), GRAY if deep.ndim == 2 else RGB)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_preview_in_front_is_not_taken_for_the_picture(dtype: type) -> None:
    with pytest.raises(UndecodableImage, match="is a preview, as in raw files of cameras"):
        pixels(tif(values(dtype, 255), subfiletype=1), GRAY)


def test_a_volume_is_refused() -> None:
    volume = np.zeros((16, 16, 16), np.uint16)
    with pytest.raises(UndecodableImage, match="a volume of 16 slices; send each slice"):
        pixels(tif(volume, volumetric=True, tile=(16, 16, 16)), GRAY)


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"rowsperstrip": 5}, {"planarconfig": "separate"}])
def test_compressed_tiff_is_read_unless_it_is_inflated_without_end(compression: str, options: dict[str, Any]) -> None:
    array = values(np.uint16, 65535, 3)
    planar = np.moveaxis(array, 2, 0) if "planarconfig" in options else array
    data = tif(planar, photometric="rgb", compression=compression, **options)
    np.testing.assert_allclose(pixels(data, RGB), np.moveaxis(array / 65535, 2, 0), atol=1e-7)
    part = {"zlib": zlib.compress, "lzma": lzma.compress}[compression](bytes(2**20))
    bomb = tif(iter([part] * 20), shape=planar.shape, dtype="u2", photometric="rgb", compression=compression, **options)
    with pytest.raises(UndecodableImage, match="inflated to more than its pixels have"):
        pixels(bomb, RGB)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_lzw, predictor"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_one_deep_band_is_read_in_the_compressions_of_other_programs(compression: str, dtype: type) -> None:
    largest = 65535 if dtype is np.uint16 else 1
    array = values(dtype, largest)
    name, _, predictor = compression.partition(", ")
    more = {"tiffinfo": {317: 2 if dtype is np.uint16 else 3}} if predictor else {}
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF", compression=name, **more)
    np.testing.assert_allclose(pixels(file.getvalue(), GRAY)[0], array / largest, atol=1e-7)
    with pytest.raises(UndecodableImage, match="TIFF"):
        pixels(file.getvalue()[:-200], GRAY)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_of_both_byte_orders_and_sizes(order: str, big: bool) -> None:  # noqa: FBT001
    for dtype in (np.uint8, np.uint16):
        array = values(dtype, np.iinfo(dtype).max)
        data = tif(array, byteorder=order, bigtiff=big)
        np.testing.assert_allclose(pixels(data, GRAY)[0], array / np.iinfo(dtype).max, atol=1e-7)


@pytest.mark.parametrize("change", [lambda array: array.astype(">u2"), np.asfortranarray])
def test_arrays_of_any_order(change: Any) -> None:
    array = values(np.uint16, 65535)
    np.testing.assert_allclose(pixels(npy(change(array)), GRAY)[0], array / 65535, atol=1e-7)


def test_floating_point_has_no_range_beyond_0_to_1() -> None:
    array = values(np.float32, 1)
    np.testing.assert_allclose(pixels(tif(array), GRAY)[0], array, atol=1e-7)
    with pytest.raises(UndecodableImage, match=r"values from 0 to 300; declare `preprocessing.range`"):
        pixels(tif(values(np.float32, 300)), GRAY)
    array[2, 3] = np.nan
    with pytest.raises(UndecodableImage, match="NaN or infinite"):
        pixels(npy(array), GRAY)


def test_white_is_the_largest_value_also_where_it_is_stored_as_0() -> None:
    array = values(np.uint16, 65535)
    data = tif(65535 - array, photometric="miniswhite")
    np.testing.assert_allclose(pixels(data, GRAY)[0], array / 65535, atol=1e-6)


def test_more_than_the_declared_bits_is_refused() -> None:
    with pytest.raises(UndecodableImage, match=r"values from 0 to 5000, but `preprocessing.bits` 12 means 0 to 4095"):
        pixels(png(values(np.uint16, 5000)), GRAY, bits=12)


def test_gray_stays_gray_and_colors_become_gray() -> None:
    gray = values(np.uint8, 255)
    np.testing.assert_allclose(pixels(png(gray), GRAY)[0], gray / 255, atol=1e-7)
    photo = values(np.uint8, 255, 3)
    expected = np.asarray(Image.fromarray(photo).convert("L")) / 255
    np.testing.assert_allclose(pixels(png(photo), GRAY)[0], expected, atol=1e-7)


def test_blue_comes_first_where_the_model_takes_bgr() -> None:
    photo = values(np.uint8, 255, 3)
    rgb, bgr = pixels(png(photo), RGB), pixels(png(photo), RGB, colors="bgr")
    assert np.array_equal(bgr, rgb[::-1])
    deep = values(np.uint16, 65535, 3)
    assert np.array_equal(
        pixels(tif(deep, photometric="rgb"), RGB, colors="bgr"), pixels(tif(deep, photometric="rgb"), RGB)[::-1]
    )


def test_resampled_values_stay_in_their_range() -> None:
    array = np.zeros((HEIGHT, WIDTH), np.uint16)
    array[:, WIDTH // 2 :] = 65535
    asked = GRAY | {"resize": {"height": 30, "width": 50}, "fit": "squash", "crop": None, "interpolation": "bicubic"}
    found = pixels(png(array), asked)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (npy(values(np.float32, 1))[:200], "not complete"),
        (b"\x93NUMPY\x01\x00" + b"\0" * 20, "not a NumPy array"),
        (npy(values(np.uint8, 9)).replace(b"(12, 20)", b"(12, 2, "), "not a NumPy array.*damaged header"),
        (npy(values(np.uint8, 9)).replace(b"(12, 20), ", b"(7000,7000,9), "), "not complete|not a NumPy"),
        (npy(np.zeros((2, 3, 4, 5), np.float32)), r"shape \(2, 3, 4, 5\)"),
        (npy(np.array([[object()]], dtype=object)), "not numbers of an image"),
        (npy(np.zeros((4, 5), np.complex64)), "not numbers of an image"),
        (npy(np.zeros((0, 5), np.float32)), "no pixels"),
        (tif(values(np.uint16, 9))[:150], "TIFF"),
    ],
)
def test_other_files_have_a_reason(data: bytes, match: str) -> None:
    with pytest.raises(UndecodableImage, match=match) as caught:
        pixels(data, GRAY)
    assert caught.value.field == "images.0"


@pytest.mark.parametrize("data", [npy(np.zeros((200, 200), np.uint8)), tif(np.zeros((200, 200), np.uint16))])
def test_limits_hold_for_every_format(data: bytes) -> None:
    asked = Preprocessing.model_validate(GRAY)
    with pytest.raises(LimitExceeded, match="40000 pixels"):
        read_image(data, asked, limits=Limits(image_pixels=10_000), field="images.0")
    with pytest.raises(LimitExceeded, match="bytes"):
        read_image(data, asked, limits=Limits(image_bytes=100), field="images.0")


def test_an_array_of_objects_is_never_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("unpickled",))

    array = np.empty((4, 4), dtype=object)
    array[:] = Trap()
    with pytest.raises(UndecodableImage):
        pixels(npy(array), GRAY)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4]}, "divide them by 255"),
        ({"mean": [0.5]}, "mean has 1 values and std 3"),
        ({"mean": [0.5], "std": [0.2], "colors": "rgb"}, "'rgb' has 3 channels"),
        ({"crop": None}, "add `crop`"),
        ({"crop": None, "fit": "squash", "resize": None}, "add `crop`"),
        ({"resize": {"height": 20, "width": 30}}, "takes one side"),
        ({"resize": 20, "crop": 32}, "must be at least crop"),
        ({"bits": 12, "range": [0, 4095]}, "bits and range"),
        ({"range": [5, 5]}, "must begin below its end"),
        ({"pad": [0.1, 0.2]}, "pad has 2 values"),
        ({"pad": [124.0, 116.0, 104.0]}, "divide it by 255"),
        ({"std": [0.2, 0.2, 0.0]}, "above 0"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_fix(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Preprocessing.model_validate(change)


def test_the_shape_follows_from_what_is_declared() -> None:
    assert Preprocessing().shape == (3, 224, 224)
    assert Preprocessing.model_validate(bands(6)).shape == (6, HEIGHT, WIDTH)
    squashed = Preprocessing.model_validate({"resize": {"height": 48, "width": 192}, "fit": "squash", "crop": None})
    assert (squashed.shape, squashed.colors_seen) == ((3, 48, 192), "rgb")
    assert str(squashed.shape) == "192 x 48 pixels"
    assert str(Preprocessing.model_validate(GRAY).shape) == f"{WIDTH} x {HEIGHT} pixels of 1 channel"


def test_photos_are_read_as_before() -> None:
    photo = values(np.uint8, 255, 3)
    assert np.array_equal(pixels(png(photo), RGB), torch.from_numpy(photo).permute(2, 0, 1).numpy() / np.float32(255))
