"""One image as it was sent: bytes, not yet looked at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EncodedImage:
    """An image file in memory.

    Attributes:
        index: Position in the whole batch of the audit, from 0.
        name: What the sender called it; null for inline images.
        data: The file's bytes, whatever they hold.
        label: Class index given by the sender.
    """

    index: int
    name: str | None
    data: bytes = field(repr=False)
    label: int | None = None

    @property
    def digest(self) -> str:
        """Content address of the file: `sha256:` and 64 hexadecimal digits."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"
