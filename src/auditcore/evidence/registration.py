"""The registration of an audit: what was fixed when it was submitted, before there was any result.

Digests are sha256 over canonical JSON (RFC 8785). The signed registration is part of the evidence of the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any, Final, Literal, final

from pydantic import Field

from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.request import AuditRequest

REGISTRATION_TYPE: Final = "application/vnd.auditcore.registration+json"
"""Type of the payload of a signed registration."""


@final
class RegisteredImages(Contract):
    """The images of a registered audit.

    Attributes:
        count: Number of images.
        reference: Digest of the `images` of the request. A batch is named there by its own digest.
        files: Digest over the digests of all image files in order, each followed by a line feed. Null for images that
            the workers fetch, whose digests are not known when the audit is submitted.
    """

    count: int
    reference: Sha256
    files: Sha256 | None


@final
class RegisteredModel(Contract):
    """A model of a registered audit.

    Attributes:
        name: Its name in an audit of several models; null in an audit of one.
        reference: Its reference, with version and digest as they were pinned.
    """

    name: str | None
    reference: dict[str, Any]


@final
class RegisteredTraining(Contract):
    """The training that has made the weights of a registered model.

    Attributes:
        model: Name of the model in an audit of several models; null in an audit of one.
        training_id: Id of the training.
        weights: Digest of the file of weights that it has made, which the model names.
        report: Digest of its report, which is a subject of its own signed statement.
    """

    model: str | None
    training_id: str
    weights: Sha256
    report: Sha256


@final
class Registration(Contract):
    """What was fixed when an audit was submitted.

    Attributes:
        format: Version of this record.
        audit_id: Id of the audit.
        registered_at: When it was submitted, RFC 3339.
        auditcore_version: Version of auditcore that accepted it.
        request: Digest of the request, with its models as they were pinned.
        plan: Digest of the plan in full, with every default.
        policy: Digest of `conditions`.
        conditions: The conditions of the policy, in full.
        seed: Seed of the plan.
        models: The models.
        images: The images.
        baseline: The baseline by the digest of its report, with its model if that is loaded too; absent without one.
        trainings: The trainings of the same tenant that have made the weights of models; absent without any.
    """

    format: Literal[1] = 1
    audit_id: str
    registered_at: str
    auditcore_version: str
    request: Sha256
    plan: Sha256
    policy: Sha256
    conditions: tuple[dict[str, Any], ...]
    seed: int
    models: tuple[RegisteredModel, ...] = Field(min_length=1)
    images: RegisteredImages
    baseline: dict[str, Any] | None = Field(default=None, exclude_if=lambda baseline: baseline is None)
    trainings: tuple[RegisteredTraining, ...] = Field(default=(), exclude_if=lambda trainings: not trainings)


def register(
    *,
    audit_id: str,
    request: AuditRequest,
    plan: AuditPlan,
    images: int,
    files: Iterable[Sha256],
    registered_at: str,
    trainings: Iterable[RegisteredTraining] = (),
) -> Registration:
    """The record of an audit.

    Args:
        audit_id: Id of the audit.
        request: The request as it is stored, with pinned models.
        plan: The plan in full.
        images: Number of images.
        files: Digests of the images of a batch, in order; not read for other images.
        registered_at: When it was submitted, RFC 3339.
        trainings: The trainings that have made the weights of its models.
    """
    conditions = [condition.model_dump(mode="json") for condition in request.conditions]
    return Registration(
        audit_id=audit_id,
        registered_at=registered_at,
        auditcore_version=version("auditcore"),
        request=digest_of(request),
        plan=digest_of(plan),
        policy=digest_of(conditions),
        conditions=tuple(conditions),
        seed=plan.seed,
        models=tuple(
            RegisteredModel(name=name, reference=reference.model_dump(mode="json"))
            for name, reference in request.references
        ),
        images=RegisteredImages(
            count=images,
            reference=digest_of(request.images),
            files=digest_of_files(files) if isinstance(request.images, ImageBatchReference) else None,
        ),
        baseline=None if request.baseline is None else request.baseline.model_dump(mode="json"),
        trainings=tuple(trainings),
    )


def digest_of_files(digests: Iterable[Sha256]) -> Sha256:
    """Digest over the digests of image files, as `images.digest` of a report is computed."""
    total = hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode())
    return f"sha256:{total.hexdigest()}"
