"""Requests of experiments; `plan.kind` says which one it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Tag, TypeAdapter

from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.roar import RoarRequest
from auditcore.contracts.studies.plan import StudyRequest

ExperimentKind = Literal["study", "remedy", "roar", "f_fidelity", "idsds"]


def _kind_of(request: object) -> object:
    """`plan.kind` of a request or of the JSON of one; None if it has none."""
    plan = request.get("plan") if isinstance(request, Mapping) else getattr(request, "plan", None)
    return plan.get("kind") if isinstance(plan, Mapping) else getattr(plan, "kind", None)


ExperimentRequest = Annotated[
    Annotated[StudyRequest, Tag("study")]
    | Annotated[RemedyRequest, Tag("remedy")]
    | Annotated[RoarRequest, Tag("roar")]
    | Annotated[FFidelityRequest, Tag("f_fidelity")]
    | Annotated[IdsdsRequest, Tag("idsds")],
    Discriminator(
        _kind_of,
        custom_error_type="unknown_kind_of_plan",
        custom_error_message="`plan.kind` is missing or unknown; it is one of study, remedy, roar, f_fidelity, idsds",
    ),
]

EXPERIMENT_REQUEST: TypeAdapter[ExperimentRequest] = TypeAdapter(ExperimentRequest)
