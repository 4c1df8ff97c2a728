"""How many coalitions of segments kernel SHAP evaluates."""

from __future__ import annotations


def possible_coalitions(segments: int) -> int:
    """How many coalitions there are of some segments, without the empty and the full one."""
    return (1 << segments) - 2


def is_exhaustive(segments: int, samples: int) -> bool:
    """Whether as many samples as wanted reach every coalition."""
    return possible_coalitions(segments) <= samples


def coalition_count(segments: int, samples: int) -> int:
    """How many coalitions are evaluated: all of them, or as many pairs as the samples pay for.

    Args:
        segments: Segments of the image.
        samples: Coalitions wanted, at most.
    """
    return possible_coalitions(segments) if is_exhaustive(segments, samples) else samples // 2 * 2
