"""Which images tell whether maps depend on their image, and from when on they do not."""

from __future__ import annotations

from collections.abc import Collection, Sequence

COMPARED_IMAGES = 32
"""Images whose maps are compared with each other: 496 pairs."""

SKETCHED_IMAGES = 64
"""Images whose maps are carried from shard to report; the first 32 different ones that are usable are compared. A
shard does not know which images of other shards are usable, and a sketch takes 2.7 KB for each explainer."""

INDEPENDENT_ABOVE = 0.9
"""Mean correlation with maps of other images above which a map says hardly anything about its own image."""


def sketched_images(order: Sequence[int] | None) -> Collection[int]:
    """Indices of the images whose maps are carried to the report.

    Args:
        order: Indices of all images in the order in which they are audited; None for the order of the batch.
    """
    return range(SKETCHED_IMAGES) if order is None else frozenset(order[:SKETCHED_IMAGES])
