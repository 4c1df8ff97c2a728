"""What can be asked of a service: each function returns a request and how its answer is read. Nothing is sent here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Generic, Literal, TypeVar, final
from urllib.parse import quote

from pydantic import BaseModel

from auditcore.client import answers
from auditcore.client.uploads import Form, NamedImage
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.contracts.report import AuditReport, Verdict
from auditcore.contracts.training.report import TrainingReport
from auditcore.report.reading import read_report

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Jobs = Literal["audits", "trainings", "experiments"]
"""What a service does; also a part of its paths."""

ReportForm = Literal["json", "html", "junit", "markdown", "ml-bom", "model-index"]
"""The forms in which a service renders a report."""

MEDIA_TYPES: Mapping[ReportForm, str] = {
    "json": "application/json",
    "html": "text/html",
    "junit": "application/junit+xml",
    "markdown": "text/markdown",
    "ml-bom": "application/vnd.cyclonedx+json",
    "model-index": "application/yaml",
}

Document = BaseModel | Mapping[str, object]
"""A request: a contract, or the JSON of one, which is sent as it is and checked by the service."""


@final
@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    Attributes:
        method: Of HTTP.
        path: Path at the service, without query.
        read: Makes the value of a call from the body of its answer; raises ValueError if the body is something else.
        query: Names and values of the query.
        body: Document to send as JSON; None without one.
        form: Form to send; None without one.
        headers: Further headers.
        repeatable: Whether doing it twice is the same as doing it once.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    read: Callable[[bytes], T] = field(repr=False)
    query: tuple[tuple[str, str], ...] = ()
    body: str | None = field(default=None, repr=False)
    form: Form | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


def upload_images(form: Form) -> Call[answers.ImageBatch]:
    """Store images. May be repeated: a batch is addressed by its content."""
    return Call("POST", "/v1/image-batches", answers.ImageBatch.model_validate_json, form=form)


def upload_maps(file: Path | bytes) -> Call[answers.StoredMaps]:
    """Store a file of heat maps. May be repeated: it is addressed by its content."""
    name = file.name if isinstance(file, Path) else "maps.safetensors"
    form = Form(files=(("maps", NamedImage(name, file)),))
    return Call("POST", "/v1/maps", answers.StoredMaps.model_validate_json, form=form)


def submit(jobs: Jobs, request: Document, kind: type[M], *, idempotency_key: str | None) -> Call[M]:
    """Submit a job. May be repeated: with the same key, the service starts it only once.

    Args:
        jobs: What it is for.
        request: The request.
        kind: What the answer is.
        idempotency_key: 1 to 255 printable characters of ASCII; a new one if None.
    """
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Call("POST", f"/v1/{jobs}", kind.model_validate_json, body=json_of(request), headers=headers)


def status(jobs: Jobs, job_id: str, kind: type[M]) -> Call[M]:
    """Where a job stands."""
    return Call("GET", _job(jobs, job_id), kind.model_validate_json)


def cancel(job_id: str) -> Call[answers.AuditStatus]:
    """Ask an audit to stop. May be repeated: one that has ended stays as it is."""
    return Call("POST", f"{_job('audits', job_id)}/cancel", answers.AuditStatus.model_validate_json)


def delete(job_id: str) -> Call[None]:
    """Delete an audit that has ended. Not repeated: the second answer would be that it is gone."""
    return Call("DELETE", _job("audits", job_id), _nothing, repeatable=False)


def audit_page(
    cursor: str | None,
    *,
    limit: int,
    state: answers.JobState | None,
    verdict: Verdict | None,
    name: str | None,
    tags: Mapping[str, str] | None,
    model: str | None,
    created_after: datetime | None,
    created_before: datetime | None,
) -> Call[answers.AuditPage]:
    """One page of audits. Arguments that are None do not filter."""
    given = {
        "state": state,
        "verdict": verdict,
        "name": name,
        "model": model,
        "created_after": None if created_after is None else created_after.isoformat(),
        "created_before": None if created_before is None else created_before.isoformat(),
        "cursor": cursor,
        "limit": str(limit),
    }
    query = tuple((key, value) for key, value in given.items() if value is not None)
    wanted = tuple(("tag", f"{key}:{value}") for key, value in (tags or {}).items())
    return Call("GET", "/v1/audits", answers.AuditPage.model_validate_json, query=(*query, *wanted))


def report(audit_id: str) -> Call[AuditReport]:
    """The report of an audit, of this or an earlier schema version."""
    return Call("GET", f"{_job('audits', audit_id)}/report", read_report, headers={"Accept": MEDIA_TYPES["json"]})


def report_as(audit_id: str, form: ReportForm) -> Call[bytes]:
    """A report in one of its forms."""
    return Call("GET", f"{_job('audits', audit_id)}/report", bytes, headers={"Accept": MEDIA_TYPES[form]})


def training_report(training_id: str) -> Call[TrainingReport]:
    """The report of a training."""
    return Call("GET", f"{_job('trainings', training_id)}/report", TrainingReport.model_validate_json)


def content(path: str) -> Call[bytes]:
    """The bytes below a path."""
    return Call("GET", path, bytes)


def file_of(jobs: Jobs, job_id: str, *names: str) -> Call[bytes]:
    """The bytes of something that belongs to a job.

    Args:
        jobs: What the job is.
        job_id: Its id.
        *names: Parts of the path below it; a part may have slashes.
    """
    return content("/".join((_job(jobs, job_id), *(quote(name, safe="/:") for name in names))))


def experiment_files(experiment_id: str) -> Call[answers.ExperimentFileList]:
    """The files that an experiment has kept."""
    path = f"{_job('experiments', experiment_id)}/files"
    return Call("GET", path, answers.ExperimentFileList.model_validate_json)


def estimate(request: Document) -> Call[answers.EstimateAnswer]:
    """What an audit would cost. Stores nothing, so it may be repeated."""
    return Call("POST", "/v1/estimates", answers.EstimateAnswer.model_validate_json, body=json_of(request))


def inspect(request: InspectionRequest | Mapping[str, object]) -> Call[Inspection]:
    """What will run on a model. Audits nothing, so it may be repeated."""
    return Call("POST", "/v1/models:inspect", Inspection.model_validate_json, body=json_of(request))


def catalogue() -> Call[answers.Catalogue]:
    """Everything a plan may name."""
    return Call("GET", "/v1/catalogue", answers.Catalogue.model_validate_json)


def policy_page(cursor: str | None, *, limit: int) -> Call[answers.PolicyPage]:
    """One page of policies."""
    query = (("limit", str(limit)), *(() if cursor is None else (("cursor", cursor),)))
    return Call("GET", "/v1/policies", answers.PolicyPage.model_validate_json, query=query)


def policy(reference: str) -> Call[PolicyDocument]:
    """A policy, by its digest or as `name@version`."""
    return Call("GET", f"/v1/policies/{quote(reference, safe='@:')}", PolicyDocument.model_validate_json)


def log_page(after: int, *, limit: int) -> Call[answers.LogPage]:
    """Entries of the event log."""
    query = (("after", str(after)), ("limit", str(limit)))
    return Call("GET", "/v1/log", answers.LogPage.model_validate_json, query=query)


def events_path(audit_id: str) -> str:
    """Path of the stream of events of an audit."""
    return f"{_job('audits', audit_id)}/events"


def json_of(request: Document) -> str:
    """A request as JSON."""
    if isinstance(request, BaseModel):
        return request.model_dump_json()
    return json.dumps(request, separators=(",", ":"))


def _job(jobs: Jobs, job_id: str) -> str:
    return f"/v1/{jobs}/{quote(job_id, safe='')}"


def _nothing(_body: bytes) -> None:
    return None
