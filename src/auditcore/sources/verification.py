"""Whether bytes are as many as are allowed, and those that were promised."""

from __future__ import annotations

from auditcore.errors import DigestMismatch, LimitExceeded


def check_size(actual: int, limit: int, field: str) -> None:
    """Refuse more bytes than are allowed.

    Raises:
        LimitExceeded: There are more.
    """
    if actual > limit:
        raise LimitExceeded(what="the resource", limit=limit, actual=actual, unit="bytes", field=field)


def check_digest(hexdigest: str, expected: str | None, field: str) -> None:
    """Refuse other bytes than the expected ones.

    Args:
        hexdigest: Hexadecimal sha256 of the bytes.
        expected: `sha256:...`; None allows any bytes.
        field: Path in the request, for errors.

    Raises:
        DigestMismatch: The bytes are others.
    """
    actual = f"sha256:{hexdigest}"
    if expected is not None and actual != expected:
        raise DigestMismatch(expected=expected, actual=actual, field=field)


def digest_field(uri_field: str) -> str:
    """The field that holds the digest of the resource whose URI is in `uri_field`."""
    return f"{uri_field.removesuffix('uri')}sha256" if uri_field.endswith(".uri") else uri_field
