"""Made-up images with known truth, written as folders that other commands read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from auditcore.contracts.synthetic import Digits, ObjectsOnScenes
from auditcore.errors import InputError
from auditcore.synthetic.dataset import SyntheticDataset
from auditcore.synthetic.folders import require_new, write_whole
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.overview import overview_png
from auditcore_service.cli.outcome import CommandError, mistakes

OVERVIEW = "overview.png"
_COLUMNS = 12
"""Images in a row of the overview."""

_OPTIONS: Mapping[str, str] = {"size_px": "--size", "shortcut": "--agreement", "path": "OUT", "kind": "--kind"}
"""Field -> option, where they are called otherwise."""


def generate_parts(
    kind: str, given: Mapping[str, Any], *, agreement: float | None, validation: float | None, test: float | None
) -> dict[str, SyntheticDataset]:
    """Make the images of all parts.

    Args:
        kind: `objects-on-scenes` or `digits`.
        given: Fields of the parameters by name, None where the default holds.
        agreement: Of the marks of a shortcut; None for images without marks.
        validation: Share of validation images; None for 0.2, and for digits, which are divided already.
        test: The same for test images.

    Returns:
        Part -> its images: training, validation and test; with a shortcut also the test images without marks
        (`test_unmarked`) and with marks of other classes (`test_contradicting`).

    Raises:
        CommandError: An option is out of range or does not belong to this kind.
    """
    document: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if agreement is not None:
        document["shortcut"] = {"agreement": agreement}
    try:
        if kind == "digits":
            _refuse_for_digits(document, validation, test)
            parts = {
                part: generate_images(Digits.model_validate(document | {"part": part}))
                for part in ("training", "validation", "test")
            }
        else:
            parts = _split(ObjectsOnScenes.model_validate(document), validation, test)
    except ValidationError as error:
        found = [(_option(field), fix) for field, fix in mistakes(error.errors(), document)]
        message = "these images cannot be made"
        raise CommandError(message, errors=found) from error
    except InputError as error:
        raise CommandError(error.message, code=error.code) from error
    if agreement is not None:
        parts["test_unmarked"] = parts["test"].without_marks()
        parts["test_contradicting"] = parts["test"].with_contradicting_marks()
    return parts


def check_folder(folder: Path) -> None:
    """Refuse a folder that exists, before images are made for it.

    Raises:
        CommandError: There is something in it.
    """
    try:
        require_new(folder)
    except InputError as error:
        raise CommandError(error.message, code=error.code) from error


def write_parts(parts: Mapping[str, SyntheticDataset], folder: Path) -> None:
    """Write a folder for each part, and a picture of some images; the folder appears when it is complete.

    Raises:
        CommandError: The folder exists and is not empty, or cannot be written.
    """
    files = {f"{part}/{name}": data for part, one in parts.items() for name, data in one.folder_files().items()}
    rows = [one for part, one in parts.items() if part.startswith("test")]
    try:
        write_whole(folder, {OVERVIEW: overview_png(rows, columns=_COLUMNS)} | files)
    except InputError as error:
        raise CommandError(error.message, code=error.code) from error


def show_parts(parts: Mapping[str, SyntheticDataset], folder: Path, console: Console) -> None:
    """Say what was written, and what to type next."""
    for part, one in parts.items():
        console.print(f"{folder / part}: {len(one)} images", highlight=False, markup=False, soft_wrap=True)
    classes = parts["test"].class_names
    console.print(f"{len(classes)} classes: {', '.join(classes)}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{folder / OVERVIEW} shows some images", highlight=False, markup=False, soft_wrap=True)
    console.print("Audit a model of these classes, with a request without `images`:", markup=False)
    known = folder / "test" / "annotations.json"
    _show_command(console, folder, annotations=known, boxes=known, classes=folder / "test" / "classes.txt")
    if "test_unmarked" in parts:
        console.print("Or ask the check localization how much of each map lies on the marks:", markup=False)
        _show_command(console, folder, annotations=folder / "test" / "labels.csv", masks=folder / "test" / "marks.json")


def _show_command(console: Console, folder: Path, **options: Path) -> None:
    command = ["auditcore", "audit", "request.json", "--images", str(folder / "test" / "images")]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    console.print(f"  {shlex.join(command)}", highlight=False, markup=False, soft_wrap=True)


def _split(parameters: ObjectsOnScenes, validation: float | None, test: float | None) -> dict[str, SyntheticDataset]:
    shares = {"--validation": 0.2 if validation is None else validation, "--test": 0.2 if test is None else test}
    if not all(share > 0 for share in shares.values()) or not sum(shares.values()) < 1:
        found = " and ".join(f"{option} {share:g}" for option, share in shares.items())
        message = f"{found} leave no share for one of the parts; give shares above 0 that add up to less than 1"
        raise CommandError(message)
    last, middle = shares["--test"], shares["--validation"]
    # rounded, so that 1 - 0.2 - 0.2 divides as 0.6 does
    shares_of_parts = (round(1 - middle - last, 12), middle)
    training, validating, testing = generate_images(parameters).split(*shares_of_parts, seed=parameters.seed)
    return {"training": training, "validation": validating, "test": testing}


def _refuse_for_digits(document: Mapping[str, Any], validation: float | None, test: float | None) -> None:
    shares = {"validation": validation, "test": test}
    named = [*(name for name in document if name not in {"size_px", "seed", "shortcut"})]
    named += [name for name, value in shares.items() if value is not None]
    if named:
        message = f"{', '.join(map(_option, named))}: not for digits, whose images, classes and parts are given"
        raise CommandError(message)


def _option(field: str) -> str:
    first = field.split(".", 1)[0]
    return _OPTIONS.get(first, f"--{first.replace('_', '-')}")
