"""Which stages an experiment has. They follow from its request alone, so that a gateway can divide it among workers."""

from __future__ import annotations

from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.remedies.stages import remedy_stages
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.roar import RoarRequest
from auditcore.contracts.retraining.stages import fine_tuned_stages, roar_stages
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.studies.stages import study_stages


def stages_of(request: ExperimentRequest) -> tuple[Stage, ...]:
    """All stages, wave by wave; the last one, alone in its wave, makes the report.

    Args:
        request: The experiment.
    """
    match request:
        case StudyRequest(plan=plan):
            return study_stages(plan)
        case RemedyRequest(plan=plan):
            return remedy_stages(plan)
        case RoarRequest(plan=plan):
            return roar_stages(plan)
        case FFidelityRequest(plan=plan) | IdsdsRequest(plan=plan):
            return fine_tuned_stages(plan)
