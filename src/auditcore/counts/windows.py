"""How many windows cover an image, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

WINDOWS_A_SIDE = 7
"""An automatic window is a seventh of the side: 32 pixels of 224, as wide as one cell of a last feature map."""


@dataclass(frozen=True)
class Windows:
    """Where the windows lie along one side.

    Attributes:
        window: Side of a window, in pixels.
        stride: Pixels from one window to the next, at most the window.
        side: Side of the image, in pixels.
    """

    window: int
    stride: int
    side: int

    @property
    def count(self) -> int:
        """Windows along one side; the last one reaches the border, or is cut there."""
        return max(0, -(-(self.side - self.window) // self.stride)) + 1


def windows(window: int | None, stride: int | None, side: int) -> Windows:
    """The windows along a side of `side` pixels.

    Args:
        window: Side of a window, in pixels; a seventh of the image if None.
        stride: Pixels from one window to the next; half the window if None.
        side: Side of the image, in pixels.
    """
    window = window or max(1, side // WINDOWS_A_SIDE)
    return Windows(window, stride or max(1, window // 2), side)
