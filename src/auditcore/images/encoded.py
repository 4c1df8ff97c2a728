"""One image as it was sent: its bytes, not yet decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from auditcore.contracts.images import Box, Labels, labels_of
from auditcore.contracts.masks import Mask


@dataclass(frozen=True)
class EncodedImage:
    """An image file in memory.

    Attributes:
        index: Position in the whole batch of the audit, from 0.
        name: Name given by the sender; None for inline images.
        data: The file's bytes, not yet checked.
        label: Class index given by the sender, or several for a multi-label model.
        boxes: Bounding boxes of objects, in pixels of the original image.
        masks: Masks of objects, of the size of the original image.
    """

    index: int
    name: str | None
    data: bytes = field(repr=False)
    label: Labels | None = None
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """All class indices given by the sender; empty if there is no label."""
        return labels_of(self.label)

    @cached_property
    def digest(self) -> str:
        """Content address of the file: `sha256:` and 64 hexadecimal digits."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"
