"""The form of the ids of audits."""

from __future__ import annotations

import re

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_audit_id(text: str) -> bool:
    """Return whether a text has the form of the ids that this service gives.

    Other texts are not sent to the database, which raises on some characters.
    """
    return _ID.fullmatch(text) is not None
