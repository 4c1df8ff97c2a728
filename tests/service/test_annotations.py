"""Labels and boxes of images: every accepted form, and every mistake with its message."""

from __future__ import annotations

import pytest

from auditcore.contracts.images import Box
from auditcore_service.use_cases.annotations import read_boxes, read_labels
from auditcore_service.use_cases.refusals import InvalidUpload

NAMES = ("a.png", "b.png")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (None, [None, None]),
        (" \n", [None, None]),
        ("[3, null]", [3, None]),
        ("[[3, 17], 0]", [(3, 17), 0]),
        ("[[3], 3]", [(3,), 3]),
        ('{"b.png": [5, 4]}', [None, (5, 4)]),
        ("{}", [None, None]),
        (f"[{2**53 - 1}, null]", [2**53 - 1, None]),
    ],
)
def test_labels(text: str | None, labels: list[object]) -> None:
    assert read_labels(text, NAMES) == labels


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (None, [(), ()]),
        ("[[[1, 2, 3, 4]], null]", [(Box(x0=1, y0=2, x1=3, y1=4),), ()]),
        ("[[], [[0, 0, 0.5, 1e6]]]", [(), (Box(x0=0, y0=0, x1=0.5, y1=1e6),)]),
        (
            '{"b.png": [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": 9}, [5, 6, 7, 8]]}',
            [(), (Box(x0=1, y0=2, x1=3, y1=4, label=9), Box(x0=5, y0=6, x1=7, y1=8))],
        ),
    ],
)
def test_boxes(text: str | None, boxes: list[object]) -> None:
    assert read_boxes(text, NAMES) == boxes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "labels has 1 entries for 2 images"),
        ("[1, 2, 3]", "labels has 3 entries"),
        ('"3"', "object from file name"),
        ("[3, ", "labels is not JSON"),
        ("[" + "9" * 5000 + ", 0]", "labels is not JSON"),
        ('{"z.png": 1}', "'z.png', the name of no image"),
        ("[0, -1]", "label -1 of image 1 ('b.png')"),
        ("[0, 1.0]", "label 1.0 of image 1"),
        ("[0, true]", "label True of image 1"),
        ("[0, false]", "label False of image 1"),
        ('[0, "cat"]', "label 'cat' of image 1"),
        (f"[0, {2**53}]", "of image 1"),
        ("[0, [1, [2]]]", "label [2] of image 1"),
        ("[0, []]", "image 1 ('b.png') has a list of 0 labels"),
        (f"[0, {list(range(101))}]", "101 labels; send 1 to 100"),
        ("[[7, 8, 7], 0]", "the same label twice in [7, 8, 7]"),
    ],
)
def test_labels_that_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(InvalidUpload) as caught:
        read_labels(text, NAMES)
    assert caught.value.field == "labels"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[null]", "boxes has 1 entries for 2 images"),
        ("7", "a list of boxes, or null"),
        ("{", "boxes is not JSON"),
        ('{"z.png": []}', "'z.png', the name of no image"),
        ("[null, 7]", "the boxes of image 1 ('b.png') are not a list"),
        ("[null, [1, 2, 3, 4]]", "box 0 of image 1 ('b.png') is 1"),
        ("[null, [[1, 2, 3]]]", "box 0 of image 1 ('b.png') is [1, 2, 3]"),
        ("[null, [[1, 2, 3, 4], [4, 2, 3, 4]]]", "box 1 of image 1 ('b.png') cannot be used: a box needs x0 < x1"),
        ("[null, [[1, 4, 3, 4]]]", "y0 < y1"),
        ("[null, [[-1, 2, 3, 4]]]", "x0: Input should be greater than or equal to 0"),
        ("[null, [[1, 2, 3, 1e7]]]", "y1: Input should be less than"),
        ("[null, [[1, 2, NaN, 4]]]", "x1: Input should be a finite number"),
        ("[null, [[1, 2, 1e999, 4]]]", "x1: Input should be a finite number"),
        ('[null, [["1", 2, 3, 4]]]', "x0: write a number here; this is a text"),
        ("[null, [[true, 2, 3, 4]]]", "x0: write a number here; this is a boolean"),
        ('[null, [{"x0": 1, "y0": 2, "x1": 3}]]', "y1: Field required"),
        ('[null, [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "width": 2}]]', "width: Extra inputs"),
        ('[null, [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": 1.5}]]', "label 1.5 of box 0 of image 1 ('b.png')"),
        ('[null, [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": true}]]', "label True of box 0"),
        (f'[null, [{{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": {2**53}}}]]', "of box 0 of image 1"),
        (f"[null, {[[1, 2, 3, 4]] * 1001}]", "image 1 ('b.png') has 1001 boxes, more than the 1000 allowed"),
    ],
)
def test_boxes_that_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(InvalidUpload) as caught:
        read_boxes(text, NAMES)
    assert caught.value.field == "boxes"
    assert words in caught.value.message


@pytest.mark.parametrize("read", [read_labels, read_boxes])
def test_two_images_with_the_same_name_cannot_be_labeled_by_it(read: object) -> None:
    with pytest.raises(InvalidUpload, match="2 images"):
        read('{"a.png": null}', ("a.png", "a.png"))  # type: ignore[operator]


def test_a_message_quotes_only_the_beginning_of_something_long() -> None:
    for read, text in ((read_labels, f'["{"x" * 100_000}", 0]'), (read_boxes, f'[["{"x" * 100_000}"], null]')):
        with pytest.raises(InvalidUpload) as caught:
            read(text, NAMES)
        assert len(caught.value.message) < 1000
