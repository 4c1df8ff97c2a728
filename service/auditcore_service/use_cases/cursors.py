"""Opaque page cursors: they contain the end of the last page, not a number of rows."""

from __future__ import annotations

import base64
import binascii
import json
import math

from auditcore_service.use_cases.refusals import InvalidCursor


def encode_cursor(created_at: float, audit_id: str) -> str:
    """Return the cursor of the page after this audit."""
    return base64.urlsafe_b64encode(json.dumps([created_at, audit_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Return the audit that a page begins after.

    Raises:
        InvalidCursor: The cursor was not issued by this service.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, audit_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        # databases do not accept lone surrogates and null characters
        plain = isinstance(audit_id, str) and audit_id.isprintable()
        if plain and isinstance(created_at, float) and math.isfinite(created_at):
            return created_at, audit_id
    except (binascii.Error, ValueError, TypeError):
        pass
    msg = "this cursor is not from this service; send `next_cursor` unchanged, or no cursor for the first page"
    raise InvalidCursor(msg, field="cursor")
