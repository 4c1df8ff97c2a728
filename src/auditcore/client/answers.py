"""What the service answers, as records with types. A field that this version does not know is left out.

Requests, plans, policies and reports are the contracts of `auditcore`; these are the answers around them. The gateway
has closed records of the same names, from which its OpenAPI document is made; a test compares their fields.
"""

from __future__ import annotations

from typing import Literal, final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from auditcore.contracts.contract import Sha256
from auditcore.contracts.images import BatchEntry
from auditcore.contracts.metric import Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import Source
from auditcore.contracts.report import Verdict
from auditcore.costs.cost_model import Estimate
from auditcore.evidence.event_log import LogEntry

JobState = Literal["queued", "running", "finalizing", "succeeded", "failed", "cancelling", "cancelled"]

FINAL_STATES = frozenset[JobState]({"succeeded", "failed", "cancelled"})
"""States in which a job has ended."""


class Answer(BaseModel):
    """Base: immutable; open for fields of a newer service."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@final
class Progress(Answer):
    """Shards of a job, counted.

    Attributes:
        done: Those that are done.
        total: All.
        failed: Those that failed.
    """

    done: int
    total: int
    failed: int


@final
class Failure(Answer):
    """Why a job failed.

    Attributes:
        code: Stable name of the reason.
        message: What was found and how to fix it.
        field: Path of the field of the request that is the cause; None if there is none.
    """

    code: str
    message: str
    field: str | None = None


@final
class Waiting(Answer):
    """Why shards of a job wait although workers may be free.

    Attributes:
        reason: The cause in one word.
        message: The same in a sentence.
        until: When the next try is due.
    """

    reason: str
    message: str
    until: AwareDatetime


class JobStatus(Answer):
    """What audits, trainings and experiments have in common.

    Attributes:
        id: Id of the job.
        state: Where it stands; `succeeded`, `failed` and `cancelled` are final.
        progress: Shards, counted.
        fraction: Share of the work done, in [0, 1].
        images: Number of its images.
        name: What the request calls it; None without a name.
        tags: Tags of the request.
        error: Why it failed; None if it did not.
        waiting_for: Why shards of it wait; None if none has to.
        created_at: When it was submitted.
        started_at: When its first shard started; None until then.
        finished_at: When it ended; None until then.
        links: Name of a relation -> path at the service.
    """

    id: str
    state: JobState
    progress: Progress
    fraction: float = Field(ge=0, le=1)
    images: int
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    error: Failure | None = None
    waiting_for: Waiting | None = None
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    links: dict[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL_STATES


@final
class AuditStatus(JobStatus):
    """Where an audit stands. An audit whose verdict is `fail` has `succeeded` too.

    Attributes:
        estimate: What it was expected to cost; None for older audits.
        verdict: Verdict of the report; None until there is one.
        replay_of: Id of the audit that it repeats; None if it is no replay.
    """

    estimate: Estimate | None = None
    verdict: Verdict | None = None
    replay_of: str | None = None


@final
class TrainingStatus(JobStatus):
    """Where a training stands.

    Attributes:
        estimate: What it was expected to cost.
        weights: Digest of the file of weights; None until there is one.
    """

    estimate: Estimate
    weights: Sha256 | None = None


@final
class ExperimentStatus(JobStatus):
    """Where an experiment stands.

    Attributes:
        estimate: What it was expected to cost.
        plan: Kind of its plan.
        weights: Digest of the file of weights of a remedy; None without one.
    """

    estimate: Estimate
    plan: str
    weights: Sha256 | None = None


@final
class AuditPage(Answer):
    """Audits, newest first.

    Attributes:
        items: The audits.
        next_cursor: What to send for the next page; None on the last.
    """

    items: tuple[AuditStatus, ...]
    next_cursor: str | None


@final
class AuditEvent(Answer):
    """One step of an audit.

    Attributes:
        id: Its number; later events have larger ones.
        kind: What happened, such as `state` or `progress`.
        state: Where the audit stands since then.
        progress: Shards, counted.
        fraction: Share of the work done, in [0, 1].
        verdict: Verdict of the report; None until there is one.
        error: Why the audit failed; None if it did not.
    """

    id: int
    kind: str
    state: JobState
    progress: Progress
    fraction: float
    verdict: Verdict | None = None
    error: Failure | None = None


@final
class ImageBatch(Answer):
    """A stored batch. The same images, labels and boxes always have the same digest.

    Attributes:
        digest: Digest that a request names.
        images: Number of images.
        size_bytes: Size of all files.
        entries: The images, in order.
        class_names: Names of the model's classes; empty if none were sent.
        passed_over: Names of uploaded files that are no images.
    """

    digest: Sha256
    images: int
    size_bytes: int
    entries: tuple[BatchEntry, ...]
    class_names: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


@final
class StoredMaps(Answer):
    """A stored file of heat maps.

    Attributes:
        digest: Digest that a plan names.
    """

    digest: Sha256


@final
class EstimateAnswer(Answer):
    """What an audit would cost.

    Attributes:
        estimate: Passes and seconds.
        within_budget: Whether the service would accept it.
        advice: If not: by how much it is above, and what to reduce.
    """

    estimate: Estimate
    within_budget: bool
    advice: str | None = None


@final
class CatalogueEntry(Answer):
    """One explainer, check or augmentation that a plan may name.

    Attributes:
        kind: Value of `kind` in a plan.
        meaning: What it does, in one sentence.
        paper: Key of the paper that defines it; None if none does.
        needs: What it needs of a model; None for checks and augmentations.
        map_kind: What the sign of an explainer's maps says; None where that depends on its parameters.
        unit: Unit of an augmentation's values.
        equivariant: Whether a good explanation moves with the image under this augmentation.
        identity: The value that leaves an image as it is.
        bound: Largest distance from `identity` that an automatic interval tries.
        domain: Values that are possible.
        parameters: JSON schema of its parameters; `schema` in the JSON.
    """

    kind: str
    meaning: str
    paper: str | None = None
    needs: tuple[str, ...] | None = None
    map_kind: str | None = None
    unit: str | None = None
    equivariant: bool | None = None
    identity: float | None = None
    bound: float | None = None
    domain: tuple[float, float] | None = None
    parameters: dict[str, JsonValue] = Field(alias="schema")


@final
class PresetSetting(Answer):
    """One setting of a preset, and who chose it.

    Attributes:
        path: Path in the plan.
        value: Its value in the preset.
        source: Who chose it: the paper, its authors' code, or auditcore.
        note: Where the source says so, or why it was chosen.
    """

    path: str
    value: JsonValue
    source: Source
    note: str


@final
class PresetEntry(Answer):
    """A named plan in full.

    Attributes:
        summary: What it is for, in one sentence.
        paper: Key of the paper that it follows; None if none.
        settings: Settings that say where they come from.
        plan: The plan that it stands for.
    """

    summary: str
    paper: str | None
    settings: tuple[PresetSetting, ...]
    plan: AuditPlan


@final
class Catalogue(Answer):
    """Everything a plan may name, and what every number means.

    Attributes:
        explainers: Every explainer.
        checks: Every check.
        augmentations: Every augmentation.
        presets: Every preset, by its name.
        metrics: Kind of a check -> name of a metric -> what it means.
    """

    explainers: tuple[CatalogueEntry, ...]
    checks: tuple[CatalogueEntry, ...]
    augmentations: tuple[CatalogueEntry, ...]
    presets: dict[str, PresetEntry]
    metrics: dict[str, dict[str, Metric]]


@final
class PolicySummary(Answer):
    """A policy that requests may name.

    Attributes:
        name: Its name.
        version: Its version.
        digest: sha256 of its canonical JSON.
        description: What it is for.
        conditions: Number of conditions.
        shipped: Whether it comes with auditcore.
        created_at: When it was stored; None for a policy that comes with auditcore.
        links: Name of a relation -> path at the service.
    """

    name: str
    version: str
    digest: Sha256
    description: str
    conditions: int
    shipped: bool
    created_at: AwareDatetime | None
    links: dict[str, str]


@final
class PolicyPage(Answer):
    """Policies, newest first.

    Attributes:
        items: The policies.
        next_cursor: What to send for the next page; None on the last.
    """

    items: tuple[PolicySummary, ...]
    next_cursor: str | None


@final
class ExperimentFileEntry(Answer):
    """A file that an experiment has kept.

    Attributes:
        name: Its name.
        digest: Digest of its bytes.
    """

    name: str
    digest: Sha256


@final
class ExperimentFileList(Answer):
    """Every file that an experiment has kept until now, by name.

    Attributes:
        items: The files.
    """

    items: tuple[ExperimentFileEntry, ...]


@final
class LogPage(Answer):
    """Entries of the event log, oldest first.

    Attributes:
        items: The entries.
        next_after: What to send as `after` for the next page; None on the last.
    """

    items: tuple[LogEntry, ...]
    next_after: int | None


@final
class Problem(Answer):
    """RFC 9457 problem details, as every refusal of the service has them.

    Attributes:
        title: Phrase of the HTTP status.
        detail: What was found and how to fix it.
        code: Stable name of the problem.
        errors: Every mistake that was found in the request.
    """

    title: str
    detail: str
    code: str
    errors: tuple[ProblemError, ...] = ()


@final
class ProblemError(Answer):
    """One mistake in a request.

    Attributes:
        pointer: JSON pointer into the body of the request.
        detail: What was found and how to fix it.
        code: Stable name of the mistake; None if it has none.
    """

    pointer: str
    detail: str
    code: str | None = None
