"""How many stages a cascade of randomized layers has."""

from __future__ import annotations


def cascade_stages(asked: int | None, layers: int) -> int:
    """Stages of a cascade over the layers of a model: one per layer, unless fewer are asked for.

    Args:
        asked: Stages that a plan asks for; None for one per layer.
        layers: Layers that have parameters.
    """
    return min(asked or layers, layers)
