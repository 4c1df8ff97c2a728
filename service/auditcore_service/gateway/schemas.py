"""Bodies of the HTTP interface that are not contracts of the library."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema

from auditcore.contracts.contract import Sha256, describe_properties
from auditcore.contracts.experiments.request import ExperimentKind
from auditcore.contracts.explainers.explainer import MapKind
from auditcore.contracts.images import BatchEntry
from auditcore.contracts.metric import Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy_lint import LintFinding
from auditcore.contracts.presets import Source
from auditcore.contracts.report import Verdict
from auditcore.contracts.true_numbers import with_true_numbers
from auditcore.costs.cost_model import Estimate
from auditcore.evidence.event_log import LogEntry
from auditcore_service.webhook_events import EVENT_TYPES, EventType

AuditStateName = Literal["queued", "running", "finalizing", "succeeded", "failed", "cancelling", "cancelled"]


class Body(BaseModel):
    """Base: immutable; unknown fields are a bug of this service."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=describe_properties)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - a hook of pydantic
        """What pydantic makes of the fields, with numbers that are numbers."""
        return with_true_numbers(handler(source))


@final
class ProgressBody(Body):
    """Shards of the audit, counted.

    Attributes:
        done: Shards that are done.
        total: All shards.
        failed: Shards that failed.
    """

    done: int
    total: int
    failed: int


@final
class ErrorBody(Body):
    """Why an audit, a training or an experiment failed.

    Attributes:
        code: Stable name of the reason.
        message: What was found and how to fix it.
    """

    code: str
    message: str
    field: str | None = Field(default=None, description="Path of the offending field in the request.")


@final
class AuditLinks(Body):
    """Where to go from here.

    Attributes:
        self: Path of this status.
        report: Path of the report; 404 until there is one.
        events: Path of the stream of events.
        cancel: Path to POST to, to stop the audit.
        evidence: Path of the signed evidence; 404 until there is a report.
        page: Path of the audit in the dashboard, for people.
    """

    self: str
    report: str
    events: str
    cancel: str
    evidence: str
    page: str


@final
class WaitingBody(Body):
    """Why shards of an audit wait although workers may be free. Nothing is lost meanwhile.

    Attributes:
        reason: What was the cause: `database`, `blob_store`, `queue`, `disk` or `network` of the service, `resource` if
            it is something that the request names, such as the server of a model; `retry` after a fault or after a
            worker was lost.
        message: The same in a sentence.
        until: When the next try is due, RFC 3339, UTC.
    """

    reason: str
    message: str
    until: str


@final
class AuditStatus(Body):
    """Where an audit stands. An audit whose verdict is `fail` has `succeeded` too.

    Attributes:
        id: Id of the audit.
        state: Where it stands; `succeeded`, `failed` and `cancelled` are final.
        progress: Shards, counted.
        images: Images of the audit.
        name: What the request calls it; null without a name.
        tags: Tags of the request.
        verdict: Verdict of the report; null until there is one.
        replay_of: Id of the audit that it repeats; null if it is no replay.
        error: Why it failed; null if it did not.
        waiting_for: Why shards of it wait; null if none has to.
        started_at: When its first shard started, RFC 3339, UTC; null until then.
        finished_at: When it ended, RFC 3339, UTC; null until then.
        links: Where to go from here.
    """

    id: str
    state: AuditStateName
    progress: ProgressBody
    fraction: float = Field(ge=0, le=1, description="Share of the work done.")
    images: int
    estimate: Estimate | None = Field(
        default=None, description="What it was expected to cost when it was accepted; null for older audits."
    )
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    verdict: Verdict | None = None
    replay_of: str | None = None
    error: ErrorBody | None = None
    waiting_for: WaitingBody | None = None
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None = None
    finished_at: str | None = None
    links: AuditLinks


