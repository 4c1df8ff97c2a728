"""What a model takes: channels, height and width."""

from __future__ import annotations

from typing import NamedTuple


class InputShape(NamedTuple):
    """Shape of one image as the model takes it.

    Attributes:
        channels: Number of channels: 3 for RGB, 1 for gray, more for other sensors.
        height: Height in pixels.
        width: Width in pixels.
    """

    channels: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels, whatever the channels."""
        return self.height * self.width

    def __str__(self) -> str:
        """Return the size as people write it: width, height, and channels unless there are three."""
        size = f"{self.width} x {self.height} pixels"
        return size if self.channels == 3 else f"{size} of {self.channels} channel{'s' * (self.channels != 1)}"  # noqa: PLR2004 - RGB


TYPICAL = InputShape(3, 224, 224)
"""Serves where the model, and with it the shape, is not known yet."""
