"""What the commands read: request files, and labels and boxes of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from auditcore_service.cli.outcome import CommandError
from auditcore_service.use_cases.text_encoding import decode_text


def read_request(path: Path) -> dict[str, Any]:
    """The JSON object in a request file.

    Raises:
        CommandError: There is no such file, or it holds no JSON object.
    """
    try:
        document = json.loads(decode_text(path.read_bytes()))
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
        return decode_text(path.read_bytes())
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}); give a JSON file, or JSON that begins with [ or {{"
        raise CommandError(message) from error
    except ValueError as error:
        message = f"{path} is not a text file ({error}); give a JSON file"
        raise CommandError(message) from error