@final
class TrainingLinks(Body):
    """Where to go from here.

    Attributes:
        self: Path of this status.
        report: Path of the report; 404 until there is one.
        weights: Path of the file of weights; 404 until there is one.
        events: Path of the stream of events.
        cancel: Path to POST to, to stop the training.
        evidence: Path of the signed evidence; 404 until there is a report.
    """

    self: str
    report: str
    weights: str
    events: str
    cancel: str
    evidence: str


@final
class TrainingStatus(Body):
    """Where a training stands.

    Attributes:
        id: Id of the training.
        state: Where it stands; `succeeded`, `failed` and `cancelled` are final.
        progress: Shards, counted: one for the steps that are stored, one for the rest of them, one for the report.
        images: Images to train on and for validation.
        name: What the request calls it; null without a name.
        tags: Tags of the request.
        weights: Digest of the file of weights; an audit names it as `blob:` and this digest. Null until there is one.
        error: Why it failed; null if it did not.
        waiting_for: Why it waits although workers may be free; null if it does not have to.
        started_at: When its first step started, RFC 3339, UTC; null until then.
        finished_at: When it ended, RFC 3339, UTC; null until then.
        links: Where to go from here.
    """

    id: str
    state: AuditStateName
    progress: ProgressBody
    fraction: float = Field(ge=0, le=1, description="Share of the work done.")
    images: int
    estimate: Estimate = Field(description="What it was expected to cost when it was accepted.")
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    weights: Sha256 | None = None
    error: ErrorBody | None = None
    waiting_for: WaitingBody | None = None
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None = None
    finished_at: str | None = None
    links: TrainingLinks


@final
class TrainingPage(Body):
    """Trainings, newest first.

    Attributes:
        items: The trainings.
    """

    items: tuple[TrainingStatus, ...]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


@final
class ExperimentLinks(Body):
    """Where to go from here.

    Attributes:
        self: Path of this status.
        report: Path of the report; 404 until there is one.
        files: Path of the list of files.
        events: Path of the stream of events.
        cancel: Path to POST to, to stop the experiment.
    """

    self: str
    report: str
    files: str
    events: str
    cancel: str


@final
class ExperimentStatus(Body):
    """Where an experiment stands. A remedy that found no better model has `succeeded` too.

    Attributes:
        id: Id of the experiment.
        state: Where it stands; `succeeded`, `failed` and `cancelled` are final.
        plan: Kind of its plan.
        progress: Stages, counted.
        images: Images to train on, for validation and to test on.
        name: What the request calls it; null without a name.
        tags: Tags of the request.
        weights: Digest of the file of weights of a remedy; an audit names it as `blob:` and this digest. Null without.
        error: Why it failed; null if it did not.
        waiting_for: Why it waits although workers may be free; null if it does not have to.
        started_at: When its first stage started, RFC 3339, UTC; null until then.
        finished_at: When it ended, RFC 3339, UTC; null until then.
        links: Where to go from here.
    """

    id: str
    state: AuditStateName
    plan: ExperimentKind
    progress: ProgressBody
    fraction: float = Field(ge=0, le=1, description="Share of the work done.")
    images: int
    estimate: Estimate = Field(description="What it was expected to cost when it was accepted.")
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    weights: Sha256 | None = None
    error: ErrorBody | None = None
    waiting_for: WaitingBody | None = None
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None = None
    finished_at: str | None = None
    links: ExperimentLinks


@final
class ExperimentPage(Body):
    """Experiments, newest first.

    Attributes:
        items: The experiments.
    """

    items: tuple[ExperimentStatus, ...]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


@final
class ExperimentFileEntry(Body):
    """A file that an experiment has kept.

    Attributes:
        name: Its name.
        stage: Name of the stage that has kept it.
        digest: Digest of its bytes. An audit names weights as `blob:` and this digest.
        size_bytes: Their number.
        created_at: When it was kept, RFC 3339, UTC.
        href: Path of its bytes.
    """

    name: str
    stage: str
    digest: Sha256
    size_bytes: int
    created_at: str
    href: str


