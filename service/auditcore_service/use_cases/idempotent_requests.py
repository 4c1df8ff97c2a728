"""Idempotency keys as requests carry them: which are valid, and what a request is recognized by."""

from __future__ import annotations

import rfc8785
from pydantic import BaseModel

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Sha256
from auditcore.contracts.true_numbers import LARGEST_INTEGER
from auditcore.errors import InvalidRequest
from auditcore_service.use_cases.locations import unsafe_integer
from auditcore_service.use_cases.refusals import InvalidIdempotencyKey

KEY_LENGTH = 255


def checked_key(key: str) -> str:
    """The key without quotes.

    Raises:
        InvalidIdempotencyKey: It is empty, too long or not printable.
    """
    # the draft writes it as a quoted string; most clients send it bare
    bare = key.strip().removeprefix('"').removesuffix('"')
    if not bare or len(bare) > KEY_LENGTH or not bare.isascii() or not bare.isprintable():
        msg = f"an Idempotency-Key is 1 to {KEY_LENGTH} printable ASCII characters, such as a UUID"
        raise InvalidIdempotencyKey(msg, field="Idempotency-Key")
    return bare


def fingerprint_of(request: BaseModel) -> Sha256:
    """Digest of a request: the same for the same request.

    Raises:
        InvalidRequest: It holds a number that has no canonical JSON form.
    """
    try:
        return digest_of(request)
    except rfc8785.CanonicalizationError as error:
        at = unsafe_integer(request.model_dump(mode="json"), LARGEST_INTEGER) or ()
        msg = f"a number in the request has no canonical JSON form ({error}); integers must be below 2**53"
        raise InvalidRequest(msg, field=".".join(str(part) for part in at)) from error
