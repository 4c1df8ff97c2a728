"""How many windows cover an image, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

WINDOWS_A_SIDE = 7
"""An automatic window is a seventh of the shorter side: 32 pixels of 224, as wide as one cell of a last feature map."""


@dataclass(frozen=True)
class WindowsAlong:
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


@dataclass(frozen=True)
class Windows:
    """Square windows over an image: those along its height, and those along its width."""

    rows: WindowsAlong
    columns: WindowsAlong

    @property
    def count(self) -> int:
        """All windows of the image."""
        return self.rows.count * self.columns.count


def windows(window: int | None, stride: int | None, height: int, width: int) -> Windows:
    """The windows over an image.

    Args:
        window: Side of a window, in pixels; a seventh of the image's shorter side if None.
        stride: Pixels from one window to the next; half the window if None.
        height: Height of the image, in pixels.
        width: Width of the image, in pixels.
    """
    window = window or max(1, min(height, width) // WINDOWS_A_SIDE)
    stride = stride or max(1, window // 2)
    return Windows(WindowsAlong(window, stride, height), WindowsAlong(window, stride, width))
