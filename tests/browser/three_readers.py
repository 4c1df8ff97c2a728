"""Time the tasks of three readers with a real service: `make readers` writes docs/benchmarks/readers.md.

A compliance officer asks what was decided and why; an engineer looks for the worst image and its maps; another one
writes the step of a pipeline. The machine's time is measured. The time of a person is computed from the words that
stand before the answer, read one by one, and from the clicks.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Locator, Page

from auditcore_service.cli.demo import PHOTOS, POLICY, photo_path
from browser.chromium import chromium, in_window
from browser.page_screenshots import save
from running_service import serving

WORDS_A_MINUTE: Final = 238
"""Silent reading of English non-fiction by adults, mean over 190 studies (Brysbaert 2019)."""

CLICK_S: Final = 2.0
"""Seconds to find and press what is in sight."""

WINDOW: Final = {"width": 1280, "height": 900}

REQUEST: Final = {
    "model": {"kind": "demo"},
    "plan": {
        "seed": 7,
        "explainers": [{"kind": "gradient"}, {"kind": "grad_cam"}],
        "checks": [
            {"kind": "sweep", "augmentations": [{"kind": "brightness"}, {"kind": "rotate"}], "levels": 5},
            {"kind": "deletion", "grid": 7, "repeats": 3},
        ],
    },
    "policy": list(POLICY),
    "name": "EfficientNet-Lite0 v1",
}

GUIDE: Final = Path("docs/how-to/gate-a-pipeline.md")

BLOCK: Final = re.compile(r"^### (.+?)$.*?^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A system and the first block of its section."""


@dataclass(frozen=True)
class Task:
    """One task, as it was done.

    Attributes:
        reader: Who does it.
        wanted: What is asked, and in how many seconds.
        clicks: What had to be pressed.
        words: Words that stand before the answer, the answer included.
        machine_s: Seconds until the pages stood, measured.
    """

    reader: str
    wanted: str
    clicks: int
    words: int
    machine_s: float

    @property
    def reader_s(self) -> float:
        """Seconds of a person who reads every word: reading, clicks and waiting."""
        return 60 * self.words / WORDS_A_MINUTE + CLICK_S * self.clicks + self.machine_s


def decision(page: Page, address: str, pictures: Path) -> Task:
    """From the address of the service to the verdict and its reason."""
    began = time.perf_counter()
    page.goto(address)
    words = words_until(page.locator("main"), page.get_by_role("link", name=str(REQUEST["name"])))
    page.get_by_role("link", name=str(REQUEST["name"])).click()
    answer = page.locator(".decision")
    answer.wait_for()
    machine_s = time.perf_counter() - began
    assert in_window(page, answer)
    save(page.screenshot(), pictures / "readers-decision.png")
    words += words_until(page.locator("main"), answer) + len(answer.inner_text().split())
    return Task("compliance officer", "verdict and why, 30 s", 1, words, machine_s)


def worst_image(page: Page, pictures: Path) -> Task:
    """From the audit to the maps of its worst image."""
    began = time.perf_counter()
    page.get_by_role("link", name="Open the full report").click()
    page.get_by_role("navigation", name="Contents").get_by_role("link", name="Images", exact=True).click()
    first = page.locator("tbody.image").first
    first.locator("button.open").click()
    stage = first.locator(".stage")
    stage.wait_for()
    machine_s = time.perf_counter() - began
    stage.scroll_into_view_if_needed()
    assert in_window(page, stage)
    save(page.screenshot(), pictures / "readers-worst-image.png")
    section = page.locator("section", has=page.locator("#images"))
    words = words_until(section, first) + len(first.inner_text().split())
    return Task("engineer with a failed gate", "worst image and its maps, 60 s", 3, words, machine_s)


def words_until(whole: Locator, end: Locator) -> int:
    """Words that a reader of `whole` has met before `end`."""
    script = """(whole, end) => {
        const range = document.createRange();
        range.setStart(whole, 0);
        range.setEndBefore(end);
        return range.toString();
    }"""
    text: str = whole.evaluate(script, end.element_handle())
    return len(text.split())


def lines_to_copy() -> dict[str, int]:
    """System -> lines of its step in the guide, empty ones not counted."""
    found = {name: block.splitlines() for name, block in BLOCK.findall(GUIDE.read_text())}
    return {name: sum(bool(line.strip()) for line in lines) for name, lines in found.items()}


def submit(folder: Path, address: str) -> float:
    """Run the step of a shell as the guide has it; its seconds, those of the audit included."""
    (folder / "request.json").write_text(json.dumps(REQUEST))
    photos = [argument for photo in PHOTOS for argument in ("--images", str(photo_path(*photo)))]
    command = [
        sys.executable, "-c", "from auditcore_service.cli import main; main()", "submit", "request.json",
        "--url", address, *photos, "--wait", "--junit", "report.xml", "--markdown", "summary.md",
    ]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert (folder / "report.xml").is_file()
    assert (folder / "summary.md").is_file()
    return time.perf_counter() - began


def page_of(tasks: tuple[Task, ...], lines: dict[str, int], audit_s: float) -> str:
    """The page of the documentation."""
    rows = "\n".join(
        f"| {one.reader} | {one.wanted} | {one.clicks} | {one.words} | {one.machine_s:.1f} s | {one.reader_s:.0f} s |"
        for one in tasks
    )
    systems = ", ".join(f"{name} {count}" for name, count in lines.items())
    return f"""# How long three readers need

Made by `make readers`, with a service of its own, the demo model on eight photos, and a real browser. The machine's
time is measured. The time of a person is computed: every word before the answer at {WORDS_A_MINUTE} words a minute
(Brysbaert 2019), {CLICK_S:g} seconds for each click, and the machine's time. So it does not depend on who tries, and it
grows if a page buries its answer.

| Reader | Task | Clicks | Words before the answer | Machine | Person |
|---|---|---|---|---|---|
{rows}

The first one begins at the address of the service, the second at the page of the audit.

![The page of an audit: what decided it, and the conditions](readers-decision.png)

![The worst image of the report, opened](readers-worst-image.png)

**The third reader writes the step of a pipeline.** Lines to copy from [the guide](../how-to/gate-a-pipeline.md):
{systems}. The step of a shell took {audit_s:.0f} s here, nearly all of it the audit itself, and wrote JUnit and a
summary.
"""


def run(browser: Browser, target: Path) -> str:
    """Do all tasks; the page."""
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as client:
        address = str(client.base_url)
        audit_s = submit(Path(name), address)
        page = browser.new_page(viewport=WINDOW, color_scheme="light", reduced_motion="reduce")
        tasks = (decision(page, address, target), worst_image(page, target))
    return page_of(tasks, lines_to_copy(), audit_s)


if __name__ == "__main__":
    with chromium() as opened:
        folder = Path("docs/benchmarks")
        (folder / "readers.md").write_text(run(opened, folder))
