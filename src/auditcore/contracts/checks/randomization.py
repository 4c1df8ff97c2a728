"""Randomization: whether the map changes when the model forgets what it learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field

from auditcore.contracts.checks.check import CheckContract, CheckNeed, CurveLine, Question, Reduction
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.counts.stages import cascade_stages

METRICS: Mapping[str, Metric] = {
    "cascade_similarity": Metric(
        unit="similarity",
        higher_is_better=False,
        lowest=-1,
        highest=1,
        meaning="Similarity with the map of the trained model, averaged over layers randomized from the top.",
    ),
    "randomized_similarity": Metric(
        unit="similarity",
        higher_is_better=False,
        lowest=-1,
        highest=1,
        meaning="Similarity with the map of the trained model when all its layers are random.",
    ),
}


@final
class RandomizationCheck(CheckContract):
    """Does the map change when the model forgets what it learned, layer by layer from the top?"""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"maps_of_copies", "weights"})
    paper: ClassVar[str] = "Adebayo et al. 2018"
    question: ClassVar[Question] = "randomization"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("cascade_similarity", "randomized_similarity")
    lines: ClassVar[Mapping[str, CurveLine]] = {
        "cascade_similarity": CurveLine("similarity with the trained model's map", "one")
    }
    axis: ClassVar[str] = "share of layers randomized, from the top"
    pays_per_group: ClassVar[bool] = True
    kind: Literal["randomization"] = "randomization"
    stages: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Steps of the cascade, layers in equal groups; one per layer if null.",
    )
    similarity: Literal["spearman", "pearson", "ssim"] = "spearman"
    absolute: bool = Field(default=False, description="Compare absolute values, as half of the paper's figures do.")
    reduce: Reduction = "sum"

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """The maps of every stage; each group of images has its own random models, which pass images of one color."""
        random_models = LOGITS.times(len(case.map_colors) * case.groups)
        maps = case.map_passes(case.explained).times(rows)
        return maps.plus(random_models).times(cascade_stages(self.stages, case.layers))
