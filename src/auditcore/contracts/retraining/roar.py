"""ROAR and KAR: remove, or keep, the most relevant pixels of all images, and train again."""

from __future__ import annotations

from typing import Annotated, Final, Literal, final

from pydantic import Field, field_validator, model_validator

from auditcore.contracts.checks import Reduction
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.ranking_orders import RANK_BY, RankBy, RankingOrder, orders_of
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.explained_plan import ExplainedPlan, Target
from auditcore.contracts.retraining.measure_request import MeasureRequest
from auditcore.contracts.retraining.statistic import Statistic
from auditcore.contracts.shards import ModelRecord
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.report import TrainingData

ROAR_SCHEMA_VERSION: Final = "1.0"

PAPERS_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Hooker et al. 2019: the untouched images, and 10 to 90 % of the pixels."""

MOST_REPEATS = 100

Measure = Literal["roar", "kar"]
"""`roar`: the most relevant pixels are removed. `kar`: they are kept, and all others are removed."""


@final
class RoarPlan(ExplainedPlan):
    """Remove the most relevant pixels of every image, training and validation, and train a new model on the rest.

    The faster the accuracy falls with the share of removed pixels, the better the explainer has found what a model can
    learn from. A model trained on images without these pixels cannot be confused by holes it has never seen. Maps are
    made once per image, of a model trained on the untouched images. Removed pixels take the model's mean color.

    All trainings of one repeat have the same seed: the same first weights, the same batches in the same order. So
    explainers and shares are compared in pairs, and images from which nothing is removed are trained once per repeat
    for all of them.

    Attributes:
        training: How every model is trained. Its seed is that of the first repeat; each further repeat adds 1, to the
            seed of its first weights too.
        measures: `roar`, `kar` (keep and retrain: only the most relevant pixels stay) or both.
        shares: Shares of the pixels that are removed (roar) or kept (kar), ascending. An area needs two of them.
        repeats: How often everything is done with another seed. Hooker et al. take 5; an interval needs 2.
        explained_model: Which model makes the maps. `trained`: in each repeat the one that was trained on the untouched
            images. `given`: the one that the request names, for all repeats, as in the paper.
        target: The class that is explained: the one that the explained model predicts, as in the authors' code, or the
            label. Which pixels are missing in a validation image then depends on its label, and a model can learn
            to read the label off the missing pixels.
    """

    kind: Literal["roar"] = "roar"
    training: TrainingPlan
    measures: tuple[Measure, ...] = Field(default=("roar",), min_length=1, max_length=2)
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(default=PAPERS_SHARES, min_length=1, max_length=101)
    repeats: Annotated[int, Field(ge=1, le=MOST_REPEATS)] = 5
    explained_model: Literal["trained", "given"] = "trained"
    target: Target = "predicted"
    rank_by: RankBy = Field(default="auto", description=RANK_BY)
    reduce: Reduction = Field(
        default="sum", description="How channels are joined where the order is signed; no other order needs it."
    )

    @field_validator("shares")
    @classmethod
    def _shares_ascend(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if list(shares) != sorted(set(shares)):
            msg = "shares must ascend without repetition"
            raise ValueError(msg)
        return shares

    @field_validator("measures")
    @classmethod
    def _measures_differ(cls, measures: tuple[Measure, ...]) -> tuple[Measure, ...]:
        if len(set(measures)) != len(measures):
            msg = "measures must name each measure once"
            raise ValueError(msg)
        return measures

    @model_validator(mode="after")
    def _images_are_only_trained_on(self) -> RoarPlan:
        if self.training.epoch_audit is not None:
            msg = "an audit after epochs would see images that this training never sees; set `epoch_audit` to null"
            raise ValueError(msg)
        if self.rank_by == "magnitude" and self.reduce != "sum":
            msg = (
                f"reduce is {self.reduce!r}, but rank_by 'magnitude' always takes the largest absolute value over "
                "channels; leave reduce out, or set rank_by to 'signed'"
            )
            raise ValueError(msg)
        return self

    def orders(self, explainer: Explainer) -> tuple[RankingOrder, ...]:
        """The orders of pixels that an explainer's maps give; the control needs no second random one."""
        found = orders_of(self.rank_by, explainer)
        return found[:1] if explainer.is_control else found

    def cells(self, explained: tuple[Explainer, ...]) -> tuple[RoarCell, ...]:
        """Every training, each once, repeat by repeat and explainer by explainer.

        The first one of each repeat is on the untouched images, if it or a model that explains is needed.

        Args:
            explained: Explainers that run on the model, the control among them.
        """
        found: dict[RoarCell, None] = {}
        for repeat in range(self.repeats):
            if self.explained_model == "trained":
                found[untouched(repeat)] = None
            wanted = [
                RoarCell(repeat=repeat, explainer=one.label, order=order, measure=measure, share=share).trained
                for one in explained
                for order in self.orders(one)
                for measure in self.measures
                for share in self.shares
            ]
            # images that all explainers share come first
            found |= dict.fromkeys(sorted(wanted, key=lambda cell: cell.explainer is not None))
        return tuple(found)


