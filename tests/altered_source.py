"""A copy of the source tree to which a contributor has added a method, and what programs that run on it answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def with_additions(folder: Path, files: Mapping[str, str], lines: Iterable[tuple[str, str, str]]) -> Path:
    """Copy the source tree, and add files and lines.

    Args:
        folder: Where to make the copy.
        files: Path below the library -> text of a new file.
        lines: Path below the library, text that occurs once in that file, and what to put before it.

    Returns:
        Folder of the copy.
    """
    tree = folder / "tree"
    for part in ("src", "service"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    library = tree / "src" / "auditcore"
    for name, text in files.items():
        (library / name).write_text(text)
    for name, before, line in lines:
        text = (library / name).read_text()
        assert text.count(before) == 1, (name, before)
        (library / name).write_text(text.replace(before, line + before))
    return tree


def answer_of(tree: Path, program: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Run a program on a copy; JSON goes in by standard input and comes back by standard output."""
    made = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(asked),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tree / "src", tree / "service", ROOT / "tests")))},
        text=True,
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    answer: dict[str, Any] = json.loads(made.stdout)
    return answer
