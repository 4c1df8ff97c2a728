"""What the service tells its webhooks: thin events, which say what to ask for next and hold no results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, final, get_args

from pydantic import Field

from auditcore.contracts.contract import Contract
from auditcore.contracts.report import Verdict

AuditEventType = Literal["audit.started", "audit.succeeded", "audit.failed", "audit.cancelled"]
"""Events of audits that a webhook can subscribe to. An audit whose verdict is `fail` has succeeded."""

TrainingEventType = Literal["training.started", "training.succeeded", "training.failed", "training.cancelled"]
"""Events of trainings that a webhook can subscribe to."""

ExperimentEventType = Literal["experiment.started", "experiment.succeeded", "experiment.failed", "experiment.cancelled"]
"""Events of experiments that a webhook can subscribe to. A remedy that found no better model has succeeded."""

EventType = Literal[AuditEventType, TrainingEventType, ExperimentEventType]
"""Everything that a webhook can subscribe to."""

EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)

StateOfEvent = Literal["running", "succeeded", "failed", "cancelled"]
"""States that are events."""


@final
class AuditEventLinks(Contract):
    """Paths of the service to ask next.

    Attributes:
        self: Path of the status of the audit.
        report: Path of the report; null if there is none.
    """

    self: str
    report: str | None = None


@final
class AuditEventData(Contract):
    """What happened to an audit.

    Attributes:
        audit_id: Id of the audit.
        name: Name of the audit; null if it has none.
        tags: Tags of the audit.
        state: Its state after the event.
        verdict: Verdict of its report; null if there is none.
        error_code: Stable name of the reason why it failed; null if it did not.
        links: Where to ask for more.
    """

    audit_id: str
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    state: StateOfEvent
    verdict: Verdict | None = None
    error_code: str | None = None
    links: AuditEventLinks


@final
class AuditEvent(Contract):
    """An event of an audit, as Standard Webhooks recommends its form.

    Attributes:
        type: What happened.
        data: To which audit.
    """

    type: AuditEventType
    timestamp: str = Field(description="When it happened, RFC 3339, UTC; not when it is sent.")
    data: AuditEventData


@final
class TrainingEventLinks(Contract):
    """Paths of the service to ask next.

    Attributes:
        self: Path of the status of the training.
        report: Path of the report; null if there is none.
        weights: Path of the file of weights; null if there is none.
    """

    self: str
    report: str | None = None
    weights: str | None = None


@final
class TrainingEventData(Contract):
    """What happened to a training.

    Attributes:
        training_id: Id of the training.
        name: Name of the training; null if it has none.
        tags: Tags of the training.
        state: Its state after the event.
        error_code: Stable name of the reason why it failed; null if it did not.
        links: Where to ask for more.
    """

    training_id: str
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    state: StateOfEvent
    error_code: str | None = None
    links: TrainingEventLinks


@final
class TrainingEvent(Contract):
    """An event of a training, in the same form as one of an audit.

    Attributes:
        type: What happened.
        data: To which training.
    """

    type: TrainingEventType
    timestamp: str = Field(description="When it happened, RFC 3339, UTC; not when it is sent.")
    data: TrainingEventData


@final
class ExperimentEventLinks(Contract):
    """Paths of the service to ask next.

    Attributes:
        self: Path of the status of the experiment.
        report: Path of the report; null if there is none.
        files: Path of the list of files.
    """

    self: str
    report: str | None = None
    files: str


@final
class ExperimentEventData(Contract):
    """What happened to an experiment.

    Attributes:
        experiment_id: Id of the experiment.
        name: Name of the experiment; null if it has none.
        tags: Tags of the experiment.
        state: Its state after the event.
        error_code: Stable name of the reason why it failed; null if it did not.
        links: Where to ask for more.
    """

    experiment_id: str
    name: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    state: StateOfEvent
    error_code: str | None = None
    links: ExperimentEventLinks


@final
class ExperimentEvent(Contract):
    """An event of an experiment, in the same form as one of an audit.

    Attributes:
        type: What happened.
        data: To which experiment.
    """

    type: ExperimentEventType
    timestamp: str = Field(description="When it happened, RFC 3339, UTC; not when it is sent.")
    data: ExperimentEventData


@final
class PingData(Contract):
    """What a test event says.

    Attributes:
        webhook_id: Id of the webhook that is tested.
    """

    webhook_id: str


@final
class PingEvent(Contract):
    """A test event, sent on request.

    Attributes:
        data: Which webhook is tested.
    """

    type: Literal["ping"] = "ping"
    timestamp: str = Field(description="When it was asked for, RFC 3339, UTC.")
    data: PingData


def audit_event(
    event: AuditEventType,
    audit_id: str,
    *,
    timestamp: str,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    verdict: Verdict | None = None,
    error_code: str | None = None,
) -> AuditEvent:
    """The event of an audit, with its state and its links."""
    state = _STATES[event.partition(".")[2]]
    path = f"/v1/audits/{audit_id}"
    links = AuditEventLinks(self=path, report=f"{path}/report" if state == "succeeded" else None)
    data = AuditEventData(
        audit_id=audit_id,
        name=name,
        tags=dict(tags or {}),
        state=state,
        verdict=verdict,
        error_code=error_code,
        links=links,
    )
    return AuditEvent(type=event, timestamp=timestamp, data=data)


def training_event(
    event: TrainingEventType,
    training_id: str,
    *,
    timestamp: str,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    error_code: str | None = None,
) -> TrainingEvent:
    """The event of a training, with its state and its links."""
    state = _STATES[event.partition(".")[2]]
    path = f"/v1/trainings/{training_id}"
    made = state == "succeeded"
    data = TrainingEventData(
        training_id=training_id,
        name=name,
        tags=dict(tags or {}),
        state=state,
        error_code=error_code,
        links=TrainingEventLinks(
            self=path, report=f"{path}/report" if made else None, weights=f"{path}/weights" if made else None
        ),
    )
    return TrainingEvent(type=event, timestamp=timestamp, data=data)


def experiment_event(
    event: ExperimentEventType,
    experiment_id: str,
    *,
    timestamp: str,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    error_code: str | None = None,
) -> ExperimentEvent:
    """The event of an experiment, with its state and its links."""
    state = _STATES[event.partition(".")[2]]
    path = f"/v1/experiments/{experiment_id}"
    data = ExperimentEventData(
        experiment_id=experiment_id,
        name=name,
        tags=dict(tags or {}),
        state=state,
        error_code=error_code,
        links=ExperimentEventLinks(
            self=path, report=f"{path}/report" if state == "succeeded" else None, files=f"{path}/files"
        ),
    )
    return ExperimentEvent(type=event, timestamp=timestamp, data=data)


_STATES: Mapping[str, StateOfEvent] = {
    "started": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
"""What has happened -> the state that this is."""
