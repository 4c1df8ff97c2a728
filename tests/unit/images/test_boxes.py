"""Boxes on their way from the original image to the model's square."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from auditcore.contracts.access import Limits
from auditcore.contracts.images import Box
from auditcore.contracts.preprocessing import Preprocessing, Size
from auditcore.errors import AnnotationInvalid
from auditcore.images.batch import decode_batch
from auditcore.images.box_units import boxes_in_pixels
from auditcore.images.encoded import EncodedImage
from auditcore.images.preprocess import PixelBox, pixel_boxes

ORIENTATION = 0x0112


def drawing(size: tuple[int, int], box: Box, orientation: int = 1) -> EncodedImage:
    """A PNG that shows, once upright, a white rectangle on black, and says where it is."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = 255
    image = Image.fromarray(pixels)
    if orientation == 6:
        # stored on its side: readers rotate it a quarter to the right
        image = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    return EncodedImage(index=0, name=None, data=buffer.getvalue(), boxes=(box,))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("preprocessing", [Preprocessing(resize=64, crop=48), Preprocessing(resize=40, crop=40)])
@pytest.mark.parametrize("size", [(120, 80), (80, 120), (61, 97), (30, 24), (48, 48)])
def test_a_box_stays_on_what_it_was_drawn_around(
    size: tuple[int, int], preprocessing: Preprocessing, orientation: int
) -> None:
    width, height = size
    box = Box(x0=width // 2 - 5, y0=height // 3, x1=width // 2 + 9, y1=height // 3 + 7)
    batch = decode_batch([drawing(size, box, orientation)], preprocessing, Limits())
    ((found,),) = batch.boxes
    assert found.label is None
    x0, x1 = edges(batch.pixels[0, 0].double().sum(dim=0).numpy())
    y0, y1 = edges(batch.pixels[0, 0].double().sum(dim=1).numpy())
    # to the nearest whole pixel, each
    assert np.abs(np.subtract(found.pixels, (x0, y0, x1, y1))).max() <= 0.5 + 0.03


def edges(profile: np.ndarray) -> tuple[float, float]:
    """Where a bright interval begins and ends, to fractions of a pixel: its mass and its center of mass."""
    extent = profile.sum() / profile.max()
    center = (profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum()
    return center - extent / 2, center + extent / 2


def test_numbers_of_one_example() -> None:
    """97 x 61 becomes 101 x 64, of which columns 26 to 74 and rows 8 to 56 stay."""
    preprocessing = Preprocessing(resize=64, crop=48)
    box = Box(x0=40, y0=20, x1=60, y1=50)
    # x: 40 * 101 / 97 - 26 = 15.65, 60 * 101 / 97 - 26 = 36.47; y: 20 * 64 / 61 - 8 = 12.98, 50 * 64 / 61 - 8 = 44.46
    assert pixel_boxes((box,), (97, 61), preprocessing) == (PixelBox(x0=16, y0=13, x1=36, y1=44),)


def test_an_image_that_is_final_keeps_its_boxes() -> None:
    preprocessing = Preprocessing(resize=64, crop=48, keep_final=True)
    box = Box(x0=3, y0=4, x1=30, y1=20)
    assert pixel_boxes((box,), (48, 48), preprocessing) == (PixelBox(3, 4, 30, 20),)
    # one pixel more, and the image is resized and cut
    assert pixel_boxes((box,), (48, 49), preprocessing) != (PixelBox(3, 4, 30, 20),)


def test_boxes_follow_an_image_into_its_letterbox() -> None:
    letterbox = Preprocessing(resize=32, fit="letterbox", crop=None)
    # 64 x 32 becomes 32 x 16, eight rows below the top
    assert pixel_boxes((Box(x0=4, y0=6, x1=20, y1=32),), (64, 32), letterbox) == (PixelBox(2, 11, 10, 24),)
    squash = Preprocessing(resize=Size(height=24, width=96), fit="squash", crop=None)
    assert pixel_boxes((Box(x0=10, y0=8, x1=50, y1=40),), (100, 80), squash) == (PixelBox(10, 2, 48, 12),)


def test_boxes_are_clipped_and_those_outside_disappear_with_their_labels() -> None:
    preprocessing = Preprocessing(resize=20, crop=20)
    boxes = (
        Box(x0=0, y0=5, x1=14, y1=15, label=1),  # columns 10 to 30 of 40 stay
        Box(x0=0, y0=0, x1=10, y1=20, label=2),
        Box(x0=30, y0=0, x1=40, y1=20, label=3),
        Box(x0=28, y0=18, x1=42, y1=22, label=4),
        Box(x0=0, y0=0, x1=40, y1=20, label=5),
    )
    found = pixel_boxes(boxes, (40, 20), preprocessing)
    expected = (PixelBox(0, 5, 4, 15), None, None, PixelBox(18, 18, 20, 20), PixelBox(0, 0, 20, 20))
    assert found == expected
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "PNG")
    images = [
        EncodedImage(0, None, b"no image", boxes=boxes),
        EncodedImage(1, None, buffer.getvalue(), boxes=boxes),
        EncodedImage(2, None, buffer.getvalue()),
    ]
    batch = decode_batch(images, preprocessing, Limits())
    assert [[(box.pixels, box.label) for box in image] for image in batch.boxes] == [
        [(PixelBox(0, 5, 4, 15), 1), (PixelBox(18, 18, 20, 20), 4), (PixelBox(0, 0, 20, 20), 5)],
        [],
    ]


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(x0=0.25, y0=0.25, x1=0.75, y1=0.75), "likely relative to the image; declare the units `relative`"),
        (Box(x0=0, y0=0, x1=1, y1=1), "likely relative"),
        (Box(x0=80, y0=80, x1=240, y1=240), "pixels of another size of the image, at least 240 x 240"),
        (Box(x0=8, y0=8, x1=30, y1=90), "ends beyond the image of 80 x 40 pixels"),
        (Box(x0=10, y0=50, x1=30, y1=80), "within 40 x 80, so it was likely drawn before the image was rotated"),
    ],
)
def test_a_box_in_another_unit_excludes_its_image_and_names_the_unit(box: Box, words: str) -> None:
    good = Box(x0=10, y0=10, x1=20, y1=20)
    images = [
        EncodedImage(0, "a.png", png(80, 40), boxes=(good,)),
        EncodedImage(7, "b.png", png(80, 40), 3, (good, box)),
    ]
    batch = decode_batch(images, Preprocessing(resize=32, crop=32), Limits())
    assert batch.used == (0,)
    (excluded,) = batch.excluded
    assert (excluded.index, excluded.name, excluded.code) == (7, "b.png", "annotation_invalid")
    assert excluded.reason is not None
    assert words in excluded.reason
    assert excluded.reason.startswith("box 1, [")


