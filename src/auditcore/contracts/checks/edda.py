"""EDDA faithfulness: the most relevant pixels by themselves, and the image without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, field_validator, model_validator

from auditcore.contracts.checks.check import CheckNeed, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.checks.ranking import RankingCheck, Share
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes

SaliencyThreshold = Annotated[float, Field(ge=0.001, le=0.999)]
"""A threshold on maps scaled to [0, 1]. Neither end is one: some pixels lie above each threshold, and some below."""

METRICS: Mapping[str, Metric] = {
    "sufficiency": Metric(
        unit="probability",
        higher_is_better=True,
        variants="mask",
        lowest=-1,
        highest=1,
        meaning="Target probability of only the most relevant pixels, minus that of the whole image.",
    ),
    "comprehensiveness": Metric(
        unit="probability",
        higher_is_better=True,
        variants="mask",
        lowest=-1,
        highest=1,
        meaning="Target probability lost when the most relevant pixels are removed.",
    ),
    "drop_percent": Metric(
        unit="percent",
        higher_is_better=False,
        variants="mask",
        lowest=0,
        highest=100,
        meaning="Relative loss of target probability when only the most relevant pixels are kept.",
    ),
    "increase_percent": Metric(
        unit="percent",
        higher_is_better=True,
        variants="mask",
        lowest=0,
        meaning="Relative gain of target probability when only the most relevant pixels are kept.",
    ),
    "umask_agreement": Metric(
        unit="share of images",
        higher_is_better=True,
        variants="mask",
        lowest=0,
        highest=1,
        meaning="Share of images for which only the most relevant pixels give the same class.",
    ),
    "imask_flip": Metric(
        unit="share of images",
        higher_is_better=True,
        variants="mask",
        lowest=0,
        highest=1,
        meaning="Share of images whose class changes when the most relevant pixels are removed.",
    ),
    "kept_share": Metric(
        control=True,
        unit="share of pixels",
        higher_is_better=None,
        variants="mask",
        lowest=0,
        highest=1,
        meaning="Share of pixels above a threshold; a map that keeps more pixels keeps more of the prediction.",
    ),
}


@final
class EddaCheck(RankingCheck):
    """Do the most relevant pixels carry the prediction by themselves, and does removing them destroy it?"""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Li et al. 2021"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("sufficiency", "comprehensiveness")
    kind: Literal["edda"] = "edda"
    keep: tuple[Share, ...] = Field(
        default=(0.15, 0.3, 0.5), max_length=10, description="Shares of pixels kept; variants such as `top_15`."
    )
    thresholds: tuple[SaliencyThreshold, ...] = Field(
        default=(),
        max_length=10,
        description="Thresholds on the map scaled to [0, 1] by its minimum and maximum; variants such as `tau_0.5`. "
        "Pixels above are kept, or removed; a pixel at the threshold is in neither image.",
    )
    color: Literal["black", "mean"] = Field(
        default="black", description="Of removed pixels; mean is the model's mean color."
    )
    min_probability: float = Field(
        default=0.01,
        ge=1e-8,
        le=1,
        description="Images whose target probability is below have no drop_percent and no increase_percent: one image "
        "at 5e-5 gave an increase of 273 898 %.",
    )

    @field_validator("keep")
    @classmethod
    def _shares_differ(cls, keep: tuple[float, ...]) -> tuple[float, ...]:
        if len({top_variant(share) for share in keep}) < len(keep):
            msg = "two shares in keep are the same"
            raise ValueError(msg)
        return keep

    @field_validator("thresholds")
    @classmethod
    def _thresholds_differ(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if len({threshold_variant(threshold) for threshold in thresholds}) < len(thresholds):
            msg = "two thresholds are the same"
            raise ValueError(msg)
        return thresholds

    @model_validator(mode="after")
    def _masks_something(self) -> EddaCheck:
        if not self.keep and not self.thresholds:
            msg = "give at least one share in keep or one of thresholds"
            raise ValueError(msg)
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the sub-cases: shares first, then thresholds."""
        return (*map(top_variant, self.keep), *map(threshold_variant, self.thresholds))

    def masks_of(self, metric: str) -> tuple[str, ...]:
        """The masks; every metric has all of them."""
        return self.variants if self.metrics[metric].variants == "mask" else ()

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Two masked images for each sub-case."""
        return LOGITS.times(rows * 2 * len(self.variants) * self.orders(case.explained))

    @property
    def fills(self) -> Mapping[str, str]:
        """The one color that removed pixels become."""
        return {"color": self.color}


def top_variant(share: float) -> str:
    """Name of the sub-case that keeps this share of pixels, such as `top_15`."""
    return f"top_{100 * share:g}"


def threshold_variant(threshold: float) -> str:
    """Name of the sub-case that keeps pixels above this threshold, such as `tau_0.5`."""
    return f"tau_{threshold:g}"
