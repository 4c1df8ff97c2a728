"""F-Fidelity: random parts of an explanation, and of the rest, are removed from a model that is used to holes."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Field, field_validator, model_validator

from auditcore.contracts.checks import Reduction
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import Seed
from auditcore.contracts.ranking_orders import RANK_BY, RankBy, RankingOrder, orders_of
from auditcore.contracts.retraining.explained_plan import ExplainedPlan, Target
from auditcore.contracts.retraining.measure_request import MeasureRequest
from auditcore.contracts.retraining.measured_images import (
    FINE_TUNED_SCHEMA_VERSION,
    FINE_TUNING,
    UNUSED_TO_HOLES,
    FineTunedReport,
)
from auditcore.contracts.training.methods.random_masks import RandomMasks, RandomPixels
from auditcore.contracts.training.optimizers import Adam
from auditcore.contracts.training.plan import TrainingPlan

F_FIDELITY_METRICS = (
    "f_fidelity_plus_accuracy",
    "f_fidelity_plus_probability",
    "f_fidelity_minus_accuracy",
    "f_fidelity_minus_probability",
)
"""Fid+ is better the higher, Fid- the lower."""

SIZES = tuple(step / 20 for step in range(1, 20))
"""5, 10, ..., 95 % of the pixels. The authors add 100 %, where nothing is left for Fid-."""

F_FIDELITY_TRAINING = TrainingPlan(
    epochs=100, batch_size=128, optimizer=Adam(learning_rate=1e-4, weight_decay=1e-4), method=RandomMasks()
)
"""The fine-tuning of the authors' code for CIFAR-100, without its flips and crops. The code keeps the best epoch, this
the last."""


@final
class FFidelityPlan(ExplainedPlan):
    """Fine-tune a model once with random masks, and ask it about images without random parts of the explanation.

    An explanation of size s is the share s of the pixels that a map ranks highest. For Fid+, a random part `alpha_plus`
    of it is removed; for Fid-, a random part `alpha_minus` of all other pixels. Never more than the share `beta` of all
    pixels is removed at once: what fine-tuning has shown. Both are differences between the prediction of the whole
    image and the mean prediction of `samples` such copies. A faithful explanation has a high Fid+ and a low Fid-.

    Removed pixels take the model's mean color. All explainers share the random numbers of a copy.

    Attributes:
        sizes: Sizes of the explanation, ascending; a score is the mean over them.
        alpha_plus: Share of the explanation that is removed for Fid+.
        alpha_minus: Share of the other pixels that is removed for Fid-.
        beta: Most that is removed, as a share of all pixels; the share that fine-tuning masks.
        samples: Copies of each image for each size.
        target: The class whose prediction is asked for and explained. The paper takes the label.
        explained_model: Which model makes the maps: the fine-tuned one, as in the authors' code, or the given one, of
            which the fine-tuned one is then a stand-in.
    """

    kind: Literal["f_fidelity"] = "f_fidelity"
    seed: Seed = 0
    training: TrainingPlan | None = Field(default=F_FIDELITY_TRAINING, description=FINE_TUNING)
    sizes: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(default=SIZES, min_length=1, max_length=99)
    alpha_plus: float = Field(default=0.5, gt=0, le=1)
    alpha_minus: float = Field(default=0.5, gt=0, le=1)
    beta: float = Field(default=0.1, gt=0, lt=1)
    samples: Annotated[int, Field(ge=1, le=10_000)] = 50
    target: Target = "label"
    explained_model: Literal["fine_tuned", "given"] = "fine_tuned"
    rank_by: RankBy = Field(default="auto", description=RANK_BY)
    reduce: Reduction = Field(
        default="sum", description="How channels are joined where the order is signed; no other order needs it."
    )

    @field_validator("sizes")
    @classmethod
    def _sizes_ascend(cls, sizes: tuple[float, ...]) -> tuple[float, ...]:
        if list(sizes) != sorted(set(sizes)):
            msg = "sizes must ascend without repetition"
            raise ValueError(msg)
        return sizes

    @model_validator(mode="after")
    def _given_model_is_another(self) -> FFidelityPlan:
        if self.training is None and self.explained_model == "given":
            msg = "without `training` the given model is the fine-tuned one; leave `explained_model` out"
            raise ValueError(msg)
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the fine-tuning."""
        method = None if self.training is None else self.training.method
        if isinstance(method, RandomMasks) and isinstance(method.masks, RandomPixels):
            if method.masks.share >= self.beta:
                return ()
            lost = f"copies lose up to {self.beta:g} (`beta`), which is new to the model"
            return (f"fine-tuning masks {method.masks.share:g} of the pixels, and {lost}",)
        return () if method is None else (UNUSED_TO_HOLES,)

    def orders(self, explainer: Explainer) -> tuple[RankingOrder, ...]:
        """The orders of pixels that an explainer's maps give; the control needs no second random one."""
        found = orders_of(self.rank_by, explainer)
        return found[:1] if explainer.is_control else found


@final
class FFidelityRequest(MeasureRequest):
    """A model, labeled images and a plan for F-Fidelity.

    Attributes:
        plan: How to fine-tune and what to measure.
    """

    plan: FFidelityPlan


@final
class FFidelityReport(FineTunedReport):
    """What F-Fidelity has shown of the explainers.

    Attributes:
        request: What was asked for, with a pinned model.
    """

    schema_version: Literal["1.0"] = FINE_TUNED_SCHEMA_VERSION
    request: FFidelityRequest