@pytest.mark.parametrize(("end", "fits"), [(1000, True), (1020, True), (1021, False)])
def test_a_box_may_end_a_little_beyond_its_image(end: float, *, fits: bool) -> None:
    """Two percent of a side: what tools round outward."""
    boxes = (Box(x0=900, y0=0, x1=end, y1=100),)
    if fits:
        assert boxes_in_pixels(boxes, (1000, 500), field="images.0") == boxes
    else:
        with pytest.raises(AnnotationInvalid) as caught:
            boxes_in_pixels(boxes, (1000, 500), field="images.0")
        assert caught.value.field == "images.0"


def test_a_relative_box_is_scaled_by_the_size_of_its_image() -> None:
    relative = Box(x0=0.25, y0=0.5, x1=0.75, y1=1, label=3, units="relative")
    assert boxes_in_pixels((relative,), (80, 40), field="") == (Box(x0=20, y0=20, x1=60, y1=40, label=3),)
    with pytest.raises(ValueError, match="lies within 0 and 1"):
        Box(x0=0.5, y0=0.5, x1=1.5, y1=1, units="relative")


def test_a_box_in_pixels_is_stored_as_before_there_were_units() -> None:
    assert "units" not in Box(x0=1, y0=2, x1=3, y1=4).model_dump()
    assert Box(x0=0, y0=0, x1=0.5, y1=1, units="relative").model_dump()["units"] == "relative"


def test_a_small_object_keeps_a_pixel_where_its_center_is() -> None:
    preprocessing = Preprocessing(resize=10, crop=10)
    tiny = Box(x0=33, y0=71, x1=35, y1=72)
    assert pixel_boxes((tiny,), (100, 100), preprocessing) == (PixelBox(3, 7, 4, 8),)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(9, 300), st.integers(9, 300)),
    corner=st.tuples(st.floats(0, 300), st.floats(0, 300)),
    extent=st.tuples(st.floats(0.01, 300), st.floats(0.01, 300)),
)
def test_every_box_has_an_area_inside_the_square(
    size: tuple[int, int], corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    box = Box(x0=corner[0], y0=corner[1], x1=corner[0] + extent[0], y1=corner[1] + extent[1])
    for found in pixel_boxes((box,), size, Preprocessing(resize=32, crop=24)):
        if found is not None:
            assert 0 <= found.x0 < found.x1 <= 24
            assert 0 <= found.y0 < found.y1 <= 24


def test_boxes_do_not_grow_on_average() -> None:
    generator = np.random.default_rng(3)
    corners = generator.uniform(30, 60, size=(2000, 2))
    boxes = tuple(Box(x0=x, y0=y, x1=x + 20, y1=y + 20) for x, y in corners)
    found = pixel_boxes(boxes, (128, 128), Preprocessing(resize=64, crop=64))
    sides = [box.x1 - box.x0 for box in found if box is not None]
    assert np.mean(sides) == pytest.approx(10, abs=0.05)
