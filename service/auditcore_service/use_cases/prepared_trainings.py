"""Every check that a training passes before it is accepted, and its price. Stores nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from auditcore.contracts.image_names import inline_name, uri_name
from auditcore.contracts.images import (
    ImageBatchReference,
    ImagesReference,
    ImageUris,
    InlineImages,
    Labels,
    TensorImages,
    labels_of,
)
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import FactoryModel, Scores, TimmModel, TorchvisionModel
from auditcore.contracts.training.allowed_explainers import check_training_explainers
from auditcore.contracts.training.class_shares import held_out_images, training_images, training_steps
from auditcore.contracts.training.label_rules import check_labels, require_different_labels
from auditcore.contracts.training.request import HeldOut, TrainingRequest
from auditcore.contracts.training.trainable_models import require_scores, require_trainable
from auditcore.costs.cost_model import Estimate
from auditcore.costs.training_estimate import training_estimate
from auditcore.errors import InputError, InvalidRequest, LimitExceeded
from auditcore.sources.resolving import resolve_model
from auditcore_service.principals import Principal
from auditcore_service.settings import Settings
from auditcore_service.store.batches import find_batch
from auditcore_service.store.database import Database
from auditcore_service.use_cases.deleted_objects import missing_batch
from auditcore_service.use_cases.estimates import measured_training_speed
from auditcore_service.use_cases.image_batches import ImageBatches
from auditcore_service.use_cases.refusals import Refusal


@final
@dataclass(frozen=True)
class LabeledSet:
    """Images of a request, as far as they are known without looking at them.

    Attributes:
        reference: Where they are; files of tensors with their digest.
        names: Name of each, if it has one.
        labels: Of each.
    """

    reference: ImagesReference
    names: Sequence[str | None]
    labels: Sequence[Labels | None]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)


@final
@dataclass(frozen=True)
class PreparedTrainingRequest:
    """A training that can be carried out, as far as that is known without its images and its model.

    Attributes:
        request: The request, about the model as it is now and files of tensors as they are now.
        images: Number of images, for training and for validation.
        steps: Number of steps if every image can be decoded; there are never more.
        estimate: What it is expected to cost.
        objection: Why the operator's budget forbids this price, and what to reduce; None if it does not.
    """

    request: TrainingRequest
    images: int
    steps: int
    estimate: Estimate
    objection: str | None


@final
class PreparedTrainings:
    """Checks and prices."""

    def __init__(self, settings: Settings, *, database: Database, batches: ImageBatches) -> None:
        self._settings = settings
        self._database = database
        self._batches = batches

    def prepare(self, principal: Principal, request: TrainingRequest) -> PreparedTrainingRequest:
        """Check a training and price it.

        Raises:
            InputError: It cannot be carried out.
            InvalidUpload: An inline image is empty.
        """
        access, plan = self._settings.access, request.plan
        require_trainable(request.model)
        check_training_explainers(plan, access)
        require_scores(plan.method, _scores_of(request.model))
        request = request.model_copy(update={"model": resolve_model(request.model, access).reference})
        training = self._set(principal, request, request.images)
        _check(training, request.model, field="images")
        require_different_labels(labels_of(label) for label in training.labels)
        changes: dict[str, object] = {"images": training.reference}
        held_out = request.validation if isinstance(request.validation, HeldOut) else None
        if isinstance(request.validation, HeldOut):
            images = _held_out(training, request.validation)
        else:
            with _naming_validation():
                given = self._set(principal, request, request.validation)
                _check(given, request.model, field="images")
            changes["validation"] = given.reference
            images = len(given)
        learned = training_images(training.labels, plan, held_out=held_out)
        with self._database.reading(principal.tenant) as connection:
            measured = measured_training_speed(connection, request.model, plan)
        estimate = training_estimate(
            plan,
            request.model,
            training=learned,
            validation=images,
            passes_per_s=self._settings.passes_per_s,
            measured=measured,
        )
        return PreparedTrainingRequest(
            request=request.model_copy(update=changes),
            images=len(training) + (0 if held_out is not None else images),
            steps=training_steps(learned, plan),
            estimate=estimate,
            objection=_objection_to(estimate, self._settings),
        )

    def _set(self, principal: Principal, request: TrainingRequest, images: ImagesReference) -> LabeledSet:
        self._settings.access.check_images(images)
        match images:
            case ImageBatchReference(digest=digest):
                with self._database.reading(principal.tenant) as connection:
                    manifest = find_batch(connection, digest)
                    if manifest is None:
                        raise InvalidRequest(missing_batch(connection, digest).message, field="images.digest")
                entries = manifest.entries
                return LabeledSet(images, [entry.name for entry in entries], [entry.label for entry in entries])
            case ImageUris(uris=uris):
                limit = self._settings.batch_images
                if len(uris) > limit:
                    raise LimitExceeded(
                        what="the list of images", limit=limit, actual=len(uris), unit="images", field="images.uris"
                    )
                return LabeledSet(images, [uri_name(one.uri) for one in uris], [one.label for one in uris])
            case InlineImages(images=inline):
                self._batches.check_inline(inline)
                names = [inline_name(number) for number in range(len(inline))]
                return LabeledSet(images, names, [one.label for one in inline])
            case TensorImages() as tensors:
                count, pinned = self._batches.pin_tensors(principal, tensors, request)
                return LabeledSet(pinned, [None] * count, pinned.labels or [None] * count)


def _check(images: LabeledSet, model: ModelReference, *, field: str) -> None:
    for index, (name, label) in enumerate(zip(images.names, images.labels, strict=True)):
        check_labels(
            labels_of(label),
            index=index,
            name=name,
            classes=_classes_of(model),
            scores=_scores_of(model),
            field=field,
        )


def _held_out(images: LabeledSet, held_out: HeldOut) -> int:
    """Number of images that are held out for validation.

    Raises:
        InvalidRequest: No class has a second image.
    """
    counts: dict[int, int] = {}
    for label in images.labels:
        first = min(labels_of(label))
        counts[first] = counts.get(first, 0) + 1
    taken = sum(held_out_images(count, held_out.share) for count in counts.values())
    if not taken:
        msg = "no class has two images, so none can be held out; send images for validation, or more training images"
        raise InvalidRequest(msg, field="validation")
    return taken


def _scores_of(model: ModelReference) -> Scores:
    return model.scores if isinstance(model, TorchvisionModel | TimmModel | FactoryModel) else "softmax"


def _classes_of(model: ModelReference) -> int | None:
    """Number of classes, if the reference says it."""
    return model.classes if isinstance(model, TorchvisionModel | TimmModel) else None


@contextmanager
def _naming_validation() -> Iterator[None]:
    """Errors about images name the field of the validation images."""
    try:
        yield
    except (InputError, Refusal) as error:
        if error.field is not None:
            error.field = error.field.replace("images", "validation", 1)
        raise


def _objection_to(estimate: Estimate, settings: Settings) -> str | None:
    """Why the operator's budget forbids a training, and what to reduce; None if it does not."""
    limits = (
        (estimate.seconds, settings.budget_s, "seconds of workers"),
        (float(estimate.passes), settings.budget_passes, "forward passes"),
    )
    excesses = [(value, float(budget), unit) for value, budget, unit in limits if budget is not None and value > budget]
    if not excesses:
        return None
    found = " and ".join(f"{value:.10g} {unit}, above the budget of {budget:.10g}" for value, budget, unit in excesses)
    return (
        f"the training is estimated at {found} ({estimate.basis}, {estimate.passes_per_s:g} passes per second); use "
        "fewer images or epochs, or a smaller audit after them; the operator can raise AUDIT_BUDGET_S or "
        "AUDIT_BUDGET_PASSES"
    )
