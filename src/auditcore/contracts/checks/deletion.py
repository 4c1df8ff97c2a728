"""Deletion: cells are deleted least relevant first, most relevant first, and at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.checks.check import CheckNeed, CurveLine, Question
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.checks.ranking import StepCurveCheck
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.image_colors import ImageColor, is_image_color
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.contracts.ranking_orders import orders_of, ranked_variant
from auditcore.counts.cells import Grid, grid_of

METRICS: Mapping[str, Metric] = {
    "lerf_auc": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Mean target probability while the least relevant cells go first.",
    ),
    "morf_auc": Metric(
        unit="probability",
        higher_is_better=False,
        lowest=0,
        highest=1,
        meaning="Mean target probability while the most relevant cells go first.",
    ),
    "rao_auc": Metric(
        unit="probability",
        higher_is_better=None,
        lowest=0,
        highest=1,
        of_order=False,
        meaning="Mean target probability under random order; the same for every explainer.",
    ),
    "inter_model_deletion": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="lerf_auc - rao_auc; above 0 the map knows more than chance.",
    ),
    "srg": Metric(
        unit="probability",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="lerf_auc - morf_auc, the symmetric relevance gain.",
    ),
}


@final
class DeletionCheck(StepCurveCheck):
    """Deleting the least relevant cells first should hurt less than deleting at random."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Won et al. 2025"
    question: ClassVar[Question] = "faithfulness"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("inter_model_deletion", "srg")
    lines: ClassVar[Mapping[str, CurveLine]] = {
        "lerf_auc": CurveLine("least relevant first", "one"),
        "morf_auc": CurveLine("most relevant first", "two"),
        "rao_auc": CurveLine("random order", "reference"),
    }
    axis: ClassVar[str] = "share of cells deleted"
    chart_metric: ClassVar[str | None] = "inter_model_deletion"
    random_order: ClassVar[Mapping[str, float | str]] = {
        "lerf_auc": "rao_auc",
        "morf_auc": "rao_auc",
        "inter_model_deletion": 0.0,
        "srg": 0.0,
    }
    kind: Literal["deletion"] = "deletion"
    grid: int | None = Field(
        default=None,
        ge=2,
        le=64,
        description="Cells along the shorter side; 14 if it has at least 128 pixels, else 8, if null.",
    )
    repeats: int = Field(default=5, ge=1, le=100, description="Random orders, shared by all explainers and models.")
    fill: Literal["mean", "black", "blur"] = Field(
        default="mean", description="Mean is the model's mean color: zero after normalization."
    )

    def cells_of(self, height: int, width: int) -> Grid:
        """Rows and columns of cells of an image of this height and width, in pixels."""
        return grid_of(self.grid, height, width)

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Every step between the ends of each curve: the random ones once, and two for each order of cells."""
        steps = self.steps_passed(self.cells_of(case.shape.height, case.shape.width).cells - 1)
        curves = self.repeats + 2 * self.orders(case.able)
        return LOGITS.times(rows * (steps * curves + (not self.colors)))

    @property
    def colors(self) -> frozenset[ImageColor]:
        """The fill, where it is one color."""
        return frozenset({self.fill}) if is_image_color(self.fill) else frozenset()

    @property
    def fills(self) -> Mapping[str, str]:
        """What deleted pixels become."""
        return {"fill": self.fill}

    def chart_variant(self, explainer: ExplainerContract) -> str | None:
        """Where both orders are reported, the one that suits the explainer's maps."""
        (order,) = orders_of("auto", explainer)
        return ranked_variant(self.rank_by, order)
