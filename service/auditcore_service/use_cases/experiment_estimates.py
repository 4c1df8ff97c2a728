"""What an experiment will cost, before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.report import AuditReport
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.roar import RoarRequest
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.costs.cost_model import Estimate
from auditcore.costs.remedy_estimate import remedy_estimate
from auditcore.costs.retraining_estimate import f_fidelity_estimate, idsds_estimate, roar_estimate
from auditcore.costs.study_estimate import study_estimate


@final
@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images of an experiment.

    Attributes:
        training: To learn from.
        validation: To validate on.
        test: To audit.
    """

    training: int
    validation: int
    test: int


def experiment_estimate(
    request: ExperimentRequest,
    model: ModelReference,
    images: ImageCounts,
    *,
    passes_per_s: float,
    failed: AuditReport | None = None,
) -> Estimate:
    """What an experiment is expected to cost.

    Args:
        request: The experiment.
        model: Its model; of a remedy, that of the failed report.
        images: How many there are.
        passes_per_s: Forward passes per second, assumed of a model that sees images of 224 x 224 pixels.
        failed: The failed report of a remedy.
    """
    training, validation = images.training, images.validation
    match request:
        case StudyRequest(plan=plan):
            return study_estimate(
                plan, model, training=training, validation=validation, test=images.test, passes_per_s=passes_per_s
            )
        case RemedyRequest(plan=plan):
            assert failed is not None  # noqa: S101 - a remedy without a report is refused before
            return remedy_estimate(plan, failed, training=training, validation=validation, passes_per_s=passes_per_s)
        case RoarRequest(plan=plan):
            return roar_estimate(plan, model, training=training, validation=validation, passes_per_s=passes_per_s)
        case FFidelityRequest(plan=plan):
            return f_fidelity_estimate(plan, model, training=training, validation=validation, passes_per_s=passes_per_s)
        case IdsdsRequest(plan=plan):
            return idsds_estimate(plan, model, training=training, validation=validation, passes_per_s=passes_per_s)
