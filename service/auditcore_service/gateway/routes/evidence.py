"""`/v1/audits/{audit_id}/evidence`, the same of trainings, `/v1/audits/{audit_id}/sign-offs` and `/v1/keys`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from auditcore.evidence.event_log import LogEntry
from auditcore.evidence.signing import SignedEnvelope
from auditcore_service.gateway.problem_responses import json_example, problem_responses
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.audit_examples import DELETED_AUDIT, NO_AUDIT, NOT_READY
from auditcore_service.gateway.routes.audits import AuditId
from auditcore_service.gateway.routes.evidence_examples import (
    KEYS_EXAMPLE,
    NO_SIGNING_KEY,
    NOT_REGISTERED,
    SIGN_OFF_EXAMPLE,
    TRAINING_NOT_REGISTERED,
)
from auditcore_service.gateway.routes.immutable import IfNoneMatch, immutable
from auditcore_service.gateway.routes.principals import Reader, Signer
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.routes.training_examples import DELETED_TRAINING, NO_TRAINING, NOT_TRAINED
from auditcore_service.gateway.routes.trainings import TrainingId
from auditcore_service.gateway.schemas import KeyEntry, KeyList, SignOff, SignOffList, SignOffRequest
from auditcore_service.gateway.signed_responses import EnvelopeResponse
from auditcore_service.timestamps import rfc3339
from auditcore_service.use_cases.representations import etag_of

router = APIRouter(tags=["evidence"], route_class=CheckedBodies)


@router.get(
    "/v1/audits/{audit_id}/evidence",
    operation_id="getEvidence",
    summary="The signed evidence of a finished audit",
    response_class=EnvelopeResponse,
    responses={
        200: {
            "model": SignedEnvelope,
            "description": "A DSSE envelope. Its payload is an in-toto Statement v1 with the predicate "
            "`https://in-toto.io/attestation/test-result/v0.1`.",
        },
        304: {"description": "The evidence is the one named in If-None-Match."},
        **problem_responses(NO_AUDIT, DELETED_AUDIT, NOT_READY, NO_SIGNING_KEY, NOT_REGISTERED),
    },
)
def get(audit_id: AuditId, service: ServiceDep, principal: Reader, if_none_match: IfNoneMatch = None) -> Response:
    """Keep it beside the report; `auditcore verify` checks both offline. It never changes.

    The statement names the model by its digest, the digest of the report, every condition with threshold and number of
    images, and holds the signed registration of what was fixed when the audit was submitted.
    """
    content = service.evidence.of_audit(principal, audit_id)
    return immutable(
        lambda: content, etag=etag_of(content), media_type=EnvelopeResponse.media_type, if_none_match=if_none_match
    )


@router.get(
    "/v1/trainings/{training_id}/evidence",
    operation_id="getTrainingEvidence",
    summary="The signed evidence of a finished training",
    response_class=EnvelopeResponse,
    responses={
        200: {
            "model": SignedEnvelope,
            "description": "A DSSE envelope. Its payload is an in-toto Statement v1 with the predicate "
            "`https://slsa.dev/provenance/v1`.",
        },
        304: {"description": "The evidence is the one named in If-None-Match."},
        **problem_responses(NO_TRAINING, DELETED_TRAINING, NOT_TRAINED, NO_SIGNING_KEY, TRAINING_NOT_REGISTERED),
    },
)
def get_of_training(
    training_id: TrainingId, service: ServiceDep, principal: Reader, if_none_match: IfNoneMatch = None
) -> Response:
    """Keep it beside report and weights; `auditcore verify` checks them offline. It never changes.

    The statement is about the weights and the report. It names what the weights come from by digests: images for
    training and validation, plan, request, and the weights at the start.
    """
    content = service.evidence.of_training(principal, training_id)
    return immutable(
        lambda: content, etag=etag_of(content), media_type=EnvelopeResponse.media_type, if_none_match=if_none_match
    )


@router.post(
    "/v1/audits/{audit_id}/sign-offs",
    status_code=201,
    operation_id="signOff",
    summary="Log what a person decides about a report",
    responses={201: json_example(SIGN_OFF_EXAMPLE), **problem_responses(NO_AUDIT, DELETED_AUDIT, NOT_READY)},
)
def sign_off(audit_id: AuditId, body: SignOffRequest, service: ServiceDep, principal: Signer) -> SignOff:
    """An entry of the event log, which is never changed; a later decision is a further entry."""
    return _sign_off(
        service.evidence.sign_off(
            principal, audit_id, signer=body.principal, decision=body.decision, comment=body.comment
        )
    )


@router.get(
    "/v1/audits/{audit_id}/sign-offs",
    operation_id="listSignOffs",
    summary="What people decided about a report",
    responses={200: json_example({"items": [SIGN_OFF_EXAMPLE]}), **problem_responses(NO_AUDIT, DELETED_AUDIT)},
)
def sign_offs(audit_id: AuditId, service: ServiceDep, principal: Reader) -> SignOffList:
    """Oldest first."""
    return SignOffList(items=tuple(_sign_off(entry) for entry in service.evidence.sign_offs(principal, audit_id)))


@router.get(
    "/v1/keys",
    operation_id="listKeys",
    summary="Public keys of this deployment",
    responses={200: json_example(KEYS_EXAMPLE)},
)
def keys(service: ServiceDep) -> KeyList:
    """Newest first. Get a key that you trust from its operator: whatever forges evidence can forge this list too."""
    active = service.evidence.active_key_id
    return KeyList(
        items=tuple(
            KeyEntry(
                key_id=key.key_id,
                public_key=key.pem,
                active=key.key_id == active,
                first_used_at=rfc3339(key.first_used_at),
            )
            for key in service.evidence.public_keys()
        )
    )


def _sign_off(entry: LogEntry) -> SignOff:
    return SignOff(sequence=entry.sequence, time=entry.time, principal=entry.principal, **entry.data)
