"""Files of made-up images: folders appear whole, archives are the same every time, pictures are what they show."""

from __future__ import annotations

import csv
import io
import json
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auditcore.contracts.synthetic import Digits, ObjectsOnScenes, Shortcut
from auditcore.errors import InvalidRequest
from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.overview import overview_png


@pytest.fixture(scope="module")
def data() -> SyntheticDataset:
    return generate_images(ObjectsOnScenes(images=12, shortcut=Shortcut(agreement=0.5)))


def test_a_folder_has_every_file(data: SyntheticDataset, tmp_path: Path) -> None:
    data.write_folder(tmp_path / "new" / "part")
    folder = tmp_path / "new" / "part"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*data.annotation_files(), "images"])
    assert [path.read_bytes() for path in sorted((folder / "images").iterdir())] == [image.data for image in data]
    assert (folder / "classes.txt").read_text().split() == list(data.class_names)
    assert ObjectsOnScenes.model_validate_json((folder / "parameters.json").read_bytes()) == data.parameters
    # nothing else is left
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["part"]


def test_the_table_has_every_label(data: SyntheticDataset) -> None:
    rows = list(csv.DictReader(io.StringIO(data.annotation_files()["labels.csv"].decode())))
    assert [row["file"] for row in rows] == [image.name for image in data]
    assert [int(row["label"]) for row in rows] == list(data.labels)
    assert [row["object"] for row in rows] == [data.class_names[label] for label in data.labels]
    assert [row["mark"] for row in rows] == [data.class_names[mark] for mark in data.marks if mark is not None]
    assert rows[0]["scene"] == "rising_stripes"
    digits = generate_images(Digits(part="test")).annotation_files()
    assert digits["labels.csv"].decode().splitlines()[1] == "001437.png,2,2,,"
    assert "marks.json" not in digits


def test_coco_files_have_the_fields_of_coco(data: SyntheticDataset) -> None:
    document = json.loads(data.annotation_files()["marks.json"])
    assert document["categories"] == [{"id": 0, "name": "mark"}]
    assert [one["file_name"] for one in document["images"]] == [image.name for image in data]
    for one in document["annotations"]:
        assert one["bbox"][2:] == [4, 4]
        assert one["area"] == 16
        assert sum(one["segmentation"]["counts"]) == 32 * 32
    assert {one["image_id"] for one in document["annotations"]} == {one["id"] for one in document["images"]}


def test_a_folder_that_exists_is_refused_and_left_as_it_is(data: SyntheticDataset, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "kept.txt"):
        with pytest.raises(InvalidRequest, match="exists already") as caught:
            data.write_folder(path)
        assert caught.value.field == "path"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    (tmp_path / "empty").mkdir()
    data.write_folder(tmp_path / "empty")
    assert (tmp_path / "empty" / "images").is_dir()


def test_nothing_is_left_of_a_folder_that_cannot_be_written(data: SyntheticDataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot be written .*choose another folder"):
        data.write_folder(tmp_path / ("x" * 250))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="cannot be written"):
        data.write_folder(tmp_path / "file" / "part")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_is_left_where_writing_fails_in_the_middle(data: SyntheticDataset, tmp_path: Path) -> None:
    """The system refuses to write more than 1000 bytes into a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InvalidRequest, match="cannot be written"):
            data.write_folder(tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    data.write_folder(tmp_path / "part")


def test_an_archive_holds_the_images_and_is_the_same_every_time(data: SyntheticDataset) -> None:
    first, second = data.zip_bytes(), generate_images(data.parameters).zip_bytes()
    assert first == second
    # no time of day is in it
    assert {info.date_time[0] for info in zipfile.ZipFile(io.BytesIO(first)).infolist()} == {1980}
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == [image.name for image in data]
        assert [archive.read(name) for name in archive.namelist()] == [image.data for image in data]


def test_an_overview_shows_the_first_images(data: SyntheticDataset) -> None:
    picture = np.asarray(Image.open(io.BytesIO(overview_png([data, data.without_marks()], columns=14))))
    assert picture.shape == (2 * 68 - 4, 14 * 68 - 4, 3)
    for column in range(12):
        part = picture[:64, column * 68 : column * 68 + 64]
        assert np.array_equal(part[::2, ::2], data.images[column].pixels)
        assert np.array_equal(part[1::2, 1::2], data.images[column].pixels)
        below = picture[68:, column * 68 : column * 68 + 64]
        assert np.array_equal(below[::2, ::2], data.images[column].unmarked)
    assert (picture[:, 12 * 68 - 4 :] == 255).all()
