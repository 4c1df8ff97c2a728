"""Makes the pictures of `docs/how-to/use-the-dashboard.md` again: `make screenshots`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from browser.chromium import chromium
from dashboard_audits import fill, settings_for
from running_gateway import running_gateway, service_of, url_of

PICTURES: Final = {
    "dashboard-audits.png": "/ui/audits",
    "dashboard-audit.png": "/ui/audits/{failed}",
    "dashboard-history.png": "/ui/history?tag=model:digits",
}

WINDOW: Final = {"width": 1100, "height": 800}


def make_pictures(folder: Path) -> None:
    """Write each picture into a folder.

    Args:
        folder: Where the documentation keeps its pictures.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with chromium() as browser, running_gateway(settings_for(work)) as server:
            ids = fill(service_of(server), work)
            page = browser.new_page(viewport=WINDOW, color_scheme="light")
            for picture, path in PICTURES.items():
                page.goto(url_of(server) + path.format(**ids), wait_until="load")
                # the chart is drawn in the next frame
                page.wait_for_timeout(300)
                page.screenshot(path=folder / picture)


if __name__ == "__main__":
    make_pictures(Path(sys.argv[1]))
