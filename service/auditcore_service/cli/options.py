"""Options that several commands share, each defined once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from auditcore_service.cli.outcome import CommandError

OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write the JSON report.")]
JunitOption = Annotated[
    Path | None,
    typer.Option("--junit", help="Where to write JUnit XML, also if the audit fails or is cancelled."),
]
MarkdownOption = Annotated[
    Path | None,
    typer.Option(
        "--markdown", help="Where to write a summary for a merge request, also if the audit fails or is cancelled."
    ),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY:VALUE", help="To find the audit by; repeatable."),
]
AuditIdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the audit, as `submit` prints it.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", help="Where to write the report as a page, with the maps.")]
ImagesOption = Annotated[
    list[Path] | None,
    typer.Option("--images", "-i", help="Image files or folders instead of the request's own; repeatable."),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|JSON",
        help="Classes of the images: a JSON file, or JSON itself. One entry per image in their order, such as "
        '[285, null], or by file name, such as {"cat.png": 285}; '
        "a list of indices for a multi-label model. Only with --images.",
    ),
]
BoxesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|JSON",
        help="Where objects are, for the check localization: a JSON file, or JSON itself. One entry per image in their "
        'order, or by file name, such as {"cat.png": [[10, 20, 110, 90]]}; a box is [x0, y0, x1, y1] in pixels of the '
        "original image, from 0, ends excluded, unless --box-format says otherwise. Or a COCO file, or a folder of "
        "YOLO's text files. Only with --images.",
    ),
]
MasksOption = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|FILE|JSON",
        help="Pixels of objects, for the check localization: a folder of PNG files named after the images, JSON like "
        "--boxes with polygons [x0, y0, x1, y1, ...] or COCO's rle, or a COCO file. Only with --images.",
    ),
]
AnnotationsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="A COCO file with boxes, masks and categories, or CSV with file name and label. Images that are not given "
        "are left out. Only with --images.",
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|JSON",
        help="Names of the model's classes in order, by which labels and categories name a class: a JSON list, or a "
        "file with one name per line. Only with --images.",
    ),
]
FoldersOption = Annotated[
    bool, typer.Option("--labels-from-folders", help="The folders in the folder of --images are the classes.")
]


class BoxFormat(StrEnum):
    """What the four numbers of a box are."""

    XYXY = "xyxy"
    XYWH = "xywh"
    RELATIVE = "relative"
    YOLO = "yolo"


BoxFormatOption = Annotated[
    BoxFormat | None,
    typer.Option(
        help="What the four numbers of a box are: corners in pixels (xyxy), x, y, width, height in pixels (xywh, as in "
        "COCO), corners from 0 to 1 (relative), or center, width, height from 0 to 1 (yolo)."
    ),
]
UrlOption = Annotated[str, typer.Option("--url", "-u", envvar="AUDIT_URL", help="Address of the service.")]
RemoteOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        "-u",
        envvar="AUDIT_URL",
        help="Service whose workers do it. Folders are uploaded, and its files are written to --out. Without one it is "
        "done here.",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        envvar="AUDIT_TOKEN",
        help="API key or token for the service. Other users of this machine can read a command line, so prefer the "
        "variable or --token-file.",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(envvar="AUDIT_TOKEN_FILE", help="File with the API key or token; read again for each request."),
]


class Given(TypedDict):
    """Options that say what is known of the images."""

    labels: str | None
    boxes: str | None
    box_format: str | None
    masks: str | None
    annotations: str | None
    classes: str | None
    labels_from_folders: bool


def check_annotations(images: list[Path] | None, given: Given) -> None:
    """Refuse what is said of images that are not given.

    Args:
        images: Value of --images.
        given: The other options.

    Raises:
        CommandError: One of them needs --images.
    """
    for name, value in given.items():
        if value and not images:
            option = f"--{name.replace('_', '-')}"
            message = f"{option} needs --images; a request that names its images carries what is known of them itself"
            raise CommandError(message)
