"""What a pipeline sends to start an audit."""

from __future__ import annotations

from typing import final

from pydantic import Field

from auditcore.contracts.contract import Contract
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.models import ModelReference
from auditcore.contracts.plan import PlanRequest
from auditcore.contracts.policy import Policy


@final
class AuditRequest(Contract):
    """A model, images, a plan, and optionally the conditions for a pass."""

    model: ModelReference
    images: ImagesReference
    plan: PlanRequest
    policy: Policy = Field(default=(), description="Conditions for a pass; without any the verdict is not_evaluated.")
