"""Images of one color: baselines and fills for which one pass serves all images."""

from __future__ import annotations

from typing import Literal, TypeGuard, get_args

ImageColor = Literal["black", "mean"]
"""The color of a whole image: black, or the model's mean color."""

IMAGE_COLORS: frozenset[str] = frozenset(get_args(ImageColor))


def is_image_color(name: str) -> TypeGuard[ImageColor]:
    """Whether a baseline or fill is the same image of one color for every image."""
    return name in IMAGE_COLORS
