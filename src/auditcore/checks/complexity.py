"""Complexity: over how many pixels a map spreads its relevance.

Source: Chalasani et al. 2020 (sparseness); Bhatt et al. 2020 (entropy).
"""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.measuring import measurement
from auditcore.contracts.checks import ComplexityCheck
from auditcore.contracts.shards import Measurement
from auditcore.metrics.complexity import entropy, gini_index
from auditcore.metrics.reduction import reduce_channels

ZERO_MAP = "the map is zero everywhere or not finite, so its relevance has no distribution"


def compute(check: ComplexityCheck, group: ImageGroup, _shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    """Both metrics of every explainer on one group, from the maps of the originals."""
    found: list[Measurement] = []
    for explainer in group.explained:
        # summed in float64: channels that cancel must not leave rounding behind as relevance
        maps = reduce_channels(group.original(explainer).maps.double(), check.reduce)[:, 0]
        for metric, values in {"sparseness": gini_index(maps), "entropy": entropy(maps)}.items():
            found.append(
                measurement(
                    check,
                    metric,
                    values.cpu(),
                    indices=group.indices,
                    explainer=explainer.label,
                    undefined=ZERO_MAP,
                    control=explainer in group.controls,
                )
            )
    return found
