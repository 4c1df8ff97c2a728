"""ROAR and KAR in this process, without any service: the library's front door."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable, Sequence

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.retraining.roar import RoarReport, RoarRequest, RoarState
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.images.encoded import EncodedImage
from auditcore.models.loading import load_classifier
from auditcore.retraining.roar_results import make_roar_report
from auditcore.retraining.roar_run import RoarRun, with_random_weights
from auditcore.retraining.training_faults import blaming_training
from auditcore.sources.resolving import resolve_model
from auditcore.training.local_training import read_training_images, training_sets


def roar(
    request: RoarRequest,
    *,
    images: Sequence[EncodedImage] | None = None,
    validation: Sequence[EncodedImage] | None = None,
    access: AccessRules | None = None,
    device: torch.device | str = "cpu",
    state: RoarState | None = None,
    progress: Callable[[float], None] = lambda _share: None,
    keep_state: Callable[[RoarState], None] = lambda _state: None,
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
        state: How far an earlier call has come; the result is the same as without the interruption.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        keep_state: Called after each training with the state from which another call can go on.
        clock: Seconds, monotonic.
        roar_id: Name of the measurement in the report; a random one if None.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
        BudgetTooSmall: It would probably not fit into its budget; nothing has been trained.
    """
    access = access or AccessRules()
    require_trainable(request.model)
    access.check_explainers(request.plan.explainers)
    request = request.model_copy(update={"model": resolve_model(request.model, access).reference})
    plan = request.plan.training
    load = functools.partial(load_classifier, access=access, device=device)
    start = with_random_weights(request.model, plan.seed, 0)
    asked = request.training_request(plan, start)
    with blaming_training():
        images, validation = read_training_images(asked, access, images=images, validation=validation)
    first = load(start)
    sets = training_sets(asked, first, images, validation, access.limits)
    run = RoarRun(
        request,
        load,
        sets.training,
        sets.validation,
        first=first,
        roar_id=roar_id or str(uuid.uuid4()),
        state=state,
        limits=access.limits,
        clock=clock,
    )
    run.run(progress=progress, keep_state=keep_state)
    return make_roar_report(request, run, training=sets.training, validation=sets.validation, left_out=sets.left_out)
