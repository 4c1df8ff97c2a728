"""Checks of size and digest."""

from __future__ import annotations

from auditcore.errors import DigestMismatch, LimitExceeded


def check_size(actual: int, limit: int, field: str) -> None:
    """Refuse more bytes than are allowed.

    Raises:
        LimitExceeded: `actual` is above `limit`.
    """
    if actual > limit:
        raise LimitExceeded(what="the resource", limit=limit, actual=actual, unit="bytes", field=field)


def check_digest(hexdigest: str, expected: str | None, field: str) -> None:
    """Refuse bytes with another digest than the expected one.

    Args:
        hexdigest: Hexadecimal sha256 of the bytes.
        expected: `sha256:...`; None allows any bytes.
        field: Path in the request, for errors.

    Raises:
        DigestMismatch: The digests differ.
    """
    actual = f"sha256:{hexdigest}"
    if expected is not None and actual != expected:
        raise DigestMismatch(expected=expected, actual=actual, field=field)


def digest_field(uri_field: str) -> str:
    """The field that holds the digest of the resource whose URI is in `uri_field`."""
    return f"{uri_field.removesuffix('uri')}sha256" if uri_field.endswith(".uri") else uri_field
