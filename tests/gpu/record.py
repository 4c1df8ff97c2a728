"""The JSON file of a run: written after every part, also from the thread that ends a run which takes too long."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


class Record:
    """Named results, as one JSON object in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, object] = {}

    def put(self, name: str, value: object) -> None:
        """Set one entry and write the file; a reader never sees half of it."""
        with self._lock:
            self._entries[name] = plain(value)
            unfinished = self._path.with_name(f"{self._path.name}.part")
            unfinished.write_text(json.dumps(self._entries, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            unfinished.replace(self._path)


def plain(value: object) -> object:
    """The same as JSON has it: numbers that JSON does not know become text, and so does whatever else is unknown."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): plain(entry) for key, entry in value.items()}
        case Sequence() | set() | frozenset():
            return [plain(entry) for entry in value]
        case _:
            return str(value)