@final
class ExperimentFileList(Body):
    """Every file that an experiment has kept until now, by name.

    Attributes:
        items: The files.
    """

    items: tuple[ExperimentFileEntry, ...]


@final
class EstimateAnswer(Body):
    """What an audit, a training or an experiment would cost.

    Attributes:
        estimate: Passes and seconds.
    """

    estimate: Estimate
    within_budget: bool = Field(
        description="Whether the operator's budget, and what is left of the tenant's passes of today, let POST "
        "/v1/audits, or POST /v1/trainings, accept it."
    )
    advice: str | None = Field(default=None, description="If not: by how much it is above, and what to reduce.")


@final
class LimitUsage(Body):
    """One limit of a tenant, and what is used of it.

    Attributes:
        limit: The limit in force; null for no limit.
        used: What is used of it; null for requests without a limit, which are not counted.
        resets_at: When counting begins at 0 again; null for what is used until it ends or is deleted.
    """

    limit: int | None
    used: int | None
    resets_at: str | None = Field(default=None, description="RFC 3339, UTC.")


@final
class Usage(Body):
    """What a tenant may use, and what it uses.

    Attributes:
        tenant: The tenant of the credentials.
        requests_per_minute: Requests, this one included.
        running_audits: Audits, trainings and experiments that wait or run.
        passes_per_day: Forward passes, as estimated, of the audits, trainings and experiments submitted today (UTC).
        stored_bytes: Bytes of image batches and maps.
    """

    tenant: str
    requests_per_minute: LimitUsage
    running_audits: LimitUsage
    passes_per_day: LimitUsage
    stored_bytes: LimitUsage


@final
class AuditPage(Body):
    """Audits, newest first.

    Attributes:
        items: The audits.
    """

    items: tuple[AuditStatus, ...]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


@final
class ImageBatch(Body):
    """A stored batch. The same images, labels and boxes always have the same digest.

    Attributes:
        digest: Digest that a request names.
        images: Number of images.
        size_bytes: Size of all files.
        entries: The images, in order.
        class_names: Names of the model's classes, if they were sent or labels came from folders.
        passed_over: Names of uploaded files that are no images and are not part of the batch; only in the answer to the
            upload.
    """

    digest: Sha256
    images: int
    size_bytes: int
    entries: tuple[BatchEntry, ...]
    class_names: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)
    passed_over: tuple[str, ...] = Field(default=(), exclude_if=lambda names: not names)


@final
class PolicyLinks(Body):
    """Where to go from here.

    Attributes:
        self: Path of the document by its digest.
        named: Path of the same document by its name and version.
    """

    self: str
    named: str


@final
class PolicySummary(Body):
    """A policy that requests may name.

    Attributes:
        name: Its name.
        version: Its version.
        digest: sha256 of its canonical JSON.
        description: What it is for.
        conditions: Number of conditions.
        shipped: Whether it comes with auditcore.
        created_at: When it was stored, RFC 3339, UTC; null for a policy that comes with auditcore.
        links: Where to go from here.
    """

    name: str
    version: str
    digest: Sha256
    description: str
    conditions: int
    shipped: bool
    created_at: str | None
    links: PolicyLinks


@final
class PostedPolicy(Body):
    """A policy that is stored now, and what to think of before it is used.

    Attributes:
        policy: The policy.
    """

    policy: PolicySummary
    findings: tuple[LintFinding, ...] = Field(
        description="What the policy lets pass that it probably should not; it is stored anyway."
    )


@final
class PolicyPage(Body):
    """Policies, newest first; those that come with auditcore are last.

    Attributes:
        items: The policies.
    """

    items: tuple[PolicySummary, ...]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


@final
class WebhookRequest(Body):
    """Where to tell what.

    Attributes:
        events: The events that are wanted.
        description: What the webhook is for.
    """

    url: str = Field(
        max_length=2048, description="Where events are posted: `https:`, at a public address, without credentials."
    )
    events: Annotated[tuple[EventType, ...], Field(min_length=1, max_length=len(EVENT_TYPES))]
    description: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)] = ""


