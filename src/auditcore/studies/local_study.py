"""A study in this process, without any service: train, audit and compare, with everything kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.experiments.stage import REPORT
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.studies.report import StudyReport
from auditcore.contracts.studies.stages import study_stages
from auditcore.contracts.training.request import HeldOut
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFolder, read_kept
from auditcore.orchestration.kept_request import keep_request
from auditcore.orchestration.staged_runs import run_stages
from auditcore.sources.resolving import resolve_model
from auditcore.studies.study_run import StudyRun
from auditcore.training.local_training import read_other_images


def study(
    request: StudyRequest,
    *,
    out: Path,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    test: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[float, str], None] = lambda _share, _now: None,
) -> StudyReport:
    """Compare training methods over seeds.

    What is done is kept in `out`: checkpoints, trained models, results of audits. So a study that was interrupted at
    any moment goes on where it was, with the same numbers; `out` in the end also holds `report.json` and `tables.md`.

    Args:
        request: Model, images, methods, seeds and audit.
        out: Folder of the study.
        images: Encoded training images to use instead of `request.images`; needed when that names a stored batch.
        validation: Encoded validation images to use instead of `request.validation`.
        test: Encoded test images to use instead of `request.test`.
        access: What the request may reach; nothing but the demo by default.
        device: Where models are trained and audited.
        progress: Called with the share done, in [0,1], and what is being done; may raise AuditCancelled.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
    """
    access = access or AccessRules()
    request = _resolved(request, access)
    references = ((None, request.model),)
    if images is None:
        images = read_other_images(request.images, references, access, field="images")
    if validation is None and not isinstance(request.validation, HeldOut):
        validation = read_other_images(request.validation, references, access, field="validation")
    if test is None:
        test = read_other_images(request.test, references, access, field="test")
    folder = KeptFolder(out)
    run = StudyRun(
        request,
        training=images,
        validation=validation,
        test=test,
        kept=folder,
        access=access.model_copy(update={"file_roots": (*access.file_roots, out.resolve())}),
        device=device,
    )
    keep_request(folder, request, what="study")
    run_stages(run, study_stages(request.plan), progress)
    return StudyReport.model_validate_json(read_kept(folder, REPORT))


def _resolved(request: StudyRequest, access: AccessRules) -> StudyRequest:
    """The request about models as they are now."""
    methods = []
    for method in request.plan.methods:
        if method.model is not None:
            require_trainable(method.model)
            method = method.model_copy(update={"model": resolve_model(method.model, access).reference})  # noqa: PLW2901 - the same method
        methods.append(method)
    require_trainable(request.model)
    plan = request.plan.model_copy(update={"methods": tuple(methods)})
    return request.model_copy(update={"model": resolve_model(request.model, access).reference, "plan": plan})