@final
class RoarCell(Contract):
    """One training: which images, and which repeat.

    Attributes:
        repeat: Number of the repeat, from 0.
        explainer: Whose maps decide; null if no map is needed, because no pixel or every pixel is removed.
        order: The order of pixels; null with the explainer.
        measure: Whether the most relevant pixels are removed or kept.
        share: Of the pixels.
    """

    repeat: int
    explainer: str | None
    order: RankingOrder | None
    measure: Measure
    share: float

    @property
    def trained(self) -> RoarCell:
        """The cell whose training serves this one: images with all pixels, or with none, are the same for all maps."""
        if 0 < self.share < 1:
            return self
        removed = self.share if self.measure == "roar" else 1 - self.share
        return RoarCell(repeat=self.repeat, explainer=None, order=None, measure="roar", share=removed)


def untouched(repeat: int) -> RoarCell:
    """The training of a repeat on the images as they are."""
    return RoarCell(repeat=repeat, explainer=None, order=None, measure="roar", share=0.0)


@final
class CellScore(Contract):
    """The result of one training.

    Attributes:
        score: Accuracy on the validation images after the last epoch, in [0, 1]; null where `reason` says why.
        reason: Why there is no score; absent if there is one.
        trainings: 1, or 0 if nothing was trained.
    """

    cell: RoarCell
    score: float | None
    reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)
    trainings: int = 1
    forward_images: int = 0
    backward_images: int = 0
    seconds: float = 0.0


@final
class MadeMaps(Contract):
    """The maps of one explainer in one repeat: of all training and validation images.

    Attributes:
        images: Number of images.
        constant: Order -> number of images whose map gives no order; chance decides about their pixels.
    """

    repeat: int
    explainer: str
    images: int
    constant: dict[RankingOrder, int]
    forward_images: int = 0
    backward_images: int = 0
    seconds: float = 0.0


@final
class RoarRequest(MeasureRequest):
    """A model, labeled images and a plan for ROAR.

    Attributes:
        plan: What to remove, how to train, how often. Every training begins with random weights of the architecture
            of `model`; its weights are used only to explain, with `explained_model: given`. If they are `random:SEED`,
            this is the seed of the first weights, else the seed of the training plan is.
    """

    plan: RoarPlan


@final
class RoarPoint(Contract):
    """One point of a curve.

    Attributes:
        share: Of the pixels that are removed (roar) or kept (kar).
        score: Accuracy after training on such images, one value per repeat.
    """

    share: float
    score: Statistic


@final
class RoarResult(Contract):
    """One explainer under one measure.

    Attributes:
        explainer: Its name.
        control: Whether it is the random control.
        ranked_by: The order of pixels.
        measure: Whether the most relevant pixels were removed or kept.
        higher_is_better: Of `area`: false for roar, where a good explainer destroys the accuracy.
        curve: Accuracy for each share.
        area: Area under the curve by the trapezoid rule, divided by the range of the shares; one value per repeat.
        gain: How much better `area` is than that of the random control in the same repeat; above 0 for an explainer
            that knows more than chance, whatever the measure. Null for the control itself.
        constant_maps: Share of the maps, over all repeats, that gave no order; chance decided about their pixels.
    """

    explainer: str
    control: bool
    ranked_by: RankingOrder
    measure: Measure
    higher_is_better: bool
    curve: tuple[RoarPoint, ...]
    area: Statistic
    gain: Statistic | None
    constant_maps: float | None


@final
class RoarReport(Contract):
    """What retraining has shown of the explainers.

    Attributes:
        roar_id: Of the measurement.
        request: What was asked for, with a pinned model.
        plan_digest: sha256 of the canonical JSON of the plan.
        model: The model with the random weights of the first repeat.
        explained: The model that made the maps, if it was given; null if it was trained in each repeat.
        data: The images before anything was removed.
        results: One entry per explainer, order and measure.
        not_applicable: Name of an explainer that cannot run on the model -> why.
        estimate: What was expected before anything was trained.
        cost: What was counted.
        notes: What a reader should know.
        environment: Software and hardware.
    """

    schema_version: Literal["1.0"] = ROAR_SCHEMA_VERSION
    roar_id: str
    request: RoarRequest
    plan_digest: Sha256
    model: ModelRecord
    explained: ModelRecord | None
    data: TrainingData
    results: tuple[RoarResult, ...]
    not_applicable: dict[str, str] = Field(default_factory=dict)
    estimate: RetrainingCost
    cost: RetrainingCost
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
