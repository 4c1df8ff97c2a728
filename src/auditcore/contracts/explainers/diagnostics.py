"""What methods report about themselves for each image: how far their maps can be trusted."""

from __future__ import annotations

from typing import final

from auditcore.contracts.contract import Contract
from auditcore.contracts.metric import Metric


@final
class Diagnostic(Contract):
    """A number that a method computes together with its map.

    Attributes:
        metric: What the number means.
        undefined: Why it has no value where it is NaN.
    """

    metric: Metric
    undefined: str


COMPLETENESS_ERROR = Diagnostic(
    metric=Metric(
        control=True,
        unit="relative error",
        higher_is_better=False,
        lowest=0,
        meaning="|sum of the map - (f(x) - f(baseline))| / |f(x) - f(baseline)| of methods that promise completeness.",
    ),
    undefined="the logit it is relative to is 0",
)
