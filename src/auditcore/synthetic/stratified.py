"""Parts of a dataset in which every class has its share."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

from auditcore.errors import InvalidRequest
from auditcore.synthetic.draws import draws_of


def split_positions(
    labels: Sequence[int], numbers: Sequence[int], shares: Sequence[float], *, seed: int
) -> tuple[tuple[int, ...], ...]:
    """Return the positions of each part, ascending; what is left of the shares is the last part.

    Of each class, the parts have their shares up to one image.

    Args:
        labels: Class of each image.
        numbers: Number of each image, by which its part is drawn.
        shares: Share of each part but the last.
        seed: Seed of the draw.

    Raises:
        InvalidRequest: Shares are not above 0 or leave nothing, or a class would miss in a part.
    """
    if not shares or not all(share > 0 for share in shares) or not math.fsum(shares) < 1:
        listed = ", ".join(f"{share:g}" for share in shares)
        msg = f"shares are above 0 and leave something for the last part, such as 0.8 or 0.6, 0.2; got {listed or None}"
        raise InvalidRequest(msg, field="shares")
    ends = [math.fsum(shares[: count + 1]) for count in range(len(shares))]
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label, positions in sorted(_shuffled(labels, numbers, "split", seed).items()):
        bounds = [0, *(_rounded(end * len(positions)) for end in ends), len(positions)]
        for part, (start, end) in enumerate(itertools.pairwise(bounds)):
            if start == end:
                msg = (
                    f"class {label} has {len(positions)} images, too few for each of {len(parts)} parts to get one; "
                    "generate more images, or split into fewer or larger parts"
                )
                raise InvalidRequest(msg, field="shares")
            parts[part] += positions[start:end]
    return tuple(tuple(sorted(part)) for part in parts)


def subset_positions(labels: Sequence[int], numbers: Sequence[int], share: float, *, seed: int) -> tuple[int, ...]:
    """Return the positions of a subset, ascending, with the share of each class, rounded, and at least one image of it.

    Of one seed, a smaller subset lies within a larger one.

    Args:
        labels: Class of each image.
        numbers: Number of each image, by which it is drawn.
        share: How much of each class.
        seed: Seed of the draw.

    Raises:
        InvalidRequest: The share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        msg = f"the share of a subset is above 0 and at most 1, got {share:g}"
        raise InvalidRequest(msg, field="share")
    found = [
        position
        for positions in _shuffled(labels, numbers, "subset", seed).values()
        for position in positions[: max(1, _rounded(share * len(positions)))]
    ]
    return tuple(sorted(found))


def _shuffled(labels: Sequence[int], numbers: Sequence[int], purpose: str, seed: int) -> dict[int, list[int]]:
    """Class -> positions of its images in random order."""
    by_class: defaultdict[int, list[tuple[float, int]]] = defaultdict(list)
    for position, (label, number) in enumerate(zip(labels, numbers, strict=True)):
        by_class[label].append((draws_of(seed, purpose, number).random(), position))
    return {label: [position for _, position in sorted(drawn)] for label, drawn in by_class.items()}


def _rounded(value: float) -> int:
    """The nearest whole number, halves up: Python rounds 0.5 and 1.5 to even numbers."""
    return math.floor(value + 0.5)
