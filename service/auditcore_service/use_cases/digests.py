"""The form of digests."""

from __future__ import annotations

import re

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether a text has the form of a digest. Other texts are not sent to the database."""
    return _DIGEST.fullmatch(text) is not None
