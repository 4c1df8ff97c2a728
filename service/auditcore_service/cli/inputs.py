"""What the commands read: request files, image files, and labels and boxes of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auditcore_service.cli.outcome import CommandError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def read_request(path: Path) -> dict[str, Any]:
    """The JSON object in a request file.

    Raises:
        CommandError: There is no such file, or it holds no JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); check the path"
        raise CommandError(message) from error
    except ValueError as error:
        message = f"{path} is not JSON ({error})"
        raise CommandError(message) from error
    if not isinstance(document, dict):
        message = f"{path} must hold a JSON object with model, images and plan"
        raise CommandError(message)
    return document


def read_annotations(given: str | None) -> str | None:
    """Labels or boxes as the service takes them: JSON as it stands on the command line, or the text of a file.

    Raises:
        CommandError: There is no such file, or it holds no text.
    """
    if given is None or given.lstrip()[:1] in {"[", "{"}:
        return given
    path = Path(given)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); give a JSON file, or JSON that begins with [ or {{"
        raise CommandError(message) from error
    except ValueError as error:
        message = f"{path} is not a text file ({error}); give a JSON file"
        raise CommandError(message) from error


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Image files in the order given; a folder stands for the image files in it, by name.

    Raises:
        CommandError: A path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
            continue
        if not path.is_dir():
            message = f"no image file or folder {path}; check the path"
            raise CommandError(message)
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not inside:
            message = f"folder {path} holds no image file ({', '.join(sorted(IMAGE_SUFFIXES))})"
            raise CommandError(message)
        found += inside
    return found
