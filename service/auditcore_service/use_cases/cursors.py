"""Opaque page cursors: where the last page ended, not how many rows came before it."""

from __future__ import annotations

import base64
import binascii
import json
import math

from auditcore_service.use_cases.refusals import InvalidCursor


def encode_cursor(created_at: float, audit_id: str) -> str:
    """Cursor of the page that follows this audit."""
    return base64.urlsafe_b64encode(json.dumps([created_at, audit_id]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Where a page begins.

    Raises:
        InvalidCursor: This service never handed it out.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, audit_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        # half a surrogate pair or a null character is text that no database takes
        plain = isinstance(audit_id, str) and audit_id.isprintable()
        if plain and isinstance(created_at, float) and math.isfinite(created_at):
            return created_at, audit_id
    except (binascii.Error, ValueError, TypeError):
        pass
    msg = "this cursor is not from this service; send `next_cursor` unchanged, or no cursor for the first page"
    raise InvalidCursor(msg, field="cursor")
