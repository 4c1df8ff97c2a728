"""The script of the page, and the content security policy that lets only this script run.

The gateway sends the same policy with the page, so it takes it from here. Needs no template engine.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Final

SCRIPT: Final = files("auditcore.report.page").joinpath("page.js").read_text(encoding="utf-8")
"""The only script of the page, inline. It changes what is shown, and reads nothing but the page."""

SCRIPT_SOURCE: Final = f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
"""The script as a source of a content security policy."""

SOURCES: Final = {
    "default-src": "'none'",
    "style-src": "'unsafe-inline'",
    "img-src": "data:",
    "script-src": SCRIPT_SOURCE,
    "base-uri": "'none'",
    "form-action": "'none'",
}
"""What the page may load: styles and pictures inside it, and its one script."""

CONTENT_POLICY: Final = "; ".join(f"{name} {sources}" for name, sources in SOURCES.items())
"""The policy in the page itself, which holds for a saved file too."""
