"""F-Fidelity and IDSDS in this process, without any service: the library's front doors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.experiments.stage import REPORT
from auditcore.contracts.retraining.f_fidelity import FFidelityReport, FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsReport, IdsdsRequest
from auditcore.contracts.retraining.stages import fine_tuned_stages
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import HeldOut
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import read_kept
from auditcore.orchestration.staged_runs import run_stages
from auditcore.retraining.f_fidelity_run import FFidelityRun
from auditcore.retraining.fine_tuning import FineTunedRequest, require_allowed
from auditcore.retraining.idsds_run import IdsdsRun
from auditcore.retraining.kept_measurement import kept_measurement
from auditcore.retraining.training_faults import blaming_training
from auditcore.sources.resolving import resolve_model
from auditcore.training.local_training import read_training_images

Request = TypeVar("Request", FFidelityRequest, IdsdsRequest)


def f_fidelity(
    request: FFidelityRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    out: Path | None = None,
    progress: Callable[[float], None] = lambda _share: None,
    clock: Callable[[], float] = time.monotonic,
    measurement_id: str | None = None,
) -> FFidelityReport:
    """Fine-tune a model with random masks, and report how explanations stand the removal of random parts.

    Args:
        request: Model, images and plan.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded images to measure on instead of `request.validation`.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs, such as `cpu` or `cuda:0`.
        out: Folder that keeps what is done: the fine-tuned weights in `weights/fine_tuned.safetensors`, the values of
            each explainer, and `report.json`. The same call goes on from it with the same numbers, whenever it was
            interrupted. None to keep it in memory.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        measurement_id: Name of the measurement in the report; a random one if None. A folder keeps its first name.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
    """
    access = access or AccessRules()
    request = _pinned(request, access)
    images, validation = _read(request, access, images, validation)
    kept = kept_measurement(out, request)
    run = FFidelityRun(
        request,
        images,
        validation,
        experiment_id=measurement_id or str(uuid.uuid4()),
        kept=kept,
        access=access,
        device=device,
        clock=clock,
    )
    run_stages(run, fine_tuned_stages(request.plan), lambda share, _title: progress(share))
    return FFidelityReport.model_validate_json(read_kept(kept, REPORT))


def idsds(
    request: IdsdsRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    out: Path | None = None,
    progress: Callable[[float], None] = lambda _share: None,
    clock: Callable[[], float] = time.monotonic,
    measurement_id: str | None = None,
) -> IdsdsReport:
    """Fine-tune a model with deleted patches, and report how maps agree with what single patches add.

    Args:
        request: Model, images and plan.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded images to measure on instead of `request.validation`.
        access: What the request may reach; nothing but the demo by default.
        device: Where the model runs, such as `cpu` or `cuda:0`.
        out: Folder that keeps what is done: the fine-tuned weights in `weights/fine_tuned.safetensors`, the values of
            each explainer, and `report.json`. The same call goes on from it with the same numbers, whenever it was
            interrupted. None to keep it in memory.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        measurement_id: Name of the measurement in the report; a random one if None. A folder keeps its first name.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
    """
    access = access or AccessRules()
    request = _pinned(request, access)
    images, validation = _read(request, access, images, validation)
    kept = kept_measurement(out, request)
    run = IdsdsRun(
        request,
        images,
        validation,
        experiment_id=measurement_id or str(uuid.uuid4()),
        kept=kept,
        access=access,
        device=device,
        clock=clock,
    )
    run_stages(run, fine_tuned_stages(request.plan), lambda share, _title: progress(share))
    return IdsdsReport.model_validate_json(read_kept(kept, REPORT))


def _pinned(request: Request, access: AccessRules) -> Request:
    """The request about the model as it is now."""
    require_allowed(request, access)
    return request.model_copy(update={"model": resolve_model(request.model, access).reference})


def _read(
    request: FineTunedRequest,
    access: AccessRules,
    images: Sequence[EncodedImage] | None,
    validation: Sequence[EncodedImage] | None,
) -> tuple[Sequence[EncodedImage], Sequence[EncodedImage] | None]:
    """The encoded images; without a training, what is not measured is not read."""
    plan = request.plan.training
    if plan is None and (validation is not None or not isinstance(request.validation, HeldOut)):
        images = ()
    with blaming_training():
        # how to train does not matter for reading
        asked = request.training_request(plan or TrainingPlan(epochs=1), request.model)
        return read_training_images(asked, access, images=images, validation=validation)
