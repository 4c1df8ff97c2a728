"""The text of an API key: `ac_`, its public id, `_`, the secret part, a checksum.

Scanners of source code find it by its fixed form (`PATTERN`), and the checksum tells it from other text. The checksum
also tells a key that was cut off from one that is wrong, without a look into the database.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass
from typing import Final, final

from auditcore.contracts.canonical_json import sha256

PREFIX: Final = "ac_"
"""What every key begins with."""

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH: Final = 8
_SECRET_LENGTH: Final = 43
"""62^43 > 2^256."""

_CHECKSUM_LENGTH: Final = 6
"""62^6 > 2^32."""

PATTERN: Final = rf"{PREFIX}[0-9A-Za-z]{{{_ID_LENGTH}}}_[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECKSUM_LENGTH}}}"
"""Regular expression of a key."""


@final
@dataclass(frozen=True)
class NewSecret:
    """A secret that nobody has yet.

    Attributes:
        key_id: The public id of the key.
        text: The whole key, to be shown once.
    """

    key_id: str
    text: str


def new_secret(key_id: str | None = None) -> NewSecret:
    """A secret of 256 random bits.

    Args:
        key_id: Id of the key that gets another secret; None for a new key.
    """
    key_id = key_id or _random(_ID_LENGTH)
    body = f"{PREFIX}{key_id}_{_random(_SECRET_LENGTH)}"
    return NewSecret(key_id, body + _checksum(body))


def key_id_in(text: str) -> str | None:
    """The public id in a key; None if the text is none, or was cut off or mistyped."""
    if not re.fullmatch(PATTERN, text):
        return None
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return text[len(PREFIX) : len(PREFIX) + _ID_LENGTH] if checksum == _checksum(body) else None


def digest_of_secret(text: str) -> str:
    """What is stored of a key.

    One round of sha256 is enough. A slow hash protects passwords, which can be guessed; 256 random bits cannot. It
    would cost every request the time that it is meant to cost a guess.
    """
    return sha256(text.encode())


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
