"""From what a request names to what is audited: a version and a digest, looked up once, when the audit is submitted.

Needs no torch, so that a gateway can do it. What the gateway cannot know, such as the digest of a file that only the
workers can read, stays open, and the workers check it.
"""

from __future__ import annotations

from dataclasses import replace

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.request import AuditRequest
from auditcore.sources.model_signatures import pin_signature
from auditcore.sources.registry import check_model, source_of
from auditcore.sources.resolved_model import Resolution


def resolve_model(reference: ModelReference, access: AccessRules) -> Resolution:
    """What a reference stands for now.

    Raises:
        InputError: The reference is not allowed, no worker could load it, or its signature does not hold.
    """
    check_model(reference, access)
    found = source_of(reference).resolve(reference, access)
    return replace(found, reference=pin_signature(found.reference, access))


def resolve_request(request: AuditRequest, access: AccessRules) -> tuple[AuditRequest, tuple[Resolution, ...]]:
    """The same request about models as they are now, and what was found out about each.

    Raises:
        InputError: As `resolve_model`; `field` says which of several models.
    """
    found: list[Resolution] = []
    for position, (name, reference) in enumerate(request.references):
        with blaming_model(name, position):
            found.append(resolve_model(reference, access))
    if request.model is not None:
        return request.model_copy(update={"model": found[0].reference}), tuple(found)
    models = tuple(
        entry.model_copy(update={"model": one.reference}) for entry, one in zip(request.models, found, strict=True)
    )
    return request.model_copy(update={"models": models}), tuple(found)
