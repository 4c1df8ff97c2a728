"""Answers that are signed."""

from __future__ import annotations

from typing import final

from fastapi import Response


@final
class EnvelopeResponse(Response):
    """A DSSE envelope, byte for byte as it was signed."""

    media_type = "application/vnd.dsse.envelope.v1+json"
    """As github.com/secure-systems-lab/dsse, `envelope.md`, names it."""
