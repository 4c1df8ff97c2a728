"""How many pixels each step of a removal takes."""

from __future__ import annotations

from fractions import Fraction

from auditcore.errors import ShapeError

PAPERS_PIXELS = 224 * 224
"""Size of the images for which the papers give pixels per step."""


def proportional_step(paper_px: int, height: int, width: int) -> int:
    """Pixels per step that give an image as many steps as the paper's 224 x 224; at least 1.

    Args:
        paper_px: Pixels per step at 224 x 224.
        height: Height in pixels.
        width: Width in pixels.
    """
    return max(1, round(Fraction(paper_px * height * width, PAPERS_PIXELS)))


def removal_counts(pixels: int, pixels_per_step: int, share: float = 1.0) -> tuple[int, ...]:
    """How many pixels are removed after each step, from none to the share.

    Args:
        pixels: Pixels of the image, H*W.
        pixels_per_step: Pixels removed per step.
        share: Share of the pixels removed in the end, in (0, 1].

    Returns:
        0, s, 2s, ... and exactly round(share * H * W), at least 1; the last step may be shorter than the others.

    Raises:
        ShapeError: There is no pixel to remove, or a step removes none.
    """
    if pixels < 1 or pixels_per_step < 1:
        raise ShapeError(expected="at least 1 pixel and 1 pixel a step", actual=(pixels, pixels_per_step))
    last = max(1, round(exact(share) * pixels))
    return (*range(0, last, pixels_per_step), last)


def exact(share: float) -> Fraction:
    """The share as its decimals say, not the nearest binary number."""
    return Fraction(repr(float(share)))
