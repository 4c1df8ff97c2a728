"""Changes of training images that every method begins with: flips and crops."""

from __future__ import annotations

from typing import final

from pydantic import Field

from auditcore.contracts.contract import Contract


@final
class BasicAugmentation(Contract):
    """Random flips and crops, drawn for each image and epoch. The label stays.

    Attributes:
        horizontal_flip: Mirror every other image, at random.
        crop_padding: Width in pixels of a black border of which a random window of the input's size is cut; 0 for no
            crop.
    """

    horizontal_flip: bool = False
    crop_padding: int = Field(default=0, ge=0, le=512)
