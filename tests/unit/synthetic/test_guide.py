"""The guide to made-up images: its picture is what its command draws, and its code runs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import markdown_blocks
from auditcore.contracts.synthetic import ObjectsOnScenes, Shortcut
from auditcore.synthetic.generation import generate_images
from auditcore.synthetic.overview import overview_png

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "how-to" / "make-images-with-known-truth.md"


def test_the_picture_is_what_the_command_draws() -> None:
    """The command draws the test images of its parameters; a test of the service shows that it writes them."""
    command = next(block for block in markdown_blocks.blocks(PAGE) if block.language == "console").text
    assert command.startswith("$ auditcore synthetic shapes --images 1600 --agreement 0.95\n")
    data = generate_images(ObjectsOnScenes(images=1600, shortcut=Shortcut(agreement=0.95)))
    _, _, test = data.split(0.6, 0.2)
    drawn = overview_png([test, test.without_marks(), test.with_contradicting_marks()], columns=12)
    shown = np.asarray(Image.open(DOCS / "objects_on_scenes.png"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(drawn))), shown)


def test_the_code_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = next(block.text for block in markdown_blocks.blocks(PAGE) if block.language == "python")
    exec(compile(code, str(PAGE), "exec"), {})  # noqa: S102 - the guide's own code
    assert capsys.readouterr().out == "1.0 0.0\n"
