"""Verify the evidence of a training offline: signatures, report, weights, and every claim that follows from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from auditcore.contracts.canonical_json import canonical_json, digest_of, sha256
from auditcore.contracts.training.report import TrainingReport
from auditcore.evidence.findings import Finding, differences
from auditcore.evidence.signing import (
    EnvelopeUnreadable,
    PublicKey,
    SignatureInvalid,
    payload_of,
    read_envelope,
    verify_envelope,
)
from auditcore.evidence.statement import STATEMENT_MEDIA_TYPE
from auditcore.evidence.training_registration import TRAINING_REGISTRATION_TYPE, TrainingRegistration
from auditcore.evidence.training_statement import TRAINING_EXTENSION, TRAINING_FORMAT, training_statement
from auditcore.evidence.verification import EvidenceUnreadable, extension_of, json_object, read_statement

_PLACE = f"statement.predicate.{TRAINING_EXTENSION}.registration"


@final
@dataclass(frozen=True)
class TrainingVerification:
    """What a verification found.

    Attributes:
        training_id: Id of the training, as the report says.
        weights: Digest of the file of weights that the evidence is about.
        weights_compared: Whether a file of weights was given and compared.
        training_images: Digest over digests and labels of the images that were trained on.
        registered_at: When the training was registered, RFC 3339; None if the registration cannot be read.
        key_ids: Ids of the keys whose signatures hold, of the statement and of the registration.
        findings: Everything that does not hold; empty if the evidence holds.
    """

    training_id: str
    weights: str
    weights_compared: bool
    training_images: str
    registered_at: str | None
    key_ids: tuple[str, ...]
    findings: tuple[Finding, ...]


def is_training_report(report: bytes) -> bool:
    """Whether bytes look like the report of a training, and not like that of an audit."""
    try:
        return "training_id" in json_object(json.loads(report))
    except ValueError:
        return False


def verify_training_evidence(
    report: bytes, evidence: bytes, keys: Sequence[PublicKey], *, weights: bytes | None = None
) -> TrainingVerification:
    """Verify that a trusted key has signed where weights come from, and that report and weights are those it means.

    Args:
        report: The report, byte for byte as the service served it.
        evidence: Its evidence: a DSSE envelope with an in-toto Statement.
        keys: Public keys that are trusted.
        weights: The file of weights; None to compare only the report.

    Raises:
        EvidenceUnreadable: One of the files is not what it should be.
    """
    document = _report(report)
    stated = read_statement(
        evidence,
        about="a training",
        extension=TRAINING_EXTENSION,
        newest=TRAINING_FORMAT,
        path="/v1/trainings/ID/evidence",
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
        registration = canonical_json(json_object(extension_of(stated, TRAINING_EXTENSION).get("registration")))
        record = TrainingRegistration.model_validate_json(payload_of(read_envelope(registration)))
        contradictions = (
            *differences(stated, training_statement(report, registration), "statement"),
            *_contradictions(record, document),
        )
    except ValueError as error:
        findings.append(Finding(_PLACE, f"is no signed registration ({error}); fetch the evidence again"))
    else:
        check_signature(_PLACE, registration, TRAINING_REGISTRATION_TYPE)
        findings += contradictions
    trained = document["trained"]
    if weights is not None:
        findings += differences(sha256(weights), trained["weights"], "weights")
        findings += differences(len(weights), trained["size_bytes"], "weights.size_bytes")
    return TrainingVerification(
        training_id=document["training_id"],
        weights=trained["weights"],
        weights_compared=weights is not None,
        training_images=document["data"]["training_digest"],
        registered_at=None if record is None else record.registered_at,
        key_ids=tuple(dict.fromkeys(signed_by)),
        findings=tuple(findings),
    )


def _report(data: bytes) -> dict[str, Any]:
    try:
        TrainingReport.model_validate_json(data)
        document: dict[str, Any] = json.loads(data)
    except ValueError as error:
        msg = f"the report of the training cannot be read ({error}); fetch it again from GET /v1/trainings/ID/report"
        raise EvidenceUnreadable(msg) from error
    return document


def _contradictions(record: TrainingRegistration, report: Mapping[str, Any]) -> Iterator[Finding]:
    """What a report says otherwise than the registration of its training, or than itself."""
    request, trained = report["request"], report["trained"]
    pairs: dict[str, tuple[object, object]] = {
        "training_id": (record.training_id, report["training_id"]),
        "request": (record.request, digest_of(request)),
        "plan": (record.plan, report["plan_digest"]),
        "seed": (record.seed, request["plan"]["seed"]),
        "model": (record.model, request["model"]),
        "images": (record.images, digest_of(request["images"])),
        "validation": (record.validation, digest_of(request["validation"])),
    }
    for name, (registered, reported) in pairs.items():
        yield from differences(registered, reported, f"registration.{name}")
    yield from differences(report["plan_digest"], digest_of(request["plan"]), "report.plan_digest")
    named = json_object(trained["reference"].get("weights")).get("sha256")
    yield from differences(named, trained["weights"], "report.trained.reference.weights.sha256")
