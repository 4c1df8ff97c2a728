"""From a request to something that runs its stages, in whatever process, in the order of their waves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.remedies.plan import RemedyRequest
from auditcore.contracts.report import AuditReport
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.roar import RoarRequest
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles
from auditcore.orchestration.staged_runs import StagedRun
from auditcore.remedies.remedy_run import RemedyRun
from auditcore.retraining.f_fidelity_run import FFidelityRun
from auditcore.retraining.idsds_run import IdsdsRun
from auditcore.retraining.roar_run import RoarRun
from auditcore.studies.study_run import StudyRun

Input = TypeVar("Input")


@final
@dataclass(frozen=True)
class ExperimentInputs:
    """What an experiment works on.

    Attributes:
        images: Training images.
        validation: Validation images; None if some of the others are held out.
        test: Test images of a study, audited images of a remedy; None for the others.
        failed: The failed report of a remedy.
    """

    images: Sequence[EncodedImage]
    validation: Sequence[EncodedImage] | None = None
    test: Sequence[EncodedImage] | None = None
    failed: AuditReport | None = None


def open_experiment(
    request: ExperimentRequest,
    inputs: ExperimentInputs,
    *,
    experiment_id: str,
    kept: KeptFiles,
    access: AccessRules,
    device: torch.device | str,
) -> StagedRun:
    """Prepare to run stages; nothing is computed yet.

    Args:
        request: With pinned models.
        inputs: What it works on.
        experiment_id: Its name in reports.
        kept: Files of this experiment.
        access: What its references may reach.
        device: Where models run.

    Raises:
        InputError: It cannot be carried out.
    """
    match request:
        case StudyRequest():
            return StudyRun(
                request,
                training=inputs.images,
                validation=inputs.validation,
                test=_given(inputs.test, "test images", field="test"),
                kept=kept,
                access=access,
                device=device,
            )
        case RemedyRequest():
            return RemedyRun(
                _given(inputs.failed, "the failed report", field="audit"),
                request,
                training=inputs.images,
                validation=inputs.validation,
                audited=_given(inputs.test, "the images of the failed audit", field="audit"),
                kept=kept,
                access=access,
                device=device,
                audit_id=experiment_id,
            )
        case RoarRequest():
            return RoarRun(
                request,
                inputs.images,
                inputs.validation,
                experiment_id=experiment_id,
                kept=kept,
                access=access,
                device=device,
            )
        case FFidelityRequest():
            return FFidelityRun(
                request,
                inputs.images,
                inputs.validation,
                experiment_id=experiment_id,
                kept=kept,
                access=access,
                device=device,
            )
        case IdsdsRequest():
            return IdsdsRun(
                request,
                inputs.images,
                inputs.validation,
                experiment_id=experiment_id,
                kept=kept,
                access=access,
                device=device,
            )


def _given(value: Input | None, what: str, *, field: str) -> Input:
    if value is None:
        msg = f"this experiment needs {what}; give them with its inputs"
        raise InvalidRequest(msg, field=field)
    return value
