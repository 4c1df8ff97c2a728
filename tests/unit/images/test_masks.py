"""Masks on their way from polygons, run lengths and PNG files to the model's input."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from skimage.draw import polygon2mask

from auditcore.contracts.access import Limits
from auditcore.contracts.images import InlineImage, inline_manifest
from auditcore.contracts.masks import Mask
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.run_lengths import RunLengths, decompress
from auditcore.errors import AnnotationInvalid
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.images.masks import mask_on_input, mask_pixels, polygon_pixels, run_length_pixels

COMPRESSED = {
    (9, 12, 3.5): "<442O00000001NR1",
    (37, 50, 11.0): "^76m04L4M2N2O0O2O0O2O0000000001N10001N2N2N2N3LQi0",
}
"""Height, width and radius of a disk -> its counts from `encode` of pycocotools 2.0.11."""

POLYGON = (10.3, 5.1, 40.7, 12.2, 30.5, 44.9, 8.8, 30.1)
POLYGON_COUNTS = "e><h0>0100O001O10O01O1O010O1O001O10O01O1O10O01OM3M3M4K4M3M3M4K4M3M]m0"
"""Its mask in 50 x 60 pixels from `frPyObjects` and `merge` of pycocotools 2.0.11."""


def png(values: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(buffer, "PNG")
    return buffer.getvalue()


def runs_of(pixels: np.ndarray) -> tuple[int, ...]:
    """Run lengths column by column, counted one pixel at a time."""
    counts, inside = [0], False
    for value in pixels.T.ravel():
        if bool(value) != inside:
            counts.append(0)
            inside = bool(value)
        counts[-1] += 1
    return tuple(counts)


def disk(height: int, width: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return (rows - height / 2) ** 2 + (columns - width / 3) ** 2 < radius**2


@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_run_lengths_are_decoded_column_by_column(height: int, width: int, random: object) -> None:
    pixels = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])  # type: ignore[attr-defined]
    assert (run_length_pixels(RunLengths(size=(height, width), counts=runs_of(pixels))) == pixels).all()


@pytest.mark.parametrize(("extent", "counts"), COMPRESSED.items())
def test_compressed_run_lengths_are_those_of_the_coco_api(extent: tuple[int, int, float], counts: str) -> None:
    height, width, radius = extent
    pixels = disk(height, width, radius)
    assert decompress(counts) == runs_of(pixels)
    assert (run_length_pixels(RunLengths(size=(height, width), counts=counts)) == pixels).all()


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ("<442O\n", "character"),
        ("<442O0000000", "add up to 9 x 12 pixels"),
        ("<442OP", "cut off"),
        ("o" * 1_000_000, "more than 40 bits"),  # took minutes
        ((3, 4), "they add up to 7"),
        ((112, -4), "they add up to 108"),
        ((), "they add up to 0"),
    ],
)
def test_run_lengths_that_do_not_cover_the_image_are_refused(counts: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RunLengths.model_validate({"size": (9, 12), "counts": counts})


@pytest.mark.parametrize("size", [(0, 5), (-3, -4)])
def test_run_lengths_need_a_size(size: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match=r"\[height, width\]"):
        RunLengths(size=size, counts=(0,))


def test_a_polygon_holds_the_pixels_whose_center_is_inside() -> None:
    assert np.argwhere(polygon_pixels((1, 1, 4, 1, 4, 3, 1, 3), 5, 6)).tolist() == [
        [row, column] for row in (1, 2) for column in (1, 2, 3)
    ]
    # a triangle of half a square
    assert polygon_pixels((0, 0, 4, 0, 0, 4), 4, 4).sum() == 6
    # the even-odd rule leaves a hole where a polygon covers itself twice
    twice = (0, 0, 6, 0, 6, 6, 0, 6, 0, 0, 2, 2, 4, 2, 4, 4, 2, 4, 2, 2)
    assert polygon_pixels(twice, 6, 6).sum() == 36 - 4


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-5, 30, width=16), st.floats(-5, 30, width=16)), min_size=3, max_size=7),
    st.integers(1, 24),
    st.integers(1, 24),
)
def test_a_polygon_equals_point_by_point_even_odd(corners: list[tuple[float, float]], height: int, width: int) -> None:
    found = polygon_pixels(tuple(value for corner in corners for value in corner), height, width)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            crossings = [
                x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
                for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True)
                if (y0 <= y) != (y1 <= y)
            ]
            if all(abs(crossing - x) > 1e-9 for crossing in crossings):
                assert found[row, column] == (sum(crossing < x for crossing in crossings) % 2 == 1)


def test_a_polygon_agrees_with_the_coco_api_and_scikit_image_up_to_its_border() -> None:
    found = polygon_pixels(POLYGON, 50, 60)
    coco = run_length_pixels(RunLengths(size=(50, 60), counts=POLYGON_COUNTS))
    corners = np.asarray(POLYGON).reshape(-1, 2)
    border = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).sum()
    assert (found != coco).sum() < border / 4
    # scikit-image has the centers of pixels at whole numbers
    foreign = polygon2mask((50, 60), corners[:, ::-1] - 0.5)
    assert (found != foreign).sum() <= 2


MODES = {
    "1": png,
    "L": lambda mask: png(mask.astype(np.uint8) * 255),
    "class index": lambda mask: png(mask.astype(np.uint8) * 3),
    "I;16": lambda mask: png(mask.astype(np.uint16) * 300),
    "P": lambda mask: png(mask.astype(np.uint8) * 255, "P"),
    "RGB": lambda mask: png(np.stack([mask * 0, mask * 9, mask * 0], axis=-1).astype(np.uint8)),
    "RGBA": lambda mask: png(np.stack([mask * 0 + 255] * 3 + [mask * 255], axis=-1).astype(np.uint8)),
    "LA": lambda mask: png(np.stack([mask * 0 + 255, mask * 255], axis=-1).astype(np.uint8)),
}


def of_palette(indices: np.ndarray, *colors: tuple[int, int, int]) -> bytes:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([value for color in colors for value in color])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


@pytest.mark.parametrize(
    ("outside", "inside", "colors"),
    [
        (0, 1, (BLACK, WHITE)),
        (1, 0, (WHITE, BLACK)),  # as programs write it that sort colors
        (0, 2, (RED, BLACK, WHITE)),  # black is not in the image
        (0, 1, (BLACK, BLACK)),  # classes without colors of their own
        (0, 15, (BLACK, WHITE)),  # more classes than colors
    ],
)
def test_outside_is_the_first_color_or_black(
    outside: int, inside: int, colors: tuple[tuple[int, int, int], ...]
) -> None:
    pixels = disk(30, 40, 8)
    mask = Mask.of_png(of_palette(np.where(pixels, inside, outside), *colors))
    assert (mask_pixels(mask, (40, 30), field="images.0") == pixels).all()


@pytest.mark.parametrize("mode", MODES)
def test_every_form_gives_the_same_pixels(mode: str) -> None:
    pixels = disk(30, 40, 8)
    forms = (Mask(rle=RunLengths(size=(30, 40), counts=runs_of(pixels))), Mask.of_png(MODES[mode](pixels)))
    for mask in forms:
        assert (mask_pixels(mask, (40, 30), field="images.0") == pixels).all()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Mask(rle=RunLengths(size=(40, 30), counts=(0, 1200))), r"30 x 40 pixels and its image 40 x 30"),
        (Mask.of_png(png(np.ones((3, 4), dtype=bool))), "4 x 3 pixels and its image 40 x 30"),
        # and no address in memory, which another run would not have
        (Mask.of_png(b"GIF89a"), r"not a complete PNG \(format not recognized\)"),
        (Mask.of_png(png(np.ones((30, 40), dtype=np.uint8))[:50]), "not a complete PNG"),
        (Mask.of_png(png(np.zeros((30, 40), dtype=np.uint8))), "no pixel"),
        (Mask(polygons=((5, 5, 5.1, 5, 5, 5.1),)), "no pixel"),
        (Mask(polygons=((0.1, 0.1, 0.9, 0.1, 0.5, 0.9),)), "likely relative"),
        (Mask(polygons=((5, 5, 400, 5, 5, 200),)), "another size of the image"),
        (Mask(polygons=((-50, 5, 20, 5, 5, 20),)), "another size of the image"),
    ],
)
def test_a_mask_that_does_not_fit_excludes_its_image(mask: Mask, words: str) -> None:
    with pytest.raises(AnnotationInvalid, match=words):
        mask_pixels(mask, (40, 30), field="images.0")
    photo = png(np.zeros((30, 40, 3), dtype=np.uint8))
    batch = decode_batch([EncodedImage(4, "a.png", photo, masks=(mask,))], Preprocessing(resize=16, crop=16), Limits())
    assert [(record.index, record.name, record.code) for record in batch.excluded] == [
        (4, "a.png", "annotation_invalid")
    ]


@pytest.mark.parametrize("preprocessing", [Preprocessing(resize=64, crop=48), Preprocessing(resize=40, crop=40)])
@pytest.mark.parametrize("size", [(120, 80), (80, 120), (61, 97), (30, 24), (48, 48)])
def test_a_mask_stays_on_what_it_was_drawn_around(size: tuple[int, int], preprocessing: Preprocessing) -> None:
    width, height = size
    pixels = disk(height, width, min(size) / 4)
    photo = png(np.repeat(pixels[:, :, None], 3, axis=2).astype(np.uint8) * 255)
    image = EncodedImage(0, None, photo, masks=(Mask(rle=RunLengths(size=(height, width), counts=runs_of(pixels))),))
    batch = decode_batch([image], preprocessing, Limits())
    ((found,),) = batch.masks
    assert found.label is None
    # the photo is bright on the object: antialiased pixels around its border are between
    bright = batch.pixels[0, 0]
    assert (found.pixels[bright > 0.95]).all()
    assert not (found.pixels[bright < 0.05]).any()


def test_a_mask_outside_the_crop_disappears_with_its_label() -> None:
    left = np.zeros((20, 40), dtype=bool)
    left[:, :5] = True
    photo = png(np.zeros((20, 40, 3), dtype=np.uint8))
    masks = (Mask.of_png(png(left), label=1), Mask.of_png(png(~left), label=2))
    batch = decode_batch([EncodedImage(0, None, photo, masks=masks)], Preprocessing(resize=20, crop=20), Limits())
    ((found,),) = batch.masks
    assert found.label == 2
    assert found.pixels.all()
    assert mask_on_input(left, Preprocessing(resize=20, crop=20)).sum() == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "none of them"),
        ({"polygons": [[0, 0, 1, 0, 1, 1]], "rle": {"size": [1, 1], "counts": [0, 1]}}, "polygons and rle"),
        ({"polygons": []}, "`polygons` is empty"),
        ({"polygons": [[0, 0, 1, 1]]}, "three corners"),
        ({"polygons": [[0, 0, 1, 1, 2, 2, 3]]}, "three corners"),
        ({"png": "not base64!"}, "base64"),
    ],
)
def test_a_mask_has_exactly_one_form(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Mask.model_validate(given)


def test_a_batch_holds_a_png_by_its_digest() -> None:
    image = {"data": "AAAA", "masks": [{"png": "AAAA", "label": 3}, {"polygons": [[0, 0, 9, 0, 9, 9]]}]}
    (entry,) = inline_manifest([InlineImage.model_validate(image)]).entries
    assert [mask.label for mask in entry.masks] == [3, None]
    assert entry.masks[0].png == entry.digest
    assert entry.masks[1].polygons == ((0, 0, 9, 0, 9, 9),)
    plain = InlineImage.model_validate({"data": "AAAA"})
    assert "masks" not in inline_manifest([plain]).model_dump()["entries"][0]
