"""The report of a remedy: what was tried, what it did, what it cost, and the verdict before and after."""

from __future__ import annotations

from typing import Annotated, Final, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.report import ConditionOutcome, Verdict
from auditcore.contracts.training.plan import TrainingPlan

REMEDY_SCHEMA_VERSION: Final = "1.0"

Outcome = Literal["remedied", "improved", "no_improvement", "no_candidate"]
"""`remedied`: the verdict is pass. `improved`: the failed metric is better, with an interval of the paired change that
leaves out 0, and the verdict is not pass. `no_improvement`: it is not. `no_candidate`: nothing that was tried kept the
accuracy, so nothing was audited again."""


@final
class RemediedCondition(Contract):
    """The condition that was to be remedied.

    Attributes:
        id: Its id.
        check: The check.
        explainer: The explainer, with which the model was trained.
        metric: The metric.
        variant: Sub-case; null if there is none.
        higher_is_better: Direction of the metric.
    """

    id: str
    check: Name
    explainer: Name
    metric: str
    variant: str | None
    higher_is_better: bool


@final
class Candidate(Contract):
    """One learning rate and number of epochs that was tried.

    Attributes:
        learning_rate: Of Adam.
        epochs: Number of epochs.
        validation_score: Score on the validation images after them; null where undefined.
        value: Mean of the failed metric on validation images; null where undefined.
        kept_accuracy: Whether the loss of the score is within `accuracy_guard`.
        chosen: Whether it was taken.
        reason: Why it could not be taken; null if it could.
    """

    learning_rate: float
    epochs: int
    validation_score: float | None
    value: float | None
    kept_accuracy: bool
    chosen: bool = False
    reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)


@final
class ConditionChange(Contract):
    """One condition of the policy before and after.

    Attributes:
        before: Its outcome for the model that failed.
        after: Its outcome for the trained model.
    """

    before: ConditionOutcome
    after: ConditionOutcome


@final
class MetricChange(Contract):
    """How one metric has changed, over images that have a value of both models.

    Attributes:
        check: The check.
        explainer: The explainer; null for what no explainer changes.
        metric: The metric.
        variant: Sub-case, such as `top_15`; null if there is none.
        before: Mean before.
        after: Mean after.
        improvement: Mean of the differences paired by image; positive if the trained model is better.
        ci: 95 % confidence interval of it; null if there is none.
        n: Images with both values.
    """

    check: str
    explainer: str | None
    metric: str
    variant: str | None
    before: float | None
    after: float | None
    improvement: float | None
    ci: tuple[float, float] | None
    n: int


@final
class RemedyReport(Contract):
    """A remedy, from the failed condition to both audits.

    Attributes:
        request: What was asked for.
        failed_report: sha256 of the report that failed.
        condition: What was to be remedied.
        outcome: What came of it.
        summary: The same in one sentence.
        start_score: Score of the audited model on the validation images.
        start_value: Its mean of the failed metric there.
        candidates: What was tried.
        plan: The training of the chosen candidate; null if none was chosen.
        training_report: sha256 of its training report.
        model: The trained model, as `model` of an audit. The audited model stays as it is.
        verdict_before: Verdict of the failed report.
        verdict_after: Verdict of the trained model on the same images, plan and policy.
        audit_report: sha256 of that report.
        conditions: Every condition before and after.
        changes: Every metric that has a better direction, before and after, paired by image.
        accuracy_before: Share of the audit's labeled images that were right; null without labels.
        accuracy_after: The same after.
        forward_images: Images that passed forward through all models, in trainings, validation and the audit.
        backward_images: Images that passed backward.
        seconds: Seconds of all trainings and of the audit.
        notes: What a reader should know.
    """

    schema_version: Literal["1.0"] = REMEDY_SCHEMA_VERSION
    request: RemedyRequest
    failed_report: Sha256
    condition: RemediedCondition
    outcome: Outcome
    summary: str
    start_score: float | None
    start_value: float | None
    candidates: tuple[Candidate, ...]
    plan: TrainingPlan | None
    training_report: Sha256 | None
    model: ModelReference | None
    verdict_before: Verdict
    verdict_after: Verdict | None
    audit_report: Sha256 | None
    conditions: tuple[ConditionChange, ...] = ()
    changes: tuple[MetricChange, ...] = ()
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    forward_images: int
    backward_images: int
    seconds: float
    notes: Annotated[tuple[str, ...], Field(description="What a reader should know.")] = ()
