"""Verify the evidence of an audit offline: signatures, the report, and every claim that follows from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, final

from auditcore.contracts.canonical_json import canonical_json, digest_of
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Condition, questions_of
from auditcore.errors import InvalidRequest
from auditcore.evidence.findings import Finding, differences
from auditcore.evidence.registration import REGISTRATION_TYPE, RegisteredTraining, Registration, digest_of_files
from auditcore.evidence.signing import (
    EnvelopeUnreadable,
    PublicKey,
    SignatureInvalid,
    payload_of,
    read_envelope,
    verify_envelope,
)
from auditcore.evidence.statement import EXTENSION, FORMAT, STATEMENT_MEDIA_TYPE, models_of, statement
from auditcore.report.reading import read_report

SCHEMA_VERSIONS: Final = frozenset({"2.0"})
"""Schemas of reports that have evidence; `statement` reads their fields by name."""

CLOCK_DIFFERENCE: Final = timedelta(seconds=60)
"""How far the clock of a gateway, which registers, may be ahead of that of a worker, which starts."""

_PLACE: Final = f"statement.predicate.{EXTENSION}.registration"


class EvidenceUnreadable(ValueError):
    """Files that are no report or no evidence, so that nothing can be verified."""


@final
@dataclass(frozen=True)
class Verification:
    """What a verification found.

    Attributes:
        audit_id: Id of the audit, as the report says.
        verdict: Verdict of the report.
        registered_at: When the criteria were registered, RFC 3339; None if the registration cannot be read.
        key_ids: Ids of the keys whose signatures hold, of the statement and of the registration.
        findings: Everything that does not hold; empty if the evidence holds.
        trainings: The trainings that have made the weights of the models, as the registration says.
    """

    audit_id: str
    verdict: str
    registered_at: str | None
    key_ids: tuple[str, ...]
    findings: tuple[Finding, ...]
    trainings: tuple[RegisteredTraining, ...] = ()


def verify_evidence(report: bytes, evidence: bytes, keys: Sequence[PublicKey]) -> Verification:
    """Verify that a trusted key has signed a result, that it is the result of this report, and what was fixed before.

    Args:
        report: The report, byte for byte as the service served it.
        evidence: Its evidence: a DSSE envelope with an in-toto Statement.
        keys: Public keys that are trusted.

    Raises:
        EvidenceUnreadable: One of the files is not what it should be.
    """
    document = _report(report)
    stated = read_statement(
        evidence, about="an audit", extension=EXTENSION, newest=FORMAT, path="/v1/audits/ID/evidence"
    )
    signed_by: list[str] = []
    findings: list[Finding] = []

    def check_signature(where: str, envelope: bytes, payload_type: str) -> None:
        try:
            signed_by.append(verify_envelope(envelope, keys, payload_type=payload_type))
        except (EnvelopeUnreadable, SignatureInvalid) as error:
            findings.append(Finding(where, str(error)))

    check_signature("evidence", evidence, STATEMENT_MEDIA_TYPE)
    record = None
    try:
        # the envelope was written in this form before it became a part of the statement
        registration = canonical_json(json_object(extension_of(stated, EXTENSION).get("registration")))
        record = Registration.model_validate_json(payload_of(read_envelope(registration)))
        contradictions = (
            *differences(stated, statement(report, registration), "statement"),
            *_contradictions(record, document),
        )
    except ValueError as error:
        findings.append(Finding(_PLACE, f"is no signed registration ({error}); fetch the evidence again"))
    else:
        check_signature(_PLACE, registration, REGISTRATION_TYPE)
        findings += contradictions
    return Verification(
        audit_id=document["audit_id"],
        verdict=document["verdict"],
        registered_at=None if record is None else record.registered_at,
        key_ids=tuple(dict.fromkeys(signed_by)),
        findings=tuple(findings),
        trainings=() if record is None else record.trainings,
    )


def _report(data: bytes) -> dict[str, Any]:
    try:
        schema = read_report(data).schema_version
        document: dict[str, Any] = json.loads(data)
    except ValueError as error:
        msg = f"the report cannot be read ({error}); fetch it again from GET /v1/audits/ID/report"
        raise EvidenceUnreadable(msg) from error
    if document["schema_version"] not in SCHEMA_VERSIONS:
        msg = (
            f"the report has schema {document['schema_version']}, which has no evidence; this version of auditcore "
            f"verifies reports of schema {schema}"
        )
        raise EvidenceUnreadable(msg)
    return document


def read_statement(evidence: bytes, *, about: str, extension: str, newest: int, path: str) -> dict[str, Any]:
    """The statement in an envelope, whose signature is not verified here.

    Args:
        evidence: A DSSE envelope with an in-toto Statement.
        about: What the statement is about, with its article, for errors.
        extension: The field of the predicate that such a statement has.
        newest: Newest format of that field that is known.
        path: Where the service has such evidence.

    Raises:
        EvidenceUnreadable: It is something else, or of a newer auditcore.
    """
    try:
        stated = json.loads(payload_of(read_envelope(evidence)))
    except ValueError as error:
        msg = f"the evidence cannot be read ({error}); fetch it again from GET {path}"
        raise EvidenceUnreadable(msg) from error
    found = extension_of(stated, extension)
    if not found:
        msg = (
            f"the evidence is no statement about {about}: it has no `predicate.{extension}`; fetch that of this report "
            f"from GET {path}"
        )
        raise EvidenceUnreadable(msg)
    if isinstance(found.get("format"), int) and found["format"] > newest:
        msg = f"the evidence has format {found['format']}; use a newer auditcore, this one knows up to {newest}"
        raise EvidenceUnreadable(msg)
    return json_object(stated)


def extension_of(stated: object, name: str) -> dict[str, Any]:
    """The extension of a statement; empty if it has none."""
    return json_object(json_object(json_object(stated).get("predicate")).get(name))


def json_object(value: object) -> dict[str, Any]:
    """A JSON object as it is, and an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _contradictions(record: Registration, report: Mapping[str, Any]) -> Iterator[Finding]:
    """What a report says otherwise than the registration of its audit."""
    manifest, images = report["manifest"], report["images"]
    pairs: dict[str, tuple[object, object]] = {
        "audit_id": (record.audit_id, report["audit_id"]),
        "request": (record.request, manifest["request_digest"]),
        "plan": (record.plan, manifest["plan_digest"]),
        "seed": (record.seed, report["plan"]["seed"]),
        "models": (
            [model.model_dump(mode="json") for model in record.models],
            [{"name": model.get("name"), "reference": model["reference"]} for model in models_of(report)],
        ),
        "images.count": (record.images.count, images["count"]),
        "baseline.model": (
            json_object(record.baseline).get("model"),
            json_object(report.get("baseline_model")).get("reference"),
        ),
    }
    for name, (registered, reported) in pairs.items():
        yield from differences(registered, reported, f"registration.{name}")
    yield from differences(record.policy, digest_of(list(record.conditions)), "registration.policy")
    yield from differences(manifest["plan_digest"], digest_of(report["plan"]), "report.manifest.plan_digest")
    yield from _of_conditions(record, report)
    yield from _of_trainings(record, report)
    examined = sorted((*images["items"], *images["excluded"]), key=lambda image: int(image["index"]))
    digests = [image["digest"] for image in examined]
    yield from differences(images["digest"], digest_of_files(digests), "report.images.digest")
    if record.images.files is not None and None not in digests and not images.get("not_examined", 0):
        yield from differences(record.images.files, images["digest"], "registration.images.files")
    started = manifest["started_at"]
    if started is None or not _is_before(record.registered_at, started):
        message = f"is {record.registered_at}, and the audit started at {started}; criteria must be registered before"
        yield Finding("registration.registered_at", message)


