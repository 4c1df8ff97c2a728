"""ROAR and KAR in this process, without any service: the library's front door."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.experiments.stage import REPORT
from auditcore.contracts.retraining.roar import RoarReport, RoarRequest
from auditcore.contracts.retraining.stages import roar_stages
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import read_kept
from auditcore.orchestration.staged_runs import run_stages
from auditcore.retraining.kept_measurement import kept_measurement
from auditcore.retraining.roar_run import RoarRun, require_allowed
from auditcore.retraining.training_faults import blaming_training
from auditcore.sources.resolving import resolve_model
from auditcore.training.local_training import read_training_images


def roar(
    request: RoarRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    out: Path | None = None,
    progress: Callable[[float], None] = lambda _share: None,
    clock: Callable[[], float] = time.monotonic,
    roar_id: str | None = None,
) -> RoarReport:
    """Remove the most relevant pixels of all images, train again, and report how accuracy falls.

    Args:
        request: Model, images and plan.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded validation images to use instead of `request.validation`.
        access: What the request may reach; nothing but the demo by default.
        device: Where models are trained, such as `cpu` or `cuda:0`.
        out: Folder that keeps what is done: the score of each training, the weights that explain, and `report.json`.
            The same call goes on from it with the same numbers, whenever it was interrupted. None to keep it in memory.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        roar_id: Name of the measurement in the report; a random one if None. A folder keeps its first name.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
    """
    access = access or AccessRules()
    require_allowed(request, access)
    request = request.model_copy(update={"model": resolve_model(request.model, access).reference})
    with blaming_training():
        asked = request.training_request(request.plan.training, request.model)
        images, validation = read_training_images(asked, access, images=images, validation=validation)
    kept = kept_measurement(out, request)
    run = RoarRun(
        request,
        images,
        validation,
        experiment_id=roar_id or str(uuid.uuid4()),
        kept=kept,
        access=access,
        device=device,
        clock=clock,
    )
    run_stages(run, roar_stages(request.plan), lambda share, _title: progress(share))
    return RoarReport.model_validate_json(read_kept(kept, REPORT))
