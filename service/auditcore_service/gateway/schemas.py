"""Bodies of the HTTP interface that are not contracts of the library."""

from __future__ import annotations

from typing import Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from auditcore.contracts.contract import Sha256
from auditcore.contracts.explainers.explainer import MapKind
from auditcore.contracts.images import BatchEntry
from auditcore.contracts.metric import Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import Source
from auditcore.contracts.report import Verdict
from auditcore.costs.cost_model import Estimate

AuditStateName = Literal["queued", "running", "finalizing", "succeeded", "failed", "cancelling", "cancelled"]


class Body(BaseModel):
    """Base: immutable; unknown fields are a bug of this service."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@final
class ProgressBody(Body):
    """Shards of the audit, counted."""

    done: int
    total: int
    failed: int


@final
class ErrorBody(Body):
    """Why an audit failed."""

    code: str
    message: str
    field: str | None = Field(default=None, description="Path of the offending field in the request.")


@final
class AuditLinks(Body):
    """Where to go from here."""

    self: str
    report: str
    events: str
    cancel: str


@final
class AuditStatus(Body):
    """Where an audit stands. An audit whose verdict is `fail` has `succeeded`."""

    id: str
    state: AuditStateName
    progress: ProgressBody
    fraction: float = Field(ge=0, le=1, description="Share of the work done.")
    images: int
    estimate: Estimate | None = Field(
        default=None, description="What it was expected to cost when it was accepted; null for older audits."
    )
    verdict: Verdict | None = None
    error: ErrorBody | None = None
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None = None
    finished_at: str | None = None
    links: AuditLinks


@final
class EstimateAnswer(Body):
    """What an audit would cost."""

    estimate: Estimate
    within_budget: bool = Field(description="Whether the operator's budget lets POST /v1/audits accept it.")
    advice: str | None = Field(default=None, description="Above the budget: by how much, and what to reduce.")


@final
class AuditPage(Body):
    """Audits, newest first."""

    items: tuple[AuditStatus, ...]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last.")


@final
class ImageBatch(Body):
    """A stored batch. The same images, labels and boxes always have the same digest."""

    digest: Sha256
    images: int
    size_bytes: int
    entries: tuple[BatchEntry, ...]


@final
class CatalogueEntry(Body):
    """One explainer, check or augmentation that a plan may name."""

    kind: str
    meaning: str
    paper: str | None = None
    needs: tuple[str, ...] | None = None
    map_kind: MapKind | None = Field(
        default=None,
        description="What the sign of an explainer's maps says, which decides how checks with `rank_by: auto` order "
        "pixels; null where that depends on its parameters.",
    )
    unit: str | None = Field(default=None, description="Unit of an augmentation's values.")
    equivariant: bool | None = Field(
        default=None,
        description="Whether a good explanation moves with the image under this augmentation; null where that depends "
        "on its parameters.",
    )
    identity: float | None = Field(default=None, description="The value that leaves an image as it is.")
    bound: float | None = Field(
        default=None, description="Largest distance from `identity` that an automatic interval tries."
    )
    domain: tuple[float, float] | None = Field(default=None, description="Values that make sense at all.")
    schema_: dict[str, Any] = Field(serialization_alias="schema", description="JSON schema of its parameters.")


@final
class PresetSetting(Body):
    """One setting of a preset, and whether the paper, its authors' code or we chose it."""

    path: str = Field(description="Where it is in the plan; entries of lists by their name.")
    value: Any
    source: Source
    note: str


@final
class PresetEntry(Body):
    """A named plan, spelled out, with where its settings come from."""

    summary: str
    paper: str | None
    settings: tuple[PresetSetting, ...]
    plan: AuditPlan


@final
class Catalogue(Body):
    """Everything a plan may name, and what every number means."""

    explainers: tuple[CatalogueEntry, ...]
    checks: tuple[CatalogueEntry, ...]
    augmentations: tuple[CatalogueEntry, ...]
    presets: dict[str, PresetEntry]
    metrics: dict[str, dict[str, Metric]]


@final
class Health(Body):
    """Whether this process, or what it depends on, answers."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(default_factory=dict)


@final
class ProblemError(Body):
    """One mistake in the request."""

    pointer: str = Field(description="JSON pointer into the request body, such as `#/plan/checks/0/levels`.")
    detail: str = Field(description="What is wrong and how to mend it.")
    code: str | None = None


@final
class Problem(Body):
    """RFC 9457 problem details; every error of this service has this form."""

    type: str = Field(description="Stable name of the kind of problem, a URN.")
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: tuple[ProblemError, ...] = ()
