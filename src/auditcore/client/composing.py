"""The request of an audit from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from auditcore.client.answers import ImageBatch
from auditcore.client.errors import InvalidArgument, Mistake
from auditcore.contracts.images import ImageBatchReference, ImagesReference
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan, PresetPlan
from auditcore.contracts.policy import Condition
from auditcore.contracts.policy_document import PolicyDigest, PolicyDocument
from auditcore.contracts.request import AuditRequest

ImagesGiven = ImageBatch | ImagesReference
PlanGiven = AuditPlan | PresetPlan | str
PolicyGiven = Sequence[Condition] | PolicyDocument | PolicyDigest | str


def compose(
    request: AuditRequest | Mapping[str, object] | None,
    *,
    model: ModelReference | None = None,
    images: ImagesGiven | None = None,
    plan: PlanGiven | None = None,
    policy: PolicyGiven = (),
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> AuditRequest | Mapping[str, object]:
    """A request that was given as a whole, or one made of its parts.

    Args:
        request: The whole request; None if it is made of parts.
        model: The model under audit.
        images: A stored batch, or another reference to images.
        plan: A plan, or the name of a preset.
        policy: Conditions, a document, or the name of a policy.
        name: What to call the audit.
        tags: Key -> value.

    Raises:
        InvalidArgument: A part is missing, or given beside a whole request; or the parts make no valid request.
    """
    parts = {"model": model, "images": images, "plan": plan, "policy": policy or None, "name": name, "tags": tags}
    given = [key for key, value in parts.items() if value is not None]
    if request is not None:
        if given:
            message = f"give either a whole request or its parts; {', '.join(given)} belong into the request"
            raise InvalidArgument(message)
        return request
    missing = [key for key in ("model", "images", "plan") if parts[key] is None]
    if missing:
        message = f"an audit needs a model, images and a plan; give {', '.join(missing)}, or a whole request"
        raise InvalidArgument(message)
    document = {
        "model": model,
        "images": ImageBatchReference(digest=images.digest) if isinstance(images, ImageBatch) else images,
        "plan": PresetPlan.model_validate({"preset": plan}) if isinstance(plan, str) else plan,
        "policy": policy if isinstance(policy, str | PolicyDocument | PolicyDigest) else tuple(policy),
        "name": name,
        "tags": dict(tags or {}),
    }
    try:
        return AuditRequest.model_validate(document)
    except ValidationError as error:
        mistakes = tuple(
            Mistake("#/" + "/".join(str(part) for part in one["loc"]), one["msg"], one["type"])
            for one in error.errors()
        )
        message = "these parts make no valid request"
        raise InvalidArgument(message, code="invalid_request", mistakes=mistakes) from error
