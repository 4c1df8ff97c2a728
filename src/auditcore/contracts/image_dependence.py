"""The images and the threshold of the control `image_dependence`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

COMPARED_IMAGES = 32
"""Number of images whose maps are compared with each other: 496 pairs."""

SKETCHED_IMAGES = 64
"""Number of images with sketches in the shard results; the first 32 different, usable ones are compared. A shard does
not know which images of other shards are usable. A sketch takes 2.7 KB per explainer."""

INDEPENDENT_ABOVE = 0.9
"""Above this mean correlation with maps of other images, a map says hardly anything about its own image."""


def sketched_images(order: Sequence[int] | None) -> Collection[int]:
    """Return the indices of the images with sketches.

    Args:
        order: Indices of all images in the order of the audit; None for the order of the batch.
    """
    return range(SKETCHED_IMAGES) if order is None else frozenset(order[:SKETCHED_IMAGES])