@final
class WebhookLinks(Body):
    """Where to go from here.

    Attributes:
        self: Path of the webhook.
        deliveries: Path of what was sent to it.
        ping: Path to POST to, to get a test event.
        rotate: Path to POST to, to get a new secret.
    """

    self: str
    deliveries: str
    ping: str
    rotate: str


@final
class WebhookEntry(Body):
    """A webhook, without its secret.

    Attributes:
        id: Its id.
        url: Where events are posted.
        events: The events that it gets.
        description: What it is for.
        disabled_reason: Why the service stopped to send to it; null if it sends.
        disabled_at: When the service stopped, RFC 3339, UTC; null if it sends.
        failing_since: First failure since the last event arrived, RFC 3339, UTC; null if the last attempt arrived.
        links: Where to go from here.
    """

    id: str
    url: str
    events: tuple[EventType, ...]
    description: str
    created_at: str = Field(description="RFC 3339, UTC.")
    failing_since: str | None = None
    disabled_at: str | None = None
    disabled_reason: str | None = None
    links: WebhookLinks


@final
class WebhookSecret(Body):
    """A webhook with its new secret. No other answer shows the secret.

    Attributes:
        webhook: The webhook.
        secret: Verifies what is sent to it: `whsec_` and base64. Keep it like a password.
        previous_until: Until when the secret before signs too, RFC 3339, UTC; null if there is none.
    """

    webhook: WebhookEntry
    secret: str
    previous_until: str | None = None


@final
class WebhookList(Body):
    """All webhooks, newest first.

    Attributes:
        items: The webhooks.
    """

    items: tuple[WebhookEntry, ...]


@final
class DeliveryEntry(Body):
    """One event for one webhook, and what came of it.

    Attributes:
        id: The header `webhook-id` of every attempt.
        event: Type of the event.
        audit_id: Id of the audit that it is about; null if it is about none.
        training_id: Id of the training that it is about; null if it is about none.
        experiment_id: Id of the experiment that it is about; null if it is about none.
        attempts: How often it was sent.
        status: HTTP status of the last answer; null if there was none.
        error: Why the last attempt failed; null if it did not.
        created_at: When the event happened, RFC 3339, UTC.
        attempted_at: When it was last sent, RFC 3339, UTC; null if never.
        next_attempt_at: When it is sent next, RFC 3339, UTC; null if never.
    """

    id: str
    event: EventType | Literal["ping"]
    audit_id: str | None = None
    training_id: str | None = None
    experiment_id: str | None = None
    state: Literal["pending", "delivered", "failed", "cancelled"] = Field(
        description="`failed`: no attempt is left. `cancelled`: the webhook was disabled before it arrived."
    )
    attempts: int
    status: int | None = None
    error: str | None = None
    created_at: str
    attempted_at: str | None = None
    next_attempt_at: str | None = None


@final
class DeliveryPage(Body):
    """Deliveries, newest first.

    Attributes:
        items: The deliveries.
    """

    items: tuple[DeliveryEntry, ...]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


@final
class CatalogueEntry(Body):
    """One explainer, check or augmentation that a plan may name.

    Attributes:
        kind: Value of `kind` in a plan.
        meaning: What it does, in one sentence.
        paper: Key of the paper that defines it; null if none does.
        needs: What it needs of a model: gradients, layers and so on; null for checks and augmentations.
    """

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
    domain: tuple[float, float] | None = Field(default=None, description="Values that are possible.")
    schema_: dict[str, Any] = Field(alias="schema", description="JSON schema of its parameters.")


@final
class PresetSetting(Body):
    """One setting of a preset, and who chose it: the paper, its authors' code, or auditcore.

    Attributes:
        value: Its value in the preset.
        source: Who chose it.
        note: Where the source says so, or why we chose it.
    """

    path: str = Field(description="Path in the plan; entries of lists are given by name.")
    value: Any
    source: Source
    note: str


