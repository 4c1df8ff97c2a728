"""The file with the signing key of a deployment."""

from __future__ import annotations

import os
from pathlib import Path

from auditcore.evidence.signing import KeyUnreadable, SigningKey
from auditcore_service.startup import CannotStart


class SigningKeyUnreadable(CannotStart):
    """The file that should hold the signing key cannot be read, or holds something else."""


def read_signing_key(path: Path) -> SigningKey:
    """The key in a file.

    Raises:
        SigningKeyUnreadable: It cannot be read, or holds no private Ed25519 key.
    """
    try:
        return SigningKey.from_pem(path.read_bytes())
    except (OSError, KeyUnreadable) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"the signing key {path} cannot be read: {reason}; set AUDIT_SIGNING_KEY to a file with a key"
        raise SigningKeyUnreadable(msg) from error


def create_signing_key(path: Path) -> SigningKey:
    """Make a key and write it to a new file, which only its user may read.

    Raises:
        FileExistsError: The file exists; a key is never overwritten.
        OSError: It cannot be written.
    """
    key = SigningKey.generate()
    # the mode is set as the file is made, so that it is never readable for others
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.to_pem())
        file.flush()
        os.fsync(file.fileno())
    return key
