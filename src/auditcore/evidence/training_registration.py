"""The registration of a training: what was fixed when it was submitted, before there were any weights.

Digests are sha256 over canonical JSON (RFC 8785). The signed registration is part of the evidence of the training.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final, Literal, final

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.training.request import TrainingRequest

TRAINING_REGISTRATION_TYPE: Final = "application/vnd.auditcore.training-registration+json"
"""Type of the payload of a signed registration of a training."""


@final
class TrainingRegistration(Contract):
    """What was fixed when a training was submitted.

    Attributes:
        format: Version of this record.
        training_id: Id of the training.
        registered_at: When it was submitted, RFC 3339.
        auditcore_version: Version of auditcore that accepted it.
        request: Digest of the request, with its model and images as they were pinned.
        plan: Digest of the plan, with every default.
        seed: Seed of the plan.
        model: The model with the weights to start from, as they were pinned.
        images: Digest of the `images` of the request. A batch is named there by its own digest.
        validation: The same of `validation`.
    """

    format: Literal[1] = 1
    training_id: str
    registered_at: str
    auditcore_version: str
    request: Sha256
    plan: Sha256
    seed: int
    model: dict[str, Any]
    images: Sha256
    validation: Sha256


def register_training(*, training_id: str, request: TrainingRequest, registered_at: str) -> TrainingRegistration:
    """The record of a training.

    Args:
        training_id: Id of the training.
        request: The request as it is stored, with pinned model and images.
        registered_at: When it was submitted, RFC 3339.
    """
    return TrainingRegistration(
        training_id=training_id,
        registered_at=registered_at,
        auditcore_version=version("auditcore"),
        request=digest_of(request),
        plan=digest_of(request.plan),
        seed=request.plan.seed,
        model=request.model.model_dump(mode="json"),
        images=digest_of(request.images),
        validation=digest_of(request.validation),
    )
