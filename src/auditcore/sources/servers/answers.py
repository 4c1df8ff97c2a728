"""Bodies of requests, and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

BAD_REQUEST = 400
REFUSED = frozenset({401, 403})
TOKEN_REFUSED = b"Token Authorization failed"
"""Text of TorchServe 0.12, with status 400, for a token that is wrong or has expired."""

SHOWN = 200
"""Characters of an answer that an error repeats."""


def is_refusal(status: int, content: bytes) -> bool:
    """Whether an answer says that the token is missing, wrong or expired.

    Args:
        status: Of the answer.
        content: Of the answer; only that of `BAD_REQUEST` matters.
    """
    return status in REFUSED or (status == BAD_REQUEST and TOKEN_REFUSED in content)


@final
@dataclass(frozen=True)
class Body:
    """The body of a request.

    Attributes:
        content: The bytes.
        media_type: Type of the content.
        headers: Further HTTP headers.
    """

    content: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Answer:
    """An answer of the server, with any status that is not retried."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def refused(self) -> bool:
        """Whether the server refuses the token."""
        return is_refusal(self.status, self.content)

    @property
    def said(self) -> str:
        """The beginning of the answer as text, for an error."""
        text = self.content[: 4 * SHOWN].decode(errors="replace")
        return " ".join(text.split())[:SHOWN]
