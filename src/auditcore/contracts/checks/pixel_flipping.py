"""Pixel flipping: the most relevant pixels are removed first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.checks.check import CheckNeed, CurveLine, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.checks.ranking import RankingCheck
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.counts.removal_steps import proportional_step, removal_counts

PAPERS_STEP_PX = 512
"""Pixels per step at 224 x 224 pixels where a plan gives none."""

METRICS: Mapping[str, Metric] = {
    "pixel_flipping_aoc": Metric(
        unit="area",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Area over the relative target probability while the most relevant pixels are removed, in [0, 1].",
    ),
}


@final
class PixelFlippingCheck(RankingCheck):
    """Removing the most relevant pixels first should destroy the prediction soon.

    Attributes:
        fill: What a removed pixel shows instead.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Bach et al. 2015; Tetkova & Hansen 2023"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("pixel_flipping_aoc",)
    lines: ClassVar[Mapping[str, CurveLine]] = {"pixel_flipping_aoc": CurveLine("relative target probability", "one")}
    axis: ClassVar[str] = "share of pixels removed"
    kind: Literal["pixel_flipping"] = "pixel_flipping"
    pixels_per_step: int | None = Field(
        default=None, ge=1, description="512 for 224 x 224 pixels, and as many in proportion for others, if null."
    )
    share: float = Field(default=0.2, gt=0, le=1, description="Share of the pixels that are removed.")
    fill: Literal["black", "mean"] = "black"

    def removed(self, height: int, width: int) -> tuple[int, ...]:
        """How many pixels are removed after each step, from none to the share.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        step_px = self.pixels_per_step or proportional_step(PAPERS_STEP_PX, height, width)
        return removal_counts(height * width, step_px, self.share)

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Every step of a curve but its beginning, which is the original."""
        steps = len(self.removed(case.shape.height, case.shape.width)) - 1
        return LOGITS.times(rows * steps * self.orders(case.explained))

    @property
    def fills(self) -> Mapping[str, str]:
        """The one color that removed pixels become."""
        return {"fill": self.fill}
