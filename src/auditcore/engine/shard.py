"""One shard: a plan and a few consecutive images become a shard result."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping, Sequence

import torch

from auditcore.checks.chunk import Chunk
from auditcore.checks.measuring import measurement
from auditcore.checks.table import CHECKS
from auditcore.contracts.access import Limits
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.estimate import BACKWARD_COST, passes_of
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Cost, ImageRecord, Measurement, ModelRecord, ShardResult, SharedSample, Wave
from auditcore.contracts.significance import significant
from auditcore.engine.environment import describe_environment
from auditcore.engine.pictures import Pictures, draw_pictures
from auditcore.errors import LabelOutOfRange
from auditcore.images.batch import DecodedBatch, decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.streams import Streams

PIXELS_A_PASS = {"cpu": 4 * 224 * 224, "cuda": 64 * 224 * 224}
"""Pixels that go through the model together. On two cores the demo model computes 57 gradients a second in batches of 4
and 35 in batches of 32, which leave the cache and take 3.5 GB instead of 1.2; forward passes vary less, 156 to 128."""


def default_micro_batch(classifier: Classifier) -> int:
    """Images a pass for this model and device."""
    return max(1, PIXELS_A_PASS.get(classifier.device.type, PIXELS_A_PASS["cpu"]) // classifier.size**2)


def run_shard(
    *,
    classifier: Classifier,
    images: Sequence[EncodedImage],
    plan: AuditPlan,
    wave: Wave,
    shared: Mapping[str, tuple[float, ...]],
    limits: Limits,
    progress: Callable[[float], None],
    clock: Callable[[], float],
    micro_batch: int | None = None,
    pictures: Pictures | None = None,
) -> ShardResult:
    """Run one wave of a plan on some images.

    Args:
        classifier: The model under audit; its ledger is read before and after.
        images: Encoded images in index order; those that cannot be decoded are recorded and left out.
        plan: What to measure.
        wave: `measure` collects contributions to shared quantities, `compute` runs the checks.
        shared: Quantities of the whole audit, from `reduce_shared`; empty in the first wave.
        limits: Sizes checked before decoding.
        progress: Called between micro-batches with the share done in [0,1]; may raise AuditCancelled.
        clock: Seconds, monotonic.
        micro_batch: Images a pass, chosen by device if None; scores do not depend on it beyond rounding.
        pictures: Which images of the compute wave are drawn, and where the pictures go; none if None.

    Raises:
        LabelOutOfRange: A label is not a class of this model.
        ModelOutputInvalid: The model returned NaN or infinite logits.
    """
    started, ledger = clock(), classifier.ledger
    forward_before, backward_before = ledger.forward_images, ledger.backward_images
    if classifier.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(classifier.device)
    expected = max(1, passes_of(plan, wave=wave) * len(images))

    def tick() -> None:
        forward = ledger.forward_images - forward_before
        backward = ledger.backward_images - backward_before
        progress(min(1.0, (forward + BACKWARD_COST * backward) / expected))

    _check_labels(images, classifier)
    explainable = _with_label(images, plan)
    batch = decode_batch(explainable, classifier.preprocessing, limits)
    used = [explainable[position] for position in batch.used]
    measurements: list[Measurement] = []
    samples: list[SharedSample] = []
    records = [*batch.excluded, *_unlabeled(images, plan)]
    unable: dict[str, str] = {}
    artifacts: tuple[Artifact, ...] = ()
    if used:
        chunk = _chunk(classifier, batch, used, plan, tick, micro_batch or default_micro_batch(classifier))
        records += _used_records(chunk, used)
        if wave == "measure":
            samples = _measure(plan, chunk)
        else:
            measurements = _compute(plan, chunk, shared)
            unable = chunk.unable
            artifacts = () if pictures is None else draw_pictures(chunk, pictures)
    progress(1.0)
    return ShardResult(
        wave=wave,
        images=tuple(sorted(records, key=lambda record: record.index)),
        measurements=tuple(measurements),
        shared=tuple(samples),
        not_applicable=unable,
        artifacts=artifacts,
        model=ModelRecord(
            digest=classifier.digest,
            classes=classifier.classes,
            parameters=classifier.parameters,
            trained=classifier.trained,
            preprocessing=classifier.preprocessing,
        ),
        cost=Cost(
            forward_images=ledger.forward_images - forward_before,
            backward_images=ledger.backward_images - backward_before,
            seconds=clock() - started,
            device=str(classifier.device),
            peak_memory_bytes=_peak_memory_bytes(classifier.device),
        ),
        environment=describe_environment(classifier.device),
    )


def _measure(plan: AuditPlan, chunk: Chunk) -> list[SharedSample]:
    samples: list[SharedSample] = []
    for check in plan.checks:
        measure = CHECKS[type(check)].measure_shared
        if measure is not None:
            samples += measure(check, chunk)
    return samples


def _compute(plan: AuditPlan, chunk: Chunk, shared: Mapping[str, tuple[float, ...]]) -> list[Measurement]:
    found: list[Measurement] = []
    for check in plan.checks:
        found += CHECKS[type(check)].compute(check, chunk, shared)
    for explainer in chunk.able:
        for metric, values in chunk.original(explainer).controls.items():
            found.append(
                measurement(
                    None,
                    metric,
                    values.cpu(),
                    indices=chunk.indices,
                    explainer=explainer.label,
                    undefined="the logit it is relative to is 0",
                )
            )
    return found


def _chunk(
    classifier: Classifier,
    batch: DecodedBatch,
    used: Sequence[EncodedImage],
    plan: AuditPlan,
    tick: Callable[[], None],
    micro_batch: int,
) -> Chunk:
    """Predict the originals once and fix the class each image is explained for."""
    pixels = batch.pixels.to(classifier.device)
    logits = torch.cat([classifier.logits(part) for part in pixels.split(micro_batch)])
    if plan.target == "label":
        targets = torch.tensor([image.label for image in used], device=classifier.device)
    else:
        targets = logits.argmax(dim=1)
    return Chunk(
        classifier=classifier,
        pixels=pixels,
        indices=tuple(image.index for image in used),
        targets=targets,
        probabilities=classifier.probabilities(logits).gather(1, targets[:, None])[:, 0],
        streams=Streams(plan.seed, tuple(batch.digests)),
        explainers=plan.explainers,
        tick=tick,
        micro_batch=micro_batch,
    )


def _check_labels(images: Sequence[EncodedImage], classifier: Classifier) -> None:
    for image in images:
        if image.label is not None and image.label >= classifier.classes:
            raise LabelOutOfRange(label=image.label, classes=classifier.classes, field=f"images.labels.{image.index}")


def _with_label(images: Sequence[EncodedImage], plan: AuditPlan) -> list[EncodedImage]:
    return [image for image in images if plan.target == "predicted" or image.label is not None]


def _unlabeled(images: Sequence[EncodedImage], plan: AuditPlan) -> list[ImageRecord]:
    if plan.target == "predicted":
        return []
    return [
        ImageRecord(
            index=image.index,
            name=image.name,
            digest=image.digest,
            code="label_missing",
            reason="the plan explains given labels, but this image has none; upload it with a label",
        )
        for image in images
        if image.label is None
    ]


def _used_records(chunk: Chunk, used: Sequence[EncodedImage]) -> list[ImageRecord]:
    return [
        ImageRecord(
            index=image.index,
            name=image.name,
            digest=digest,
            label=image.label,
            target=target,
            probability=significant(probability),
        )
        for image, digest, target, probability in zip(
            used, chunk.streams.digests, chunk.targets.tolist(), chunk.probabilities.tolist(), strict=True
        )
    ]


def _peak_memory_bytes(device: torch.device) -> int:
    """Peak of the device's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
