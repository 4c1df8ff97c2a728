"""Made-up images: the command that writes them, and that the service reads them back as they were made."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.report import AuditReport
from auditcore.contracts.synthetic import Digits, ObjectsOnScenes, Shortcut
from auditcore.images.encoded import EncodedImage
from auditcore.orchestration.reading_images import manifest_of
from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.generation import generate_images
from auditcore_service.cli.found_images import find_images
from auditcore_service.cli.inputs import gather_annotations
from auditcore_service.use_cases.annotations import read_annotations, read_class_names
from command_line import run

SMALL = ("--images", "120", "--size", "24", "--object-classes", "3", "--scene-classes", "3")
REQUEST = {
    "model": {
        "kind": "torchvision",
        "name": "resnet18",
        "weights": {"uri": "random:1"},
        "classes": 3,
        "preprocessing": {"resize": 24, "crop": 24},
    },
    "plan": {"explainers": [{"kind": "gradient"}], "checks": [{"kind": "localization"}]},
}


def datasets() -> list[Any]:
    marked = {"images": 30, "shortcut": Shortcut(agreement=0.9)}
    return [
        pytest.param(ObjectsOnScenes(**marked), id="objects"),
        pytest.param(ObjectsOnScenes(labels="scenes", **marked), id="scenes"),
        pytest.param(Digits(part="test", shortcut=Shortcut(agreement=0.9)), id="digits"),
    ]


def read_back(folder: Path, **options: str) -> tuple[list[EncodedImage], tuple[str, ...]]:
    """Images of a folder as `auditcore audit` reads them."""
    files = find_images([folder / "images"]).files
    given = gather_annotations(files, **{name: str(folder / file) for name, file in options.items()})
    names = [file.name for file in files]
    known = read_annotations(given, names)
    images = [
        EncodedImage(index, file.name, file.path.read_bytes(), one.label, one.boxes, one.masks)
        for index, (file, one) in enumerate(zip(files, known, strict=True))
    ]
    return images, read_class_names(given, names)


@pytest.mark.parametrize("parameters", datasets())
def test_a_folder_is_read_back_as_it_was_made(parameters: ObjectsOnScenes | Digits, tmp_path: Path) -> None:
    data = generate_images(parameters)
    folder = tmp_path / "part"
    data.write_folder(folder)
    coco = "annotations.json"
    assert read_back(folder, annotations=coco, boxes=coco, classes="classes.txt") == (list(data), data.class_names)
    for part in ("object", "mark"):
        coco = f"{part}s.json"
        assert read_back(folder, annotations="labels.csv", boxes=coco, masks=coco)[0] == list(data.annotating(part))


def test_the_annotations_of_a_part_without_marks_of_some_images(tmp_path: Path) -> None:
    data = generate_images(ObjectsOnScenes(images=6)).with_marks([None, 2, None, 0, 1, None])
    data.write_folder(tmp_path / "part")
    images, _ = read_back(tmp_path / "part", annotations="labels.csv", boxes="marks.json", masks="marks.json")
    assert images == list(data.annotating("mark"))
    assert [bool(image.masks) for image in images] == [False, True, False, True, True, False]


@pytest.mark.parametrize("parameters", datasets())
def test_an_upload_is_the_batch_that_was_made(client: TestClient, parameters: ObjectsOnScenes | Digits) -> None:
    data = generate_images(parameters)
    files = data.annotation_files()
    parts = [("archive", ("images.zip", data.zip_bytes(), "application/zip"))]
    parts += [
        (field, (name, files[name], "application/octet-stream"))
        for field, name in (("annotations", "annotations.json"), ("boxes", "annotations.json"))
    ]
    answer = client.post("/v1/image-batches", files=[*parts, ("classes", ("classes.txt", files["classes.txt"]))])
    assert answer.status_code == 201, answer.text
    assert answer.json()["digest"] == digest_of(manifest_of(data[:], data.class_names))


def test_the_command_writes_what_the_library_makes(tmp_path: Path) -> None:
    done = run("synthetic", tmp_path / "shapes", *SMALL, "--agreement", "0.9", "--seed", "5")
    assert done.exit_code == 0, done.output
    parameters = ObjectsOnScenes(
        images=120, size_px=24, object_classes=3, scene_classes=3, seed=5, shortcut=Shortcut(agreement=0.9)
    )
    training, validation, test = generate_images(parameters).split(0.6, 0.2, seed=5)
    wanted: dict[str, SyntheticDataset] = {
        "training": training,
        "validation": validation,
        "test": test,
        "test_unmarked": test.without_marks(),
        "test_contradicting": test.with_contradicting_marks(),
    }
    found = {path.name for path in (tmp_path / "shapes").iterdir()}
    assert found == {*wanted, "overview.png"}
    for part, data in wanted.items():
        for name, content in data.folder_files().items():
            assert (tmp_path / "shapes" / part / name).read_bytes() == content, (part, name)
        assert f"{part}: {len(data)} images" in done.output


def test_the_commands_that_it_prints_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_MICRO_BATCH", "12")
    done = run("synthetic", tmp_path / "shapes", *SMALL, "--images", "60", "--agreement", "0.9")
    request = tmp_path / "request.json"
    request.write_text(json.dumps(REQUEST))
    commands = [shlex.split(line) for line in done.output.splitlines() if line.startswith("  auditcore ")]
    assert len(commands) == 2
    shares = []
    for number, command in enumerate(commands):
        report = tmp_path / f"report-{number}.json"
        arguments = [str(request) if one == "request.json" else one for one in command[1:]]
        audited = run(*arguments, "--out", report)
        assert audited.exit_code == 0, audited.output
        read = AuditReport.model_validate_json(report.read_bytes())
        shares.append(next(one.mean for one in (*read.results, *read.controls) if one.metric == "box_share"))
        assert len(read.images.items) == 12
    # a mark has 3 x 3 of 24 x 24 pixels, an object many more; objects of other classes than the predicted do not count
    assert shares[1] == pytest.approx(9 / 576)
    assert shares[0] is None or shares[0] > shares[1]


def test_digits_keep_their_given_parts(tmp_path: Path) -> None:
    done = run("synthetic", tmp_path / "digits", "--kind", "digits", "--size", "24")
    assert done.exit_code == 0, done.output
    assert {path.name: len(list(path.glob("images/*"))) for path in (tmp_path / "digits").iterdir()} == {
        "training": 1078,
        "validation": 359,
        "test": 360,
        "overview.png": 0,
    }
    assert "test_contradicting" not in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "10", "--agreement", "2"), ["--size", "--agreement", "greater than or equal to 24"]),
        (("--images", "0"), ["--images", "greater than or equal to 1"]),
        (("--kind", "digits", "--images", "9", "--test", "0.3"), ["--images, --test: not for digits"]),
        (("--validation", "0.5", "--test", "0.5"), ["add up to less than 1"]),
        (("--images", "20"), ["class 0 has 2 images", "generate more images"]),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, options: tuple[str, ...], words: list[str]) -> None:
    done = run("synthetic", tmp_path / "shapes", *options)
    assert done.exit_code == 2
    assert all(word in done.output for word in words), done.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = run("synthetic", tmp_path, *SMALL)
    assert done.exit_code == 2
    assert "exists already; name a new folder" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
