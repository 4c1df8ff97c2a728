"""The name, unit and direction of every number that a report can hold: one table."""

from __future__ import annotations

from collections.abc import Mapping

from auditcore.contracts.checks import CHECK_OF_KIND
from auditcore.contracts.metric import Metric

EXPLAINER_METRICS: Mapping[str, Metric] = {
    "completeness_error": Metric(
        control=True,
        unit="relative error",
        higher_is_better=False,
        lowest=0,
        meaning="|sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)| of methods that promise completeness.",
    ),
    "conservation": Metric(
        control=True,
        unit="ratio",
        higher_is_better=None,
        meaning="Sum of relevance / f(x) of layer-wise relevance propagation; biases absorb the rest.",
    ),
    "statistics_agreement": Metric(
        control=True,
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Correlation of two maps of an information bottleneck, with the layer's statistics over every "
        "other image of the audit and over the rest: low where a map depends on the other images.",
    ),
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
"""What explainers report about themselves, and what is measured of their maps for every check."""

METRICS: Mapping[str, Mapping[str, Metric]] = {
    **{kind: contract.metrics for kind, contract in CHECK_OF_KIND.items()},
    "explainer": EXPLAINER_METRICS,
}
"""Check kind -> metric -> meaning. `explainer` holds the controls an explainer reports about itself."""
