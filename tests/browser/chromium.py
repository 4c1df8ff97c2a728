"""A real Chromium for tests of pages: no request leaves the host, and axe looks at what is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

AXE: Final = Path(__file__).parent / "axe_core" / "axe.min.js"

PHONE: Final = {"width": 390, "height": 844}
DESK: Final = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, from Debian's packages; skips the test without one."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def axe_violations(page: Page) -> list[str]:
    """What axe finds on a page as it is shown now: rule, what it means, and the elements. Empty is good."""
    # evaluated and not added as an element, so that the page keeps its content security policy
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("axe.run()")
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:5]}" for one in found["violations"]
    ]


def scrolls_sideways(page: Page) -> bool:
    """Whether a page is wider than its window."""
    wide: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return wide


def in_window(page: Page, one: Locator) -> bool:
    """Whether the middle of an element can be seen without scrolling."""
    box, window = one.bounding_box(), page.viewport_size
    if box is None or window is None:
        return False
    return 0 <= box["y"] + box["height"] / 2 <= window["height"]
