"""Make the pictures of the report page for the documentation: `python tests/browser/page_screenshots.py PAGE FOLDER`.

PAGE is a page of a report, such as the demo-report.html of `auditcore demo`; FOLDER gets report-page.png and
report-image.png.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Final

from PIL import Image

from browser.chromium import chromium

COLORS: Final = 128
"""Colors of a picture: with more, the pictures take more than 250 KB in the repository."""

WINDOW: Final = {"width": 1200, "height": 1010}


def save(shot: bytes, file: Path) -> None:
    """Write a screenshot as a small PNG file."""
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)


def main(source: Path, folder: Path) -> None:
    """Take the top of the page, and an image that is opened."""
    with chromium() as browser:
        page = browser.new_page(viewport=WINDOW, color_scheme="light", reduced_motion="reduce")
        page.goto(source.resolve().as_uri())
        save(page.screenshot(), folder / "report-page.png")
        page.locator("button.open").first.click()
        opened = page.locator("tbody.image.opened").first
        stage = opened.locator(".stage")
        stage.locator("select").first.select_option(label="grad_cam")
        page.locator("#images").scroll_into_view_if_needed()
        opened.evaluate("one => window.scrollTo(0, one.getBoundingClientRect().top + window.scrollY - 150)")
        save(page.screenshot(), folder / "report-image.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
