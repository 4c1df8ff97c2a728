"""The guides for contributors: their diffs fit the source, and what they add passes its tests.

A diff is applied to a copy of the source as a reader would do it. Line numbers may be out of date; what a diff finds
may not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import markdown_blocks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
GUIDES = ("add-an-explainer", "add-a-check", "add-a-model-source", "add-a-route", "add-a-training-method")


def apply(diff: str, tree: Path) -> list[str]:
    """Change a tree by a diff of one or several files; paths of the files."""
    changed = []
    for part in re.split(r"^(?=--- )", diff, flags=re.MULTILINE)[1:]:
        header, *hunks = re.split(r"^@@.*\n", f"{part}\n", flags=re.MULTILINE)
        found = re.fullmatch(r"--- (.+)\n\+\+\+ b/(.+)\n", header)
        assert found is not None, header
        path = tree / found[2]
        text = "" if found[1] == "/dev/null" else path.read_text(encoding="utf-8")
        assert found[1] != "/dev/null" or not path.exists(), f"{path} exists already"
        for hunk in hunks:
            lines = hunk.rstrip("\n").split("\n")
            before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
            after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
            assert text.count(before) == 1 or not text, f"{found[2]} does not hold these lines once:\n{before}"
            text = text.replace(before, after) if before else after
        path.write_text(text, encoding="utf-8")
        changed.append(found[2])
    return changed


@pytest.mark.parametrize("guide", [GUIDES[0], *(pytest.param(guide, marks=pytest.mark.long) for guide in GUIDES[1:])])
def test_a_guide_leads_to_something_that_works(guide: str, tmp_path: Path) -> None:
    for part in ("src", "service", "tests", "openapi"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = ROOT / "docs" / "how-to" / f"{guide}.md"
    diffs = [block.text for block in markdown_blocks.blocks(page) if block.language == "diff"]
    changed = [path for diff in diffs for path in apply(diff, tmp_path)]
    tests = [path for path in changed if re.fullmatch(r"tests/.*/test_\w+\.py", path)]
    assert tests
    assert len(changed) - len(tests) >= 2
    packages = os.pathsep.join(str(tmp_path / part) for part in ("src", "service", "tests"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([packages, *filter(None, sys.path)])},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout
