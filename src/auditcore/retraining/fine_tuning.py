"""A model that is used to missing pixels, and the images on which it is measured."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.access import AccessRules
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.retraining.cost import RetrainingCost
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.shards import ModelRecord
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.report import LeftOutImage, TrainingReport
from auditcore.contracts.training.request import HeldOut
from auditcore.contracts.training.trainable_models import require_trainable
from auditcore.costs.estimate import weight
from auditcore.costs.retraining import training_passes
from auditcore.engine.model_records import model_record
from auditcore.errors import InvalidRequest
from auditcore.explainers.registry import applicability
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.retraining.pixel_ranks import IMAGES_AT_ONCE, labels_of
from auditcore.retraining.speed import measured_speed, require_budget
from auditcore.retraining.training_faults import blaming_training
from auditcore.sources.resolving import resolve_model
from auditcore.training.labeled_images import LabeledImages, read_labeled
from auditcore.training.local_training import read_training_images, training_sets
from auditcore.training.results import make_report
from auditcore.training.training_run import TrainingRun

FineTunedRequest = FFidelityRequest | IdsdsRequest

PassesOfMeasure = Callable[[Sequence[Explainer], int, InputShape], Passes]
"""(explainers that run, images, shape of the input) -> passes on the fine-tuned model."""


@final
@dataclass(frozen=True)
class FineTuned:
    """A measurement whose model is ready.

    Attributes:
        request: With a pinned model.
        measured: The model that is asked about images with missing pixels.
        explained: The model that makes the maps.
        records: Of `measured` and of `explained`.
        images: The images that are measured.
        targets: Class whose score is read and explained, for each image.
        logits: Of the images as they are, on the CPU.
        able: Explainers that run on the model, and the control.
        unable: Name of an explainer that cannot run on the model -> why.
        training: The report of the fine-tuning; None if the model is measured as it was given.
        left_out: Images that could not be used.
        estimate: What was expected before anything was trained.
        tick: Called after each batch; may raise AuditCancelled.
        began: The clock when computing began, without the trial of the speed.
        passes_before: Passes of the model before that.
    """

    request: FineTunedRequest
    measured: Classifier
    explained: Classifier
    records: tuple[ModelRecord, ModelRecord]
    images: LabeledImages
    targets: Int[Tensor, " image"]
    logits: Float[Tensor, "image class"]
    able: tuple[Explainer, ...]
    unable: dict[str, str]
    training: TrainingReport | None
    left_out: tuple[LeftOutImage, ...]
    estimate: RetrainingCost
    tick: Callable[[], None]
    began: float
    passes_before: Passes


@dataclass(frozen=True)
class _Data:
    """The images of a measurement.

    Attributes:
        training: To fine-tune on; None if nothing is trained.
        measured: To measure on.
        left_out: Images that could not be used.
    """

    training: LabeledImages | None
    measured: LabeledImages
    left_out: tuple[LeftOutImage, ...]


def fine_tuned(
    request: FineTunedRequest,
    passes: PassesOfMeasure,
    *,
    images: Sequence[EncodedImage] | None,
    validation: Sequence[EncodedImage] | None,
    access: AccessRules,
    device: torch.device | str,
    progress: Callable[[float], None],
    keep_weights: Callable[[bytes], None],
    clock: Callable[[], float],
) -> FineTuned:
    """Fine-tune the model of a request, if its plan says so, and predict the images that are measured.

    Args:
        request: What to measure.
        passes: What the measure costs on the fine-tuned model.
        images: Encoded images to use instead of `request.images`.
        validation: Encoded images to use instead of `request.validation`.
        access: What the request may reach.
        device: Where the model runs.
        progress: Called with the share done, in [0,1]; may raise AuditCancelled.
        keep_weights: Called once with the fine-tuned weights.
        clock: Seconds, monotonic.

    Raises:
        InputError: The request cannot be carried out; `field` says where, the message says how to fix it.
    """
    access.check_explainers(request.plan.explainers)
    plan = request.plan.training
    if plan is not None:
        require_trainable(request.model)
    request = request.model_copy(update={"model": resolve_model(request.model, access).reference})
    start = load_classifier(request.model, access=access, device=device)
    if start.scores != "softmax":
        msg = (
            "the model has several labels per image, and this measure explains one class per image; it is defined for "
            "models with softmax scores"
        )
        raise InvalidRequest(msg, field="model.scores")
    data = _data(request, plan, start, images, validation, access)
    reasons = {one.label: applicability(start, one) for one in request.plan.explained}
    unable = {label: reason for label, reason in reasons.items() if reason is not None}
    able = tuple(one for one in request.plan.explained if one.label not in unable)
    measuring = passes(able, len(data.measured), start.shape)
    estimate = _estimate(request, plan, start, data, measuring, clock)
    require_budget(request.budget_seconds, estimate)
    whole = max(1.0, estimate.forward_images + weight(Passes(0, estimate.backward_images)))
    share = 1 - weight(measuring) / whole if plan is not None else 0.0

    began, ledger = clock(), start.ledger
    passes_before = Passes(ledger.forward_images, ledger.backward_images)
    report, measured = None, start
    if plan is not None and data.training is not None:
        report, measured, weights = _trained(
            request, plan, start, data, lambda done: progress(share * done), access, clock
        )
        keep_weights(weights)
    before = ledger.forward_images + weight(Passes(0, ledger.backward_images))

    def tick() -> None:
        done = ledger.forward_images + weight(Passes(0, ledger.backward_images)) - before
        progress(min(1.0, share + (1 - share) * done / max(1.0, weight(measuring))))

    logits = _logits(measured, data.measured, tick)
    given = isinstance(request, FFidelityRequest) and request.plan.explained_model == "given"
    own = model_record(start)
    tuned = own if report is None else report.trained.record
    return FineTuned(
        request=request,
        measured=measured,
        explained=start if given else measured,
        records=(tuned, own if given else tuned),
        images=data.measured,
        targets=labels_of(data.measured) if request.plan.target == "label" else logits.argmax(dim=1),
        logits=logits,
        able=able,
        unable=unable,
        training=report,
        left_out=data.left_out,
        estimate=estimate,
        tick=tick,
        began=began,
        passes_before=passes_before,
    )


def _data(
    request: FineTunedRequest,
    plan: TrainingPlan | None,
    start: Classifier,
    images: Sequence[EncodedImage] | None,
    validation: Sequence[EncodedImage] | None,
    access: AccessRules,
) -> _Data:
    """The images to fine-tune on and those to measure; without a training nothing is held out."""
    # how to train does not matter for reading
    asked = request.training_request(plan or TrainingPlan(epochs=1), request.model)
    if plan is not None:
        with blaming_training():
            images, validation = read_training_images(asked, access, images=images, validation=validation)
        sets = training_sets(asked, start, images, validation, access.limits)
        return _Data(sets.training, sets.validation, sets.left_out)
    own = validation is not None or not isinstance(request.validation, HeldOut)
    # what is not measured is not read
    images, validation = read_training_images(asked, access, images=() if own else images, validation=validation)
    encoded = images if validation is None else validation
    found, left_out = read_labeled(encoded, use="validation" if own else "training", model=start, limits=access.limits)
    return _Data(None, found, left_out)


def _estimate(
    request: FineTunedRequest,
    plan: TrainingPlan | None,
    start: Classifier,
    data: _Data,
    measuring: Passes,
    clock: Callable[[], float],
) -> RetrainingCost:
    asked = None if plan is None else request.training_request(plan, request.model)
    training = data.training if data.training is not None else data.measured
    with blaming_training():
        speed = measured_speed(asked, start, training, data.measured, clock)
    passes, seconds = measuring, speed.passes(measuring)
    if plan is not None:
        counts = {"training_images": len(training), "validation_images": len(data.measured)}
        passes = passes.plus(training_passes(plan, shape=start.shape, **counts))
        seconds += speed.training(plan, **counts)
    return RetrainingCost(
        trainings=0 if plan is None else 1,
        forward_images=passes.forward,
        backward_images=passes.backward,
        seconds=seconds,
        device=str(start.device),
    )


def _trained(
    request: FineTunedRequest,
    plan: TrainingPlan,
    start: Classifier,
    data: _Data,
    progress: Callable[[float], None],
    access: AccessRules,
    clock: Callable[[], float],
) -> tuple[TrainingReport, Classifier, bytes]:
    assert data.training is not None  # noqa: S101 - the caller has asked
    asked = request.training_request(plan, request.model)
    with blaming_training():
        run = TrainingRun(asked, start, data.training, data.measured, limits=access.limits, clock=clock)
        end = run.advance(progress=progress)
    assert end.stopped is not None  # noqa: S101 - nobody has said that it is enough
    weights = run.weights()
    report = make_report(
        str(uuid.uuid4()),
        asked,
        run,
        start=start,
        training=data.training,
        validation=data.measured,
        left_out=data.left_out,
        weights=weights,
        stopped=end.stopped,
    )
    return report, run.network.frozen, weights


def _logits(classifier: Classifier, images: LabeledImages, tick: Callable[[], None]) -> Float[Tensor, "image class"]:
    found = torch.empty(len(images), classifier.classes)

    def work(part: slice) -> None:
        found[part] = classifier.logits(images.pixels(range(len(images))[part]).to(classifier.device)).cpu()

    MicroBatches(IMAGES_AT_ONCE).each(len(images), work, tick=tick)
    return found
