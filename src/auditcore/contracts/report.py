"""The audit report: strict JSON, every number with its meaning, every gap with its reason."""

from __future__ import annotations

from typing import Any, Final, Literal, final

from pydantic import Field

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.models import ModelReference, Preprocessing
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Cost

SCHEMA_VERSION: Final = "1.0"

Verdict = Literal["pass", "warn", "fail", "inconclusive", "not_evaluated"]


@final
class ReportStatistics(Contract):
    """How many conditions of the policy were met."""

    evaluated: int
    passed: int
    warned: int
    failed: int
    not_applicable: int


@final
class ReportModel(Contract):
    """The model under audit, as asked for and as loaded."""

    reference: ModelReference
    digest: Sha256
    classes: int
    parameters: int
    trained: bool = Field(description="False for `random:` weights: such a report shows mechanisms, not a model.")
    preprocessing: Preprocessing


@final
class ExcludedImage(Contract):
    """An image left out, and why."""

    index: int
    name: str | None
    digest: Sha256 | None
    code: str
    reason: str


@final
class UsedImage(Contract):
    """An image that was audited; `per_image` lists follow this order."""

    index: int
    name: str | None
    digest: Sha256
    label: int | None
    target: int
    probability: float


@final
class ReportImages(Contract):
    """The image batch. `digest` is the sha256 over the digests of all images, in order."""

    count: int
    used: int
    pictured: int = Field(default=0, description="Images whose pictures are listed under `artifacts`.")
    excluded: tuple[ExcludedImage, ...]
    digest: Sha256
    items: tuple[UsedImage, ...]


@final
class Curve(Contract):
    """Mean curve over images; `lo` and `hi` bound its pointwise 95 % confidence interval."""

    x: tuple[float, ...]
    mean: tuple[float | None, ...]
    lo: tuple[float | None, ...]
    hi: tuple[float | None, ...]


@final
class Result(Contract):
    """One metric of one explainer under one check, over all images.

    Attributes:
        explainer: null for a property of model and image alone.
        variant: Sub-case, such as `rotate` or `top_15`.
        std: Sample standard deviation; null below two values.
        sem: Standard error of the mean; null below two values.
        ci: 95 % bootstrap confidence interval of the mean; null below two values.
        per_image: Values in the order of `images.items`; null where undefined.
        reasons: Image index -> why its value is null.
    """

    check: str
    explainer: str | None
    metric: str
    variant: str | None
    unit: str
    higher_is_better: bool | None
    n: int
    n_not_applicable: int
    mean: float | None
    std: float | None
    sem: float | None
    ci: tuple[float, float] | None
    per_image: tuple[float | None, ...]
    reasons: dict[int, str]
    curve: Curve | None = None


@final
class ConditionOutcome(Contract):
    """What became of one condition of the policy. Passing ones are listed too."""

    id: str
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    statistic: Literal["mean"]
    comparison: Literal["at_least", "at_most"]
    threshold: float
    observed: float | None
    ci: tuple[float, float] | None
    status: Literal["passed", "warned", "failed", "not_applicable"]
    message: str


@final
class CalibratedInterval(Contract):
    """What `interval: auto` came to."""

    check: str
    family: str
    interval: tuple[float, float]
    reached: bool = Field(description="False when the whole bound never lowered the mean probability by 10 %.")
    message: str


@final
class Manifest(Contract):
    """What is needed to repeat the audit."""

    auditcore_version: str
    seed: int
    preset: str | None
    request_digest: Sha256
    plan_digest: Sha256
    environment: dict[str, str]
    shards: int
    attempts: int
    started_at: str | None = None
    finished_at: str | None = None


@final
class AuditReport(Contract):
    """Result of one audit. A verdict of `fail` is a finished audit, not a broken one."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    audit_id: str
    verdict: Verdict
    statistics: ReportStatistics
    model: ReportModel
    images: ReportImages
    plan: AuditPlan
    intervals: tuple[CalibratedInterval, ...]
    not_applicable: dict[str, str] = Field(description="Explainer -> why it could not run on this model.")
    results: tuple[Result, ...]
    conditions: tuple[ConditionOutcome, ...]
    controls: tuple[Result, ...]
    artifacts: tuple[Artifact, ...] = Field(
        default=(), description="Photos and maps of the first images, in the order of images and explainers."
    )
    cost: Cost
    manifest: Manifest


def report_schema() -> dict[str, Any]:
    """JSON Schema of the report, as committed under `openapi/`."""
    return AuditReport.model_json_schema(mode="serialization")
