"""IDSDS, the in-domain single-deletion score: what a patch adds, and what the map says that it adds."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field

from auditcore.contracts.checks import Reduction
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import Seed
from auditcore.contracts.ranking_orders import RankBy, RankingOrder, orders_of
from auditcore.contracts.retraining.explained_plan import ExplainedPlan, Target
from auditcore.contracts.retraining.measure_request import MeasureRequest
from auditcore.contracts.retraining.measured_images import (
    FINE_TUNED_SCHEMA_VERSION,
    FINE_TUNING,
    UNUSED_TO_HOLES,
    FineTunedReport,
)
from auditcore.contracts.training.methods.random_masks import RandomMasks, RandomPatches
from auditcore.contracts.training.optimizers import Sgd, StepDecay
from auditcore.contracts.training.plan import TrainingPlan

IDSDS_TRAINING = TrainingPlan(
    epochs=30,
    batch_size=256,
    optimizer=Sgd(learning_rate=1e-3, momentum=0.9, nesterov=False, weight_decay=1e-4),
    schedule=StepDecay(after=(10, 20), by=0.1),
    method=RandomMasks(masks=RandomPatches()),
)
"""The fine-tuning of the paper for ImageNet, without its flips and crops."""


@final
class IdsdsPlan(ExplainedPlan):
    """Delete each patch of an image by itself, and compare the drop of the target's score with the map.

    The model is fine-tuned on images of which some lack one patch, so that no copy is out of its domain. The score of
    an image is the rank correlation between what the patches take away when they are deleted and the sums of the map
    over the patches. Deleted patches take the model's mean color.

    Attributes:
        grid: Patches along the shorter side of the image; 4 in the paper.
        output: What drops: the target's logit, as in the paper, or its probability.
        target: The class whose score drops and is explained. The paper takes the label.
        correlation: Over the patches of an image; `spearman` in the paper.
        rank_by: What a pixel adds to its patch. `signed`: its relevance with its sign, as in the paper, which found it
            better than absolute values. `magnitude`: the largest absolute value over its channels. `auto`: by the kind
            of the map; `both`: both.
        reduce: How channels are joined where values are signed.
    """

    kind: Literal["idsds"] = "idsds"
    seed: Seed = 0
    training: TrainingPlan | None = Field(default=IDSDS_TRAINING, description=FINE_TUNING)
    grid: Annotated[int, Field(ge=2, le=64)] = 4
    output: Literal["logit", "probability"] = "logit"
    target: Target = "label"
    correlation: Literal["spearman", "pearson"] = "spearman"
    rank_by: RankBy = "signed"
    reduce: Reduction = "sum"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the fine-tuning."""
        method = None if self.training is None else self.training.method
        if isinstance(method, RandomMasks):
            if not isinstance(method.masks, RandomPatches) or method.masks.grid == self.grid:
                return ()
            deleted = f"the score deletes those of a grid of {self.grid}"
            return (f"fine-tuning masks patches of a grid of {method.masks.grid}, and {deleted}",)
        return () if method is None else (UNUSED_TO_HOLES,)

    def orders(self, explainer: Explainer) -> tuple[RankingOrder, ...]:
        """What pixels add to their patch; the control needs no second random map."""
        found = orders_of(self.rank_by, explainer)
        return found[:1] if explainer.is_control else found


@final
class IdsdsRequest(MeasureRequest):
    """A model, labeled images and a plan for IDSDS.

    Attributes:
        plan: How to fine-tune and what to measure.
    """

    plan: IdsdsPlan


@final
class IdsdsReport(FineTunedReport):
    """What single deletions have shown of the explainers.

    Attributes:
        request: What was asked for, with a pinned model.
    """

    schema_version: Literal["1.0"] = FINE_TUNED_SCHEMA_VERSION
    request: IdsdsRequest
