"""The report of a study: every metric of every method over the seeds, compared with the baseline."""

from __future__ import annotations

from typing import Annotated, Final, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.plan import Seed
from auditcore.contracts.studies.plan import StudyRequest

STUDY_SCHEMA_VERSION: Final = "1.0"


def _missing(value: object) -> bool:
    """Left out of the JSON if null."""
    return value is None


Reason = Annotated[str | None, Field(exclude_if=_missing)]


@final
class SeedDifference(Contract):
    """How a method differs from the baseline, seed by seed.

    Attributes:
        mean: Mean over seeds of the method's value minus that of the baseline.
        ci: 95 % confidence interval of the mean, by Student's t over seeds; null below two seeds.
        p_value: Of Student's two-sided t-test, paired by seed; null below two seeds or without spread.
        n: Seeds on which both have a value.
        reason: Why a number is null.
    """

    mean: float | None
    ci: tuple[float, float] | None
    p_value: float | None
    n: int
    reason: Reason = None


@final
class StudyRow(Contract):
    """One metric of one method.

    Attributes:
        method: The method.
        check: The check of the audit; `performance` for accuracy.
        metric: The metric.
        variant: Sub-case, such as `top_15`; null if there is none.
        explainer: The explainer; null for the average over explainers, and for what no explainer changes.
        averaged: Whether the value of a seed is the average over explainers.
        control: Whether it is a control, such as random maps, and not what is compared.
        unit: Unit of the values.
        higher_is_better: Whether larger values are better; null if neither is.
        per_seed: Mean over the audited images, in the order of the seeds; null where undefined.
        images: Images behind each of these means; 0 where it is undefined.
        n: Seeds with a value.
        mean: Over these seeds; null without any.
        sem: Standard error of the mean over seeds; null below two.
        ci: 95 % confidence interval of the mean, by Student's t over seeds; null below two.
        difference: From the baseline; absent for the baseline itself.
    """

    method: Name
    check: str
    metric: str
    variant: str | None
    explainer: str | None
    averaged: bool = Field(default=False, exclude_if=lambda averaged: not averaged)
    control: bool = Field(default=False, exclude_if=lambda control: not control)
    unit: str
    higher_is_better: bool | None
    per_seed: tuple[float | None, ...]
    images: tuple[int, ...]
    n: int
    mean: float | None
    sem: float | None
    ci: tuple[float, float] | None
    difference: Annotated[SeedDifference | None, Field(exclude_if=_missing)] = None


@final
class ModelCorrelation(Contract):
    """Correlation over all trained models of robustness to random deletion with a score of deletion.

    Attributes:
        check: The deletion check.
        variant: Sub-case; null if there is none.
        metric: The score, averaged over explainers, that is correlated with `rao_auc`.
        n: Number of models, one per method and seed.
        pearson: In [-1, 1]; null below three models or where all values are equal.
        over_methods: The same over the methods' means over seeds, as in the paper's table, which has one model of each.
        reason: Why a number is null.

    Source: Won et al. 2025, table 4.
    """

    check: str
    variant: str | None
    metric: Literal["lerf_auc", "inter_model_deletion"]
    n: int
    pearson: float | None
    over_methods: float | None
    reason: Reason = None


@final
class StudiedModel(Contract):
    """One trained model.

    Attributes:
        method: The method.
        seed: The seed.
        architecture: Its architecture, which models that differ only in their weights have in common.
        weights: sha256 of its file of weights.
        training_report: sha256 of the report of its training.
        accuracy: Share of all test images whose most probable class is their label; for a multi-label model the mean
            average precision; null where undefined.
        test_images: Number of test images behind it.
        forward_images: Images that passed forward through it, in its training and for its accuracy.
        backward_images: Images that passed backward.
        seconds: Seconds of its training.
    """

    method: Name
    seed: Seed
    architecture: str | None
    weights: Sha256
    training_report: Sha256
    accuracy: float | None
    test_images: int
    forward_images: int
    backward_images: int
    seconds: float


@final
class StudyReport(Contract):
    """What methods do to predictions and explanations.

    Attributes:
        request: What was asked for, with pinned models.
        models: The trained models.
        audits: Seed -> sha256 of the audit report of its models, which also says how reliable each measure is.
        rows: Every metric.
        correlations: Of robustness to deletion with scores of deletion.
        forward_images: Images that passed forward through all models, in trainings, tests and audits.
        backward_images: Images that passed backward.
        seconds: Seconds of all trainings and audits.
        environment: Software and hardware of the last audit.
        notes: What a reader should know.
    """

    schema_version: Literal["1.0"] = STUDY_SCHEMA_VERSION
    request: StudyRequest
    models: tuple[StudiedModel, ...]
    audits: dict[int, Sha256]
    rows: tuple[StudyRow, ...]
    correlations: tuple[ModelCorrelation, ...]
    forward_images: int
    backward_images: int
    seconds: float
    environment: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