@final
class PresetEntry(Body):
    """A named plan in full, with the sources of its settings.

    Attributes:
        summary: What it is for, in one sentence.
        paper: Key of the paper that it follows; null if none.
        settings: Settings that say where they come from.
        plan: The plan that it stands for, without a seed of its own.
    """

    summary: str
    paper: str | None
    settings: tuple[PresetSetting, ...]
    plan: AuditPlan


@final
class Catalogue(Body):
    """Everything a plan may name, and what every number means.

    Attributes:
        explainers: Every explainer that a plan may name.
        checks: Every check that a plan may name.
        augmentations: Every augmentation that a check may use.
        presets: Every preset, by its name.
        metrics: Kind of a check -> name of a metric -> what it means.
    """

    explainers: tuple[CatalogueEntry, ...]
    checks: tuple[CatalogueEntry, ...]
    augmentations: tuple[CatalogueEntry, ...]
    presets: dict[str, PresetEntry]
    metrics: dict[str, dict[str, Metric]]


@final
class KeyEntry(Body):
    """A public key of this deployment.

    Attributes:
        key_id: Its id, which a signature names: sha256 of its type and value in canonical JSON.
        public_key: The Ed25519 key in PEM.
        active: Whether the gateway that answers signs with it. Others verify what was signed before.
        first_used_at: When a gateway first started with it, RFC 3339, UTC.
    """

    key_id: str
    public_key: str
    active: bool
    first_used_at: str


@final
class KeyList(Body):
    """Every public key that this deployment ever signed with, newest first; empty if it signs nothing.

    Attributes:
        items: The keys.
    """

    items: tuple[KeyEntry, ...]


@final
class SignOffRequest(Body):
    """What a person decides about a report.

    Attributes:
        decision: Whether the report is approved or rejected.
        comment: Reason or conditions of the decision.
    """

    principal: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=255)] | None = Field(
        default=None,
        description="Who decides: a name or an address. A service without authentication needs it, and takes it as it "
        "is sent; one with authentication knows it, and refuses another name.",
    )
    decision: Literal["approve", "reject"]
    comment: str = Field(default="", max_length=10_000)


@final
class SignOff(Body):
    """A decision about a report, as the event log has it.

    Attributes:
        sequence: Number of its entry in the event log.
        time: When it was logged, RFC 3339, UTC.
        principal: Who decided.
        decision: Whether the report is approved or rejected.
        comment: Reason or conditions of the decision.
        report: Digest of the report.
    """

    sequence: int
    time: str
    principal: str | None
    decision: Literal["approve", "reject"]
    comment: str
    report: Sha256


@final
class SignOffList(Body):
    """Every sign-off of an audit, oldest first.

    Attributes:
        items: The sign-offs.
    """

    items: tuple[SignOff, ...]


@final
class LogPage(Body):
    """Entries of the event log, oldest first.

    Attributes:
        items: The entries.
    """

    items: tuple[LogEntry, ...]
    next_after: int | None = Field(description="Send it as `after` for the next page; null on the last.")


@final
class Health(Body):
    """Whether this process, or what it depends on, answers.

    Attributes:
        status: `ok` if everything answers.
        checks: Dependency -> `ok`; empty where none is asked.
    """

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(default_factory=dict)


@final
class ProblemError(Body):
    """One mistake in the request.

    Attributes:
        code: Stable name of the mistake; null if it has none.
    """

    pointer: str = Field(description="JSON pointer into the request body, such as `#/plan/checks/0/levels`.")
    detail: str = Field(description="What was found and how to fix it.")
    code: str | None = None


@final
class Problem(Body):
    """RFC 9457 problem details; every error of this service has this form.

    Attributes:
        title: Phrase of the HTTP status.
        status: HTTP status.
        detail: What was found and how to fix it.
        code: Stable name of the problem, the end of `type`.
        instance: Path of the request; null if unknown.
        errors: Every mistake that was found in the request.
    """

    type: str = Field(description="Stable name of the kind of problem, a URN.")
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: tuple[ProblemError, ...] = ()
