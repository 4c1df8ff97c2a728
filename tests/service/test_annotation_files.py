"""COCO files, tables of labels, masks, other formats of boxes and names of classes."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import digits
from auditcore.contracts.images import Box
from auditcore.contracts.masks import Mask
from auditcore_service.cli.found_images import find_images
from auditcore_service.cli.inputs import gather_annotations
from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.annotations import (
    GivenAnnotations,
    ImageAnnotations,
    MaskFile,
    read_annotations,
    read_boxes,
    read_class_names,
    read_labels,
    read_masks,
)
from auditcore_service.use_cases.class_folders import class_folders, labels_from_folders
from auditcore_service.use_cases.class_names import ClassNames, read_classes
from auditcore_service.use_cases.refusals import InvalidUpload
from command_line import run

NAMES = ("a.png", "dogs/b.jpg", "c.png")
CLASSES = '["cat", "dog", "bird"]'
TRIANGLE = (10, 20, 110, 20, 60, 90)
COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "a.png", "width": 200, "height": 100},
        {"id": 11, "file_name": "elsewhere.png", "width": 200, "height": 100},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 18, "bbox": [8, 16, 30, 20]},
        {"id": 2, "image_id": 7, "category_id": 17, "bbox": [10, 20, 100, 70], "segmentation": [list(TRIANGLE)]},
        {"id": 3, "image_id": 7, "category_id": 18, "bbox": [-0.2, 0, 50, 40], "segmentation": []},
        {
            "id": 4,
            "image_id": 7,
            "category_id": 18,
            "iscrowd": 1,
            "bbox": [0, 0, 1, 1],
            "segmentation": {"size": [100, 200], "counts": [50, 100, 19850]},
        },
        {"id": 5, "image_id": 11, "category_id": 99, "bbox": "broken"},
    ],
    "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
}


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def refused(given: GivenAnnotations, field: str, words: str, names: tuple[str, ...] = NAMES) -> None:
    with pytest.raises(InvalidUpload) as caught:
        read_annotations(given, names)
    assert caught.value.field == field
    assert words in caught.value.message


def coco(**changes: Any) -> str:
    return json.dumps({**COCO, **changes})


def test_a_coco_file_gives_labels_boxes_and_masks() -> None:
    a, b, c = read_annotations(GivenAnnotations(annotations=coco(), classes=CLASSES), NAMES)
    assert a == ImageAnnotations(1, (Box(x0=8, y0=16, x1=38, y1=36, label=1),), ())
    assert b.label == (0, 1)
    assert b.boxes == ()
    # the object without a mask counts by its box, so that it is not lost beside masks
    assert [mask.label for mask in b.masks] == [0, 1, 1]
    assert b.masks[0].polygons == (TRIANGLE,)
    assert b.masks[1].polygons == ((0, 0, 49.8, 0, 49.8, 40, 0, 40),)
    assert b.masks[2].rle is not None
    assert b.masks[2].rle.lengths == (50, 100, 19850)
    assert c == ImageAnnotations(None, (), ())


def test_a_coco_file_sent_as_boxes_gives_its_boxes() -> None:
    a, b, c = read_boxes(coco(), NAMES, read_classes(CLASSES))
    assert [box.label for box in (*a, *b)] == [1, 0, 1, 1]
    assert (b[0].x0, b[0].y0, b[0].x1, b[0].y1) == (10, 20, 110, 90)
    assert c == ()


def test_labels_that_are_sent_come_before_those_of_a_coco_file() -> None:
    given = GivenAnnotations(annotations=coco(), classes=CLASSES, labels="[2, null, 0]")
    assert [one.label for one in read_annotations(given, NAMES)] == [2, None, 0]


def test_objects_of_one_category_need_no_classes() -> None:
    one = coco(annotations=COCO["annotations"][:1])
    (a, *_) = read_annotations(GivenAnnotations(annotations=one), NAMES)
    assert a == ImageAnnotations(None, (Box(x0=8, y0=16, x1=38, y1=36),), ())


@pytest.mark.parametrize(
    ("text", "classes", "field", "words"),
    [
        (coco(), None, "classes", "objects of 2 categories ('dog', 'cat')"),
        (
            coco(),
            '["cat"]',
            "annotations",
            "label 'dog' of annotation 0 of image 0 ('a.png') is not one of the 1 names",
        ),
        (coco(categories=[]), CLASSES, "annotations", "category 18, which `categories` does not list"),
        (coco(images=[{"id": 1, "file_name": "z.png"}]), CLASSES, "annotations", "no image of the COCO file"),
        (
            coco(images=[{"file_name": "a.png"}]),
            CLASSES,
            "annotations",
            "entry 0 of `images` in the COCO file has no `id`",
        ),
        (coco(images=[{"id": 1}]), CLASSES, "annotations", "has no `file_name`"),
        (coco(annotations=[{"id": 1}]), CLASSES, "annotations", "entry 0 of `annotations`"),
        (
            coco(annotations=[{"image_id": 9, "category_id": 17, "bbox": [1, 2, 3]}]),
            CLASSES,
            "annotations",
            "annotation 0 of image 0 ('a.png') has the `bbox` [1, 2, 3]",
        ),
        (
            coco(annotations=[{"image_id": 9, "category_id": 17, "bbox": [1, 2, 0, 5]}]),
            CLASSES,
            "annotations",
            "annotation 0 of image 0 ('a.png') cannot be used: a box needs x0 < x1",
        ),
        (
            coco(annotations=[{"image_id": 9, "category_id": 17, "segmentation": [[1, 2, 3, 4]]}]),
            CLASSES,
            "annotations",
            "three corners",
        ),
        (coco(categories={"17": "cat"}), CLASSES, "annotations", "`categories` of the COCO file is no list"),
        (
            coco(annotations=[{"image_id": 9, "category_id": [17], "bbox": [1, 2, 3, 4]}]),
            CLASSES,
            "annotations",
            "entry 0 of `annotations` in the COCO file has no `category_id`",
        ),
        (
            coco(annotations=[{"image_id": 9, "category_id": 17, "bbox": [10**400, 2.5, 0.5, 4]}]),
            CLASSES,
            "annotations",
            "which is not [x, y, width, height]",
        ),
        (
            coco(annotations=[{"image_id": 9, "category_id": 17, "segmentation": "abc"}]),
            CLASSES,
            "annotations",
            "a `segmentation` is a list of polygons",
        ),
        (
            coco(annotations=[{"image_id": 1009, "category_id": 17, "bbox": [1, 2, 3, 4]}]),
            CLASSES,
            "annotations",
            "no `image_id` of the annotations is the `id` of an entry of `images`",
        ),
        (
            coco(images=[{"id": 9, "file_name": "a.png"}, {"id": 9, "file_name": "c.png"}]),
            CLASSES,
            "annotations",
            "'a.png' and 'c.png' of the COCO file both have the `id` 9",
        ),
        (
            coco(images=[{"id": 9, "file_name": "train/a.png"}, {"id": 7, "file_name": "val/a.png"}]),
            CLASSES,
            "annotations",
            "names 'train/a.png' and 'val/a.png', which both can mean the image 'a.png'",
        ),
        ('{"a.png": 1}', None, "annotations", "no COCO file"),
        ("{", None, "annotations", "neither JSON"),
    ],
)
def test_a_coco_file_that_cannot_be_used(text: str, classes: str | None, field: str, words: str) -> None:
    refused(GivenAnnotations(annotations=text, classes=classes), field, words)


@pytest.mark.parametrize("kind", [str, int])
def test_ids_may_be_text_in_one_place_and_numbers_in_another(kind: type) -> None:
    images = [{**image, "id": kind(image["id"])} for image in COCO["images"]]
    categories = [{**category, "id": str(category["id"])} for category in COCO["categories"]]
    given = GivenAnnotations(annotations=coco(images=images, categories=categories), classes=CLASSES)
    assert read_annotations(given, NAMES) == read_annotations(
        GivenAnnotations(annotations=coco(), classes=CLASSES), NAMES
    )


def test_an_image_of_another_folder_does_not_lend_its_objects() -> None:
    images = [{"id": 9, "file_name": "a.png"}, {"id": 7, "file_name": "other/a.png"}]
    (a, *_) = read_annotations(GivenAnnotations(annotations=coco(images=images), classes=CLASSES), NAMES)
    assert (a.label, len(a.boxes), a.masks) == (1, 1, ())


@pytest.mark.parametrize(
    "text",
    [
        "a.png,3\nb.jpg,0\n",
        "a.png,3,\nb.jpg,0,\n",
        "file,label\ra.png,3\rb.jpg,0\r",
        "file,label\nA.PNG,3\nDogs/b.JPG,0\nsomewhere/else/a.png,9",
        "a.png\t3\nb.jpg\t0\nc.png\t",
        "file,label\r\na.png,3\r\nb.jpg,0\r\nelsewhere.png,9\r\n",
        "\ufefffile_name;class\ndogs/b.jpg;0.0\n\na.png;3.0\nc.png;\n",
        'id\tfilename\ttarget\n1\t"a.png"\t3\n2\tb.jpg\t0\n',
    ],
)
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_a_table_gives_labels(text: str, field: str) -> None:
    assert [one.label for one in read_annotations(GivenAnnotations(**{field: text}), NAMES)] == [3, 0, None]


def test_a_name_in_quotes_may_have_what_separates_other_columns() -> None:
    names = ("a, b, c.png", "d.png")
    for text in ('"a, b, c.png";3\n"d.png";4', '"a, b, c.png",3\n"d.png",4', '"a, b, c.png"\t3\nd.png\t4'):
        assert read_labels(text, names) == [3, 4]


def test_rows_of_one_file_are_its_several_classes_and_may_name_them() -> None:
    text = "file,label\na.png,dog\na.png,cat\na.png,dog\nc.png,bird"
    assert read_labels(text, NAMES, read_classes(CLASSES)) == [(1, 0), None, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\nz.png,3", "no row of labels names an image of the batch, such as 'z.png'"),
        ("file,label\na.png", "row 2 of labels has 1 columns"),
        ("file,score\na.png,3", "name exactly one column of files `file`"),
        ("isic_id,age,finding\na.png,45,2", "3 columns and no names of columns"),
        ("a.png,45,2\nc.png,50,1", "write `file` and `label` above these two"),
        ("file,label\ncats/a.png,3\ndogs/a.png,4", "'cats/a.png' and 'dogs/a.png', which both can mean"),
        ("file,label,class\na.png,3,4", "name exactly one column"),
        ("file,label\na.png,fish", "label 'fish' of image 0 ('a.png')"),
        ("file,label\na.png,-1", "label '-1' of image 0"),
        ("file,label\na.png,1.5", "label '1.5' of image 0"),
    ],
)
def test_a_table_that_cannot_be_used(text: str, words: str) -> None:
    refused(GivenAnnotations(labels=text), "labels", words)


@pytest.mark.parametrize("text", [CLASSES, "cat\ndog\nbird\n", "\ufeffcat\r\ndog\r\nbird"])
def test_labels_boxes_and_masks_may_name_classes(text: str) -> None:
    given = GivenAnnotations(
        labels='["dog", null, ["bird", 0]]',
        boxes='{"a.png": [{"x0": 1, "y0": 2, "x1": 3, "y1": 4, "label": "dog"}]}',
        masks=f'{{"c.png": [{{"polygons": [{list(TRIANGLE)}], "label": "bird"}}]}}',
        classes=text,
    )
    a, _, c = read_annotations(given, NAMES)
    assert (a.label, a.boxes[0].label, c.label, c.masks[0].label) == (1, 1, (2, 0), 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["cat", "dog", "cat"]', "'cat' for the classes 0 and 2"),
        ("[1, 2]", "list of names"),
        ('{"cat": 0}', "list of names"),
        ("[", "classes is not JSON"),
        ("cat\n\ndog", "name of class 1 is empty; remove the blank line"),
        (r'["cat", "\ud800"]', "of class 1 contains the control character U+D800"),
        (r'["cat\u0000"]', "of class 0 contains the control character U+0000"),
        (f"cat\n{'d' * 256}", "of class 1 has 256 characters; at most 255 fit"),
        ("\n".join(map(str, range(100_001))), "classes has 100001 names; at most 100000 are possible"),
    ],
)
def test_names_of_classes_that_cannot_be_used(text: str, words: str) -> None:
    refused(GivenAnnotations(classes=text), "classes", words)


def test_names_without_classes_say_what_to_send() -> None:
    refused(GivenAnnotations(labels='["cat", 0, 0]'), "labels", "send `classes`")
    refused(GivenAnnotations(labels='["fish", 0, 0]', classes=CLASSES), "labels", "not one of the 3 names in `classes`")


@pytest.mark.parametrize(
    ("box_format", "numbers", "box"),
    [
        (None, [10, 20, 30, 60], Box(x0=10, y0=20, x1=30, y1=60)),
        ("xyxy", [10, 20, 30, 60], Box(x0=10, y0=20, x1=30, y1=60)),
        ("xywh", [10, 20, 20, 40], Box(x0=10, y0=20, x1=30, y1=60)),
        ("relative", [0.25, 0.5, 0.75, 1], Box(x0=0.25, y0=0.5, x1=0.75, y1=1, units="relative")),
        ("yolo", [0.5, 0.75, 0.5, 0.5], Box(x0=0.25, y0=0.5, x1=0.75, y1=1, units="relative")),
        ("yolo", [2, 0.5, 0.75, 0.5, 0.5], Box(x0=0.25, y0=0.5, x1=0.75, y1=1, label=2, units="relative")),
        # rounding of the tool that wrote it
        ("yolo", [0.25, 0.5, 0.50048828125, 1.0], Box(x0=0, y0=0, x1=0.500244140625, y1=1, units="relative")),
    ],
)
def test_four_numbers_are_what_was_declared(box_format: str | None, numbers: list[float], box: Box) -> None:
    assert read_boxes(json.dumps([[numbers], None, None]), NAMES, box_format=box_format)[0] == (box,)


@pytest.mark.parametrize(
    ("box_format", "numbers", "words"),
    [
        (
            None,
            [0.25, 0.25, 0.75, 0.75],
            "box 0 of image 0 ('a.png') ends within the first pixel, so it is likely relative",
        ),
        (None, [100, 100, 20, 40], "declare the box_format `xywh`"),
        ("yolo", [10, 20, 30, 40], "relative"),
        ("relative", [0.2, 0.2, 1.5, 0.9], "a relative box lies within 0 and 1"),
        ("yolo", [1, 2, 3, 4, 5, 6], "which is not a box; write a box as [center x"),
        ("xywh", [1, 2, True, 4], "write a number here; this is a boolean"),
    ],
)
def test_numbers_that_are_not_what_was_declared(box_format: str | None, numbers: list[float], words: str) -> None:
    refused(GivenAnnotations(boxes=json.dumps([[numbers], None, None]), box_format=box_format), "boxes", words)


def test_an_unknown_format_of_boxes_is_refused() -> None:
    refused(GivenAnnotations(box_format="voc"), "box_format", "send one of xyxy, xywh, relative, yolo")


def test_masks_have_three_forms() -> None:
    data = png(np.ones((3, 4), dtype=np.uint8))
    text = json.dumps(
        [
            [list(TRIANGLE), {"size": [3, 4], "counts": [2, 10]}],
            [{"png": base64.b64encode(data).decode(), "label": 4}],
            None,
        ]
    )
    (polygon, rle), (image,), nothing = read_masks(text, NAMES)
    assert polygon == Mask(polygons=(TRIANGLE,))
    assert rle.rle is not None
    assert (image.png, image.label) == (data, 4)
    assert nothing == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[[1, 2, 3]], null, null]", "mask 0 of image 0 ('a.png') cannot be used: a polygon is x0, y0"),
        ("[[7], null, null]", "mask 0 of image 0 ('a.png') is 7, which is not a mask"),
        ("[7, null, null]", "the masks of image 0 ('a.png') are not a list"),
        ("[[{}], null, null]", "exactly one of"),
        ("[null]", "masks has 1 entries for 3 images"),
        ("{", "masks is not JSON"),
    ],
)
def test_masks_that_cannot_be_used(text: str, words: str) -> None:
    refused(GivenAnnotations(masks=text), "masks", words)


@pytest.mark.parametrize("name", ["a.png", "a_mask.png", "masks/a.gif"])
def test_a_file_of_a_mask_is_named_after_its_image(name: str) -> None:
    a, b, _ = read_annotations(GivenAnnotations(mask_files=(MaskFile(name, b"mask"),)), NAMES)
    assert [mask.png for mask in a.masks] == [b"mask"]
    assert b.masks == ()


def test_a_file_of_a_mask_that_fits_no_image_is_refused() -> None:
    refused(GivenAnnotations(mask_files=(MaskFile("z.png", b""),)), "masks", "'z.png' is named after no image")
    refused(GivenAnnotations(mask_files=(MaskFile("a.png", b""),)), "masks", "2 images", ("a.png", "a.jpg"))


def test_two_parts_that_say_the_same_are_refused() -> None:
    box = "[[[1, 2, 3, 4]], null, null]"
    refused(GivenAnnotations(annotations=coco(), classes=CLASSES, boxes=box), "boxes", "both say the same")
    refused(GivenAnnotations(labels="[0, 0, 0]", from_folders=True), "labels", "both say the same")


@pytest.mark.parametrize("field", ["labels", "boxes", "masks"])
def test_an_image_that_is_named_twice_is_refused(field: str) -> None:
    refused(GivenAnnotations(**{field: '{"a.png": null, "c.png": null, "a.png": null}'}), field, "it has 'a.png' twice")


def test_an_index_beyond_the_names_of_classes_is_refused() -> None:
    for given, field in (
        (GivenAnnotations(labels="[3, 0, 0]", classes=CLASSES), "labels"),
        (GivenAnnotations(labels="a.png,3", classes=CLASSES), "labels"),
        (
            GivenAnnotations(boxes="[[[3, 0.5, 0.5, 1, 1]], null, null]", box_format="yolo", classes=CLASSES),
            "boxes",
        ),
    ):
        refused(given, field, "is beyond the 3 names in `classes`, counted from 0")
    assert read_labels("[2, 0, 0]", NAMES, read_classes(CLASSES)) == [2, 0, 0]


def test_a_huge_number_of_a_box_is_refused() -> None:
    for box_format in ("xyxy", "xywh", "yolo"):
        given = GivenAnnotations(boxes=f"[[[1{'0' * 400}, 2, 3, 0.5]], null, null]", box_format=box_format)
        refused(given, "boxes", "box 0 of image 0 ('a.png') cannot be used")


@pytest.mark.parametrize(
    ("names", "classes", "folders"),
    [
        (("cat/1.png", "dog/2.png"), (), ["cat", "dog"]),
        (("photos/cat/1.png", "photos/dog/2.png"), (), ["cat", "dog"]),
        (("photos/cat/1.png", "photos/cat/2.png"), (), ["cat", "cat"]),
        (("1.png", "cat/2.png"), (), ["", "cat"]),
        (("train/cat/1.png", "test/dog/2.png"), ("cat", "dog"), ["cat", "dog"]),
        (("cat/outdoors/1.png", "dog/indoors/2.png"), ("cat", "dog"), ["cat", "dog"]),
        (("cat/1.png", "cat/more/2.png", "dog/3.png"), ("cat", "dog"), ["cat", "cat", "dog"]),
    ],
)
def test_the_folder_of_a_class_is_found(names: tuple[str, ...], classes: tuple[str, ...], folders: list[str]) -> None:
    assert class_folders(names, ClassNames(classes)) == folders


@pytest.mark.parametrize("names", [("train/cat/1.png", "test/dog/2.png"), ("cat/1.png", "cat/more/2.png", "dog/3.png")])
def test_folders_of_which_either_could_be_the_class_are_refused(names: tuple[str, ...]) -> None:
    for classes in (None, '["bird"]'):
        given = GivenAnnotations(from_folders=True, classes=classes)
        refused(given, "labels_from_folders", "could be the class of the image", names)


def test_names_of_classes_may_have_accents_in_either_form() -> None:
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    for written, sent in ((composed, decomposed), (decomposed, composed)):
        given = GivenAnnotations(from_folders=True, classes=written)
        assert read_annotations(given, (f"{sent}/1.png",))[0].label == 0
        assert read_labels(f'["{sent}"]', ("a.png",), ClassNames([written])) == [0]
        assert read_labels(f"a.png,{sent}", ("a.png",), ClassNames([written])) == [0]
        refused(GivenAnnotations(classes=f"{written}\n{sent}"), "classes", "for the classes 0 and 1")
    names = (f"{composed}/1.png", f"{decomposed}/2.png")
    refused(GivenAnnotations(from_folders=True), "labels_from_folders", "accents written in two ways", names)


def test_folders_are_classes() -> None:
    assert labels_from_folders(["dog", "cat", "dog"], ClassNames()) == [1, 0, 1]
    assert labels_from_folders(["dog", "cat", "dog"], ClassNames(("bird", "cat", "dog"))) == [2, 1, 2]
    for folders, words in ((["dog", ""], "image 1 is in no folder"), (["dog", "fish"], "'fish' is not one of the 2")):
        with pytest.raises(InvalidUpload, match=words):
            labels_from_folders(folders, ClassNames(("cat", "dog")))


def test_the_form_takes_masks_names_and_folders(client: TestClient) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("dog/1.png", "cat/2.png"):
            archive.writestr(name, digits.png(len(name)))
    mask = png(np.ones((32, 32), dtype=np.uint8))
    parts = [
        ("archive", ("photos.zip", buffer.getvalue(), "application/zip")),
        ("masks", ("1_mask.png", mask, "image/png")),
        ("masks", ("2.png", png(np.eye(32, dtype=np.uint8)), "image/png")),
    ]
    data = {
        "labels_from_folders": "true",
        "classes": CLASSES,
        "boxes": "[[[0.5, 0.5, 1, 1]], null]",
        "box_format": "yolo",
    }
    answer = client.post("/v1/image-batches", files=parts, data=data)
    assert answer.status_code == 201, answer.text
    first, second = answer.json()["entries"]
    assert (first["label"], second["label"]) == (1, 0)
    assert answer.json()["class_names"] == json.loads(CLASSES)
    assert first["boxes"][0]["units"] == "relative"
    assert (len(first["masks"]), len(second["masks"])) == (1, 1)
    assert first["masks"][0]["png"] != second["masks"][0]["png"]
    assert client.get(answer.headers["location"]).json() == answer.json()
    in_folder = [parts[0], ("masks", ("dog/1.png", mask, "image/png")), ("masks", ("masks/2.png", mask, "image/png"))]
    entries = client.post("/v1/image-batches", files=in_folder).json()["entries"]
    assert [len(entry["masks"]) for entry in entries] == [1, 1]
    refusal = client.post("/v1/image-batches", files=parts, data={"labels_from_folders": "yes"})
    assert "send true or false" in refusal.json()["detail"]


def test_a_table_in_another_encoding_is_refused(client: TestClient) -> None:
    parts = [("images", ("Müller.png", digits.png(0), "image/png"))]
    table = ("labels", ("labels.csv", "Müller.png;3\n".encode("cp1252"), "text/csv"))
    answer = client.post("/v1/image-batches", files=[*parts, table])
    assert answer.status_code == 422
    assert "labels is not a text file in UTF-8 or UTF-16" in answer.json()["detail"]
    assert "`CSV UTF-8`" in answer.json()["detail"]


def test_the_form_takes_a_coco_file_and_json_masks(client: TestClient) -> None:
    parts = [
        ("images", ("a.png", digits.png(0), "image/png")),
        ("annotations", ("coco.json", coco().encode("utf-8-sig"), "application/json")),
    ]
    (entry,) = client.post("/v1/image-batches", files=parts, data={"classes": CLASSES}).json()["entries"]
    assert (entry["label"], entry["boxes"][0]["label"]) == (1, 1)
    masks = ("masks", ("masks.json", json.dumps([[list(TRIANGLE)]]).encode(), "application/json"))
    (entry,) = client.post("/v1/image-batches", files=[parts[0], masks]).json()["entries"]
    assert entry["masks"] == [{"polygons": [list(TRIANGLE)], "label": None}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("cat/1.png", 0), ("cat/more/2.png", 1), ("dog/3.png", 2)):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(digits.png(seed))
    (tmp_path / "photos" / "readme.txt").write_text("photos")
    (tmp_path / "photos" / "cat" / "Thumbs.db").write_bytes(b"\0")
    return tmp_path


def test_folders_on_the_command_line_are_classes(folder: Path) -> None:
    found = find_images([folder / "photos"], class_folders=True)
    assert [(file.name, file.folder) for file in found.files] == [("1.png", "cat"), ("2.png", "cat"), ("3.png", "dog")]
    assert found.passed_over == ("readme.txt",)
    by_folder = gather_annotations(found.files, labels_from_folders=True)
    assert by_folder.labels == "[0, 0, 1]"
    assert read_class_names(by_folder, [file.name for file in found.files]) == ("cat", "dog")
    given = gather_annotations(found.files, labels_from_folders=True, classes=CLASSES)
    assert given.labels == "[0, 0, 1]"
    with pytest.raises(CommandError, match="not one of"):
        gather_annotations(found.files, labels_from_folders=True, classes='["cat"]')
    with pytest.raises(CommandError, match="both say"):
        gather_annotations(found.files, labels_from_folders=True, labels="[1, 1, 1]")
    with pytest.raises(CommandError, match="--labels-from-folders, its folders are classes"):
        find_images([folder / "photos"])
    with pytest.raises(CommandError, match="one folder per class"):
        find_images([folder / "photos" / "dog"], class_folders=True)


def test_folders_of_masks_and_of_yolo_are_read(folder: Path) -> None:
    files = find_images([folder / "photos"], class_folders=True).files
    (folder / "masks").mkdir()
    (folder / "yolo").mkdir()
    for kind in ("masks", "yolo"):
        with pytest.raises(CommandError, match="holds no"):
            gather_annotations(files, **{"masks" if kind == "masks" else "boxes": str(folder / kind)})
    (folder / "masks" / "1.png").write_bytes(b"mask")
    (folder / "yolo" / "2.txt").write_text("1 0.5 0.75 0.5 0.5\n\n0 0.5 0.5 1 1\n")
    given = gather_annotations(files, masks=str(folder / "masks"), boxes=str(folder / "yolo"))
    assert given.mask_files == (MaskFile("1.png", b"mask"),)
    # of another system: its ending in capital letters, its accents in another form
    (folder / "masks" / "1.png").rename(folder / "masks" / "1.PNG")
    assert gather_annotations(files, masks=str(folder / "masks")).mask_files == (MaskFile("1.PNG", b"mask"),)
    (folder / "yolo" / "Cafe\u0301.txt").write_text("1 0.5 0.5 1 1")
    photo = (files[0]._replace(path=folder / "Caf\u00e9.png"),)
    assert gather_annotations(photo, boxes=str(folder / "yolo")).boxes == "[[[1, 0.5, 0.5, 1.0, 1.0]]]"
    one, two, three = read_annotations(given, [file.name for file in files])
    assert [mask.png for mask in one.masks] == [b"mask"]
    assert two.boxes[0] == Box(x0=0.25, y0=0.5, x1=0.75, y1=1, label=1, units="relative")
    assert (len(two.boxes), three.boxes) == (2, ())
    for line, words in (
        ("cat 0 0 1 1", "line 1 of"),
        ("1 0.5 0.5", "has 2 numbers"),
        ("1 0 0 1 1 0 1", "has 6 numbers"),
    ):
        (folder / "yolo" / "2.txt").write_text(line)
        with pytest.raises(CommandError, match=words):
            gather_annotations(files, boxes=str(folder / "yolo"))
    (folder / "yolo" / "2.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(CommandError, match=r"2\.txt is not a text file in UTF-8"):
        gather_annotations(files, boxes=str(folder / "yolo"))


def test_an_audit_measures_masks_of_a_folder(folder: Path) -> None:
    photos = folder / "photos" / "cat"
    (folder / "masks").mkdir()
    pixels = np.zeros((32, 32), dtype=np.uint8)
    pixels[4:20, 8:24] = 255
    (folder / "masks" / "1.png").write_bytes(png(pixels))
    model = {
        "kind": "torchvision",
        "name": "resnet18",
        "weights": {"uri": "random:1"},
        "classes": 10,
        "preprocessing": {"resize": 32, "crop": 32},
    }
    plan = {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "localization"}]}
    (folder / "request.json").write_text(json.dumps({"model": model, "plan": plan}))
    out = folder / "report.json"
    done = run(
        *("audit", folder / "request.json", "--images", photos, "--masks", folder / "masks"),
        *("--out", out, "--device", "cpu"),
    )
    assert done.exit_code == 0, done.output
    assert "passed over, not an image: more/" in done.output
    report = json.loads(out.read_text())
    rows = {(row["explainer"], row["metric"]): row for row in report["results"]}
    assert rows["gradient", "average_precision"]["n"] == 1
    (share,) = (row for row in report["controls"] if row["metric"] == "box_share")
    assert share["mean"] == pytest.approx(16 * 16 / 32**2)
