"""The name, unit and direction of every number that a report can hold: one table."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.checks import CHECK_CONTRACTS
from auditcore.contracts.explainers import EXPLAINER_CONTRACTS
from auditcore.contracts.metric import Metric

EXPLAINER_METRICS: Mapping[str, Metric] = {
    # what methods report about themselves
    **{
        name: diagnostic.metric for contract in EXPLAINER_CONTRACTS for name, diagnostic in contract.diagnostics.items()
    },
    "repeatability": Metric(
        control=True,
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Correlation of a stochastic explainer's map, channels summed, with its map of the same image "
        "under another draw.",
    ),
    "image_dependence": Metric(
        control=True,
        unit="correlation",
        higher_is_better=None,
        lowest=-1,
        highest=1,
        meaning="Mean correlation of an image's map, channels summed, with the maps of other images; above 0.9 the "
        "map hardly depends on the image, and its stability means nothing.",
    ),
}
"""What belongs to explainers and not to a check."""

METRICS: Mapping[str, Mapping[str, Metric]] = {
    **{contract.model_fields["kind"].default: contract.metrics for contract in CHECK_CONTRACTS},
    "explainer": EXPLAINER_METRICS,
}
"""Check kind -> metric -> meaning. `explainer` holds what belongs to explainers and not to a check."""
