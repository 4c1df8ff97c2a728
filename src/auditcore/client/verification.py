"""Evidence of a report, verified offline with the keys that the caller trusts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from auditcore.client.errors import ExtraMissing, InvalidArgument

if TYPE_CHECKING:
    from auditcore.evidence.verification import Verification

_MODULES = ("securesystemslib", "cryptography")

Content = Path | bytes
"""A file, or its bytes."""


def verify(report: Content, evidence: Content, *, keys: Sequence[Content]) -> Verification:
    """Verify that a result was signed, is this report's, and was judged by criteria that were fixed before.

    The same as `auditcore verify`. No service is asked. Needs the extra `evidence`.

    Args:
        report: The report, byte for byte as the service served it (`Client.report_as(audit_id, "json")`).
        evidence: Its evidence (`Client.evidence(audit_id)`).
        keys: Public keys in PEM that are trusted. Get them from the operator of the service, not from where the
            evidence came.

    Returns:
        What was found; `findings` is empty if everything holds.

    Raises:
        ExtraMissing: The extra `evidence` is not installed.
        InvalidArgument: No key is given, or a file is no report, no evidence or no key.
    """
    if any(find_spec(module) is None for module in _MODULES):
        what = "verifying evidence"
        raise ExtraMissing(what, extra="evidence")
    from auditcore.evidence.signing import KeyUnreadable, PublicKey  # noqa: PLC0415 - needs the extra
    from auditcore.evidence.verification import EvidenceUnreadable, verify_evidence  # noqa: PLC0415 - the same

    if not keys:
        message = "no key is trusted yet: give public keys in PEM as `keys`"
        raise InvalidArgument(message)
    try:
        trusted = [PublicKey.from_pem(_bytes(key)) for key in keys]
        return verify_evidence(_bytes(report), _bytes(evidence), trusted)
    except (KeyUnreadable, EvidenceUnreadable) as error:
        raise InvalidArgument(str(error)) from error


def _bytes(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    try:
        return content.read_bytes()
    except OSError as error:
        message = f"{content} cannot be read ({error.strerror}); check the path and its permissions"
        raise InvalidArgument(message) from error
