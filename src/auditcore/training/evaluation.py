"""How good the predictions are, and the explanations, after an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from auditcore.contracts.access import Limits
from auditcore.contracts.images import ImageBatchReference
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import Scores
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import Measurement
from auditcore.contracts.training.plan import EpochAudit
from auditcore.contracts.training.report import EpochMeasurement
from auditcore.engine.shard_task import Runtime
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.orchestration.audit_run import AuditRun
from auditcore.orchestration.in_memory_storage import InMemoryStorage
from auditcore.orchestration.sharding import shard_ranges
from auditcore.training.labeled_images import LabeledImages
from auditcore.training.network import Network

VALIDATION_BATCH = 128
"""Images of a validation pass; without gradients, so that they need less memory than a step."""


class Validation(NamedTuple):
    """How good the predictions of validation images are.

    Attributes:
        loss: Mean cross-entropy with the labels as they are.
        score: In [0,1]; see `Epoch.validation_score`.
    """

    loss: float
    score: float | None


def validate(network: Network, images: LabeledImages) -> Validation:
    """Predict validation images in evaluation mode."""
    logits = _in_batches(network.predicted, network.device, images)
    truth = images.truth.to(logits.device)
    loss = network.losses(logits, one_hot(truth)).double().mean()
    return Validation(float(loss), score(logits, truth, network.scores))


def predicted(classifier: Classifier, images: LabeledImages) -> Float[Tensor, "image class"]:
    """Logits of all images, without gradients."""
    return _in_batches(classifier.logits, classifier.device, images)


def _in_batches(
    predict: Callable[[Tensor], Tensor], device: torch.device, images: LabeledImages
) -> Float[Tensor, "image class"]:
    starts = range(0, len(images), VALIDATION_BATCH)
    rows = [range(start, min(start + VALIDATION_BATCH, len(images))) for start in starts]
    return torch.cat([predict(images.pixels(some).to(device)) for some in rows])


def one_hot(truth: Bool[Tensor, "image class"]) -> Float[Tensor, "image class"]:
    """Labels as they are, as numbers: 1 for a true class, 0 for another."""
    return truth.float()


def score(logits: Float[Tensor, "image class"], truth: Bool[Tensor, "image class"], scores: Scores) -> float | None:
    """Quality of predictions in [0,1]; higher is better.

    Args:
        logits: Of the images.
        truth: Whether a class is a true one of the image.
        scores: `softmax`: share of images whose most probable class is true. `sigmoid`: mean average precision over
            the classes that are true of some image and not of all.

    Returns:
        The score; None for `sigmoid` if there is no such class.
    """
    if scores == "softmax":
        return float(truth.gather(1, logits.argmax(dim=1, keepdim=True)).double().mean())
    mixed = truth.any(dim=0) & ~truth.all(dim=0)
    if not bool(mixed.any()):
        return None
    from sklearn.metrics import average_precision_score  # noqa: PLC0415 - only this needs it, and each worker would load it

    return float(
        average_precision_score(truth[:, mixed].cpu().numpy(), logits[:, mixed].cpu().numpy(), average="macro")
    )


def measure_explanations(
    network: Network, images: LabeledImages, wanted: EpochAudit, reference: ModelReference, limits: Limits
) -> tuple[EpochMeasurement, ...]:
    """Run a small audit on the first validation images, with the weights of this moment; means per metric.

    Args:
        network: The network in training.
        images: Validation images.
        wanted: What to measure.
        reference: How the request names the model; it is not loaded.
        limits: Sizes that are checked before a file is decoded.

    Raises:
        InputError: The plan cannot be carried out on this model.
    """
    own = images.take(range(min(wanted.images, len(images))))
    # the images themselves are in the storage
    request = AuditRequest(model=reference, images=ImageBatchReference(digest=own.digest), plan=wanted.plan)
    storage = InMemoryStorage([_numbered(image, number) for number, image in enumerate(own.encoded)])
    run = AuditRun("training", request, wanted.plan, images=len(own), storage=storage, picture_images=0)
    classifier = network.frozen
    for shard in shard_ranges(wanted.plan, images=len(own), shard_images=len(own), models=1):
        storage.keep_result(
            shard, run.run_shard(shard, Runtime(classifier, limits=limits, micro_batch=VALIDATION_BATCH))
        )
    return tuple(_mean(one) for result in storage.results("compute") for one in result.measurements)


def _numbered(image: EncodedImage, number: int) -> EncodedImage:
    return replace(image, index=number)


def _mean(measured: Measurement) -> EpochMeasurement:
    values = [value for value in measured.values if value is not None]
    reasons = list(measured.reasons.values())
    return EpochMeasurement(
        check=measured.check,
        explainer=measured.explainer,
        metric=measured.metric,
        variant=measured.variant,
        mean=math.fsum(values) / len(values) if values else None,
        n=len(values),
        reason=None if values else (reasons[0] if reasons else "no image has a value"),
        control=measured.control,
    )
