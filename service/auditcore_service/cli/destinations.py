"""Files that a command writes: checked before it computes, and kept elsewhere if writing fails after all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from auditcore_service.cli.outcome import CommandError


def check_destinations(destinations: Mapping[str, Path | None]) -> None:
    """Refuse a file that could not be written, before minutes of work are spent on it.

    Args:
        destinations: Option -> the file that it names; None if the option was not given.

    Raises:
        CommandError: Its folder does not exist or may not be written, or two options name one file.
    """
    taken: dict[Path, str] = {}
    for option, path in destinations.items():
        if path is None:
            continue
        message = _objection(path)
        if message is not None:
            message = f"{option} {path}: {message}"
            raise CommandError(message)
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            message = f"{other} and {option} name the same file {path}; choose two"
            raise CommandError(message)


def _objection(path: Path) -> str | None:
    if path.is_dir():
        return "this is a folder; name a file"
    if path.exists():
        return None if os.access(path, os.W_OK) else "this file may not be written; choose another"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; create it, or choose another"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else f"{path.parent} may not be written; choose another"


def write_results(files: Mapping[Path, bytes], *, name: str) -> list[tuple[Path, Path, str | None]]:
    """Write files; one that cannot be written goes to the working folder, or to the folder of temporary files.

    Args:
        files: Where each content is wanted.
        name: Stem of a file's name if it has to go elsewhere.

    Returns:
        Of each file: where it was wanted, where it is, and why it is not where it was wanted (None if it is).

    Raises:
        CommandError: It could be written nowhere.
    """
    return [(path, *_write(path, content, name)) for path, content in files.items()]


def _write(path: Path, content: bytes, name: str) -> tuple[Path, str | None]:
    reasons: list[str] = []
    for place in (path, *_elsewhere(path, name)):
        try:
            place.write_bytes(content)
        except OSError as error:
            reasons.append(error.strerror or str(error))
        else:
            return place, next(iter(reasons), None)
    message = f"{path} cannot be written ({'; '.join(reasons)}), and nothing can be written in {_folders(path)} either"
    raise CommandError(message)


def _elsewhere(path: Path, name: str) -> Iterable[Path]:
    return (folder / f"{name}{path.suffix}" for folder in (Path.cwd(), Path(tempfile.gettempdir())))


def _folders(path: Path) -> str:
    return " or ".join(str(place.parent) for place in _elsewhere(path, ""))