def _of_trainings(record: Registration, report: Mapping[str, Any]) -> Iterator[Finding]:
    """Trainings whose weights no model of the report has."""
    weights = {model.get("name"): _weights_file(model["reference"]) for model in models_of(report)}
    for position, training in enumerate(record.trainings):
        where = f"registration.trainings[{position}].weights"
        yield from differences(training.weights, weights.get(training.model), where)


def _weights_file(reference: Mapping[str, Any]) -> str | None:
    """Digest of the file of weights that a reference of a report names; None without one."""
    weights = json_object(reference.get("weights"))
    uri = str(weights.get("uri", ""))
    return weights.get("sha256") or (uri.removeprefix("blob:") if uri.startswith("blob:sha256:") else None)


def _of_conditions(record: Registration, report: Mapping[str, Any]) -> Iterator[Finding]:
    """Conditions that were registered differently, were not registered, or were not judged."""
    try:
        questions = questions_of(
            [Condition.model_validate(condition) for condition in record.conditions],
            AuditPlan.model_validate(report["plan"]),
            [model.name for model in record.models if model.name is not None],
        )
    except (ValueError, InvalidRequest) as error:
        yield Finding("registration.conditions", f"cannot be judged for the plan of the report ({error})")
        return
    registered = {(question.id, question.model, *question.row): question.condition for question in questions}
    outcomes = [
        ((one["id"], one.get("model"), one["check"], one["explainer"], one["metric"], one["variant"]), one)
        for one in report["conditions"]
    ]
    judged = {key for key, _ in outcomes}
    for key in registered:
        if key not in judged:
            yield Finding("report.conditions", f"lacks the registered condition {_named(key)}")
    for position, (key, outcome) in enumerate(outcomes):
        where = f"report.conditions[{position}]"
        condition = registered.get(key)
        if condition is None:
            yield Finding(where, f"is condition {_named(key)}, which was not registered")
            continue
        wanted = {
            "statistic": condition.statistic,
            "min_images": condition.min_images,
            "severity": condition.severity,
            "comparison": condition.criterion,
            "threshold": condition.threshold,
        }
        yield from differences({name: outcome[name] for name in wanted}, wanted, where)


def _named(key: Sequence[str | None]) -> str:
    """Id of a condition, and the names of what it judges."""
    name, *judged = key
    return f"{name!r} ({', '.join(part for part in judged if part is not None)})"


def _is_before(registered: str, started: str) -> bool:
    try:
        return datetime.fromisoformat(registered) <= datetime.fromisoformat(started) + CLOCK_DIFFERENCE
    except (ValueError, TypeError):
        # no time, or one without a zone beside one with a zone
        return False
