"""The first pass over the originals: what the model predicts, which classes are explained, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ExplainedClass, ImageRecord
from auditcore.contracts.significance import rounded
from auditcore.devices.transfer import numbers_on, to_device
from auditcore.engine.targets import Choice, choose_targets
from auditcore.explainers.attribution import MadePasses
from auditcore.explainers.registry import applicability, layers_read
from auditcore.explainers.shared_pass import pass_once
from auditcore.images.batch import DecodedBatch
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import UploadedMaps
from auditcore.models.classifier import Classifier
from auditcore.models.sanity import is_invalid
from auditcore.random_numbers.streams import Streams


def predict_originals(
    classifier: Classifier,
    batch: DecodedBatch,
    decoded: Sequence[EncodedImage],
    plan: AuditPlan,
    *,
    tick: Callable[[], None],
    micro_batches: MicroBatches,
    shared: Mapping[str, tuple[float, ...]],
    colors: dict[str, Tensor],
    explained: Collection[Explainer],
    uploaded: Mapping[str, UploadedMaps],
) -> tuple[ImageGroup | None, list[ImageRecord]]:
    """Predict the originals once, choose the classes each image is explained for, and give each class a row.

    Where maps will be computed and every image has one target, the same pass also gives the gradients that explainers
    of the plan read: the graph is kept until the logits have decided the target.

    Args:
        classifier: The model under audit.
        batch: Decoded images.
        decoded: The same images encoded, for their labels and names.
        plan: Decides on targets and explainers.
        tick: Called between micro-batches; may raise AuditCancelled.
        micro_batches: How many images pass at once.
        shared: Quantities of the whole audit.
        colors: Logits of images of one color, kept for the whole shard.
        explained: Explainers whose maps of the originals will be computed.
        uploaded: Files of uploaded maps by their digest.

    Returns:
        The group, or None when no image has a target; and a record of every image.

    Raises:
        ModelOutputInvalid: The model returned NaN or infinite logits.
    """
    pixels = to_device(batch.pixels, classifier.device)
    labels = [image.labels for image in decoded]
    gradient, layers = read_by_explainers(classifier, explained) if has_one_target(plan, labels) else (False, ())
    made: list[MadePasses] = []

    # one target per image: its label, or what the model predicts; the gradient of an image without a target is not read
    labelled = numbers_on([own[0] if own else 0 for own in labels], classifier.device, torch.long)

    def work(part: slice) -> None:
        targets = labelled[part] if plan.target == "label" else None
        passed = pass_once(classifier, classifier.normalize(pixels[part]), targets, gradient=gradient, layers=layers)
        made.append(passed)

    micro_batches.each(len(pixels), work, tick=tick)
    known = _joined(made)
    # the host waits for the device here for the first time, once for all images of the group
    logits = None if known.logits is None else known.logits.cpu()
    if logits is not None and is_invalid(logits):
        raise classifier.guard.error()
    choices = [] if logits is None else choose_targets(plan, classifier, logits, labels)
    predicted = [] if logits is None else logits.argmax(dim=1).tolist()
    records = [
        left_out(image, choice, predicted=most_probable)
        for image, choice, most_probable in zip(decoded, choices, predicted, strict=True)
        if choice.reason is not None
    ]
    rows = [(position, target) for position, choice in enumerate(choices) for target in choice.targets]
    if not rows or known.logits is None:
        return None, records
    owners = torch.tensor([position for position, _ in rows], device=classifier.device)
    targets = torch.tensor([target for _, target in rows], device=classifier.device)
    group = ImageGroup(
        classifier=classifier,
        pixels=pixels[owners],
        indices=tuple(decoded[position].index for position, _ in rows),
        targets=targets,
        probabilities=classifier.probabilities(known.logits)[owners, targets],
        streams=Streams(plan.seed, tuple(batch.digests[position] for position, _ in rows)),
        explainers=plan.explainers,
        tick=tick,
        micro_batches=micro_batches,
        shared=shared,
        boxes=tuple(
            tuple(found.pixels for found in batch.boxes[position] if found.label in {None, target})
            for position, target in rows
        )
        if batch.boxes
        else (),
        masks=tuple(
            tuple(found.pixels for found in batch.masks[position] if found.label in {None, target})
            for position, target in rows
        )
        if batch.masks
        else (),
        passes=known.take(owners.tolist()),
        colors=colors,
        uploaded={
            digest: maps.rows(
                [decoded[position].index for position, _ in rows],
                [batch.digests[position] for position, _ in rows],
                [target for _, target in rows],
                shape=classifier.shape,
            )
            for digest, maps in uploaded.items()
        },
    )
    return group, [*records, *_used_records(group, decoded, predicted)]


def has_one_target(plan: AuditPlan, labels: Sequence[tuple[int, ...]]) -> bool:
    """Whether no image can have more than one target, so that one backward pass serves all images."""
    if plan.target == "label":
        return all(len(own) <= 1 for own in labels)
    return plan.target == "predicted" or plan.top_n == 1


def read_by_explainers(classifier: Classifier, explainers: Iterable[Explainer]) -> tuple[bool, tuple[str, ...]]:
    """Whether any of the explainers reads the plain model's input gradient, and which layers they read."""
    able = [explainer for explainer in explainers if applicability(classifier, explainer) is None]
    gradient = any("input_gradient" in explainer.shared_passes for explainer in able)
    return gradient, layers_read(classifier, able)


def left_out(image: EncodedImage, choice: Choice, *, predicted: int | None = None) -> ImageRecord:
    """The record of an image without a target, with its most probable class if the model has seen it."""
    return ImageRecord(
        index=image.index,
        name=image.name,
        digest=image.digest,
        label=image.label,
        predicted=predicted,
        code=choice.code,
        reason=choice.reason,
    )


def _used_records(group: ImageGroup, decoded: Sequence[EncodedImage], predicted: Sequence[int]) -> list[ImageRecord]:
    explained: dict[int, list[ExplainedClass]] = {}
    for index, target, probability in zip(
        group.indices, group.targets.tolist(), group.probabilities.tolist(), strict=True
    ):
        explained.setdefault(index, []).append(ExplainedClass(target=target, probability=rounded(probability)))
    return [
        ImageRecord(
            index=image.index,
            name=image.name,
            digest=image.digest,
            label=image.label,
            targets=tuple(explained[image.index]),
            predicted=most_probable,
        )
        for image, most_probable in zip(decoded, predicted, strict=True)
        if image.index in explained
    ]


def _joined(made: Sequence[MadePasses]) -> MadePasses:
    """Passes of consecutive parts of a batch as one."""
    whole = MadePasses()
    logits = [each.logits for each in made if each.logits is not None]
    gradients = [each.gradient for each in made if each.gradient is not None]
    whole.logits = torch.cat(logits) if logits else None
    whole.gradient = torch.cat(gradients) if gradients else None
    for name in made[0].features if made else ():
        outputs, slopes = zip(*(each.features[name] for each in made), strict=True)
        whole.features[name] = (torch.cat(outputs), torch.cat(slopes))
    return whole
