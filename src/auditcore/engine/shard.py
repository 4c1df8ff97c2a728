"""One shard: a plan and a few consecutive images become a shard result."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from auditcore.checks.chunk import Chunk
from auditcore.checks.measuring import measurement, not_applicable
from auditcore.checks.table import CHECKS
from auditcore.contracts.access import Limits
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.estimate import BACKWARD_COST, passes_of
from auditcore.contracts.explainers import shared_key
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import (
    CheckCost,
    Cost,
    ExplainedClass,
    ImageRecord,
    Measurement,
    ModelRecord,
    ShardResult,
    SharedSample,
    Wave,
)
from auditcore.contracts.significance import rounded
from auditcore.engine.environment import describe_environment
from auditcore.engine.pictures import Pictures, draw_pictures
from auditcore.engine.targets import LABEL_MISSING, Choice, choose_targets, merge_targets, needs_labels
from auditcore.errors import LabelOutOfRange
from auditcore.explainers.attribution import Batch
from auditcore.explainers.table import EXPLAINERS
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
    model_name: str | None = None,
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
        model_name: What the audit calls the model, if it audits several.

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
    explainable = [image for image in images if image.labels or not needs_labels(plan)]
    batch = decode_batch(explainable, classifier.preprocessing, limits)
    decoded = [explainable[position] for position in batch.used]
    records = [*batch.excluded, *(_left_out(image, LABEL_MISSING) for image in images if image not in explainable)]
    meter = _Meter(classifier)
    measurements: list[Measurement] = []
    samples: list[SharedSample] = []
    unable: dict[str, str] = {}
    artifacts: tuple[Artifact, ...] = ()
    chunk = None
    if decoded:
        with meter.measuring("measure" if wave == "measure" else "originals"):
            chunk, seen = _predict(classifier, batch, decoded, plan, tick, micro_batch, shared)
        records += seen
    if chunk is not None:
        if wave == "measure":
            with meter.measuring("measure"):
                samples = _measure(plan, chunk)
        else:
            measurements = _compute(plan, chunk, shared, meter)
            unable = chunk.unable
            artifacts = () if pictures is None else draw_pictures(chunk, pictures, model_name=model_name)
    progress(1.0)
    return ShardResult(
        wave=wave,
        model_name=model_name,
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
            checks=meter.costs,
            seconds=clock() - started,
            device=str(classifier.device),
            peak_memory_bytes=_peak_memory_bytes(classifier.device),
        ),
        environment=describe_environment(classifier.device),
    )


@dataclass
class _Meter:
    """Passes by purpose, read off the model's ledger."""

    classifier: Classifier
    costs: dict[str, CheckCost] = field(default_factory=dict)

    @contextmanager
    def measuring(self, purpose: str) -> Iterator[None]:
        ledger = self.classifier.ledger
        forward, backward = ledger.forward_images, ledger.backward_images
        yield
        before = self.costs.get(purpose, CheckCost())
        self.costs[purpose] = CheckCost(
            forward_images=before.forward_images + ledger.forward_images - forward,
            backward_images=before.backward_images + ledger.backward_images - backward,
        )


def _measure(plan: AuditPlan, chunk: Chunk) -> list[SharedSample]:
    samples: list[SharedSample] = []
    for check in plan.checks:
        measure = CHECKS[type(check)].measure_shared
        if measure is not None:
            samples += measure(check, chunk)
    # a layer's statistics belong to images, however many targets each has
    first = [row for row, index in enumerate(chunk.indices) if index not in chunk.indices[:row]]
    for explainer in chunk.able:
        measure_layer = EXPLAINERS[type(explainer)].measure_shared
        if measure_layer is not None:
            images = Batch(
                chunk.classifier,
                chunk.pixels[first],
                chunk.targets[first],
                chunk.streams.take(first),
                chunk.micro_batch,
            )
            rows = tuple(tuple(row) for row in measure_layer(images, explainer))
            samples.append(SharedSample(key=shared_key(explainer), values=rows))
    return samples


def _compute(
    plan: AuditPlan, chunk: Chunk, shared: Mapping[str, tuple[float, ...]], meter: _Meter
) -> list[Measurement]:
    """Every check on one chunk; the maps that all of them need come first, so that no check pays for another."""
    with meter.measuring("originals"):
        for explainer in chunk.able:
            chunk.original(explainer)
    found: list[Measurement] = []
    for check in plan.checks:
        with meter.measuring(check.label):
            found += CHECKS[type(check)].compute(check, chunk, shared)
        for label, reason in chunk.unable.items():
            found += not_applicable(check, label, reason, indices=chunk.indices)
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
    return merge_targets(found, chunk.indices)


def _predict(
    classifier: Classifier,
    batch: DecodedBatch,
    decoded: Sequence[EncodedImage],
    plan: AuditPlan,
    tick: Callable[[], None],
    micro_batch: int | None,
    shared: Mapping[str, tuple[float, ...]],
) -> tuple[Chunk | None, list[ImageRecord]]:
    """Predict the originals once, fix the classes each image is explained for, and give each class a row.

    Returns:
        The chunk, None when no image has a target, and a record of every image.
    """
    micro_batch = micro_batch or default_micro_batch(classifier)
    pixels = batch.pixels.to(classifier.device)
    logits = torch.cat([classifier.logits(part) for part in pixels.split(micro_batch)])
    choices = choose_targets(plan, classifier, logits, [image.labels for image in decoded])
    rows = [(position, target) for position, choice in enumerate(choices) for target in choice.targets]
    records = [
        _left_out(image, choice) for image, choice in zip(decoded, choices, strict=True) if choice.reason is not None
    ]
    if not rows:
        return None, records
    owners = torch.tensor([position for position, _ in rows], device=classifier.device)
    targets = torch.tensor([target for _, target in rows], device=classifier.device)
    chunk = Chunk(
        classifier=classifier,
        pixels=pixels[owners],
        indices=tuple(decoded[position].index for position, _ in rows),
        targets=targets,
        probabilities=classifier.probabilities(logits)[owners, targets],
        streams=Streams(plan.seed, tuple(batch.digests[position] for position, _ in rows)),
        explainers=plan.explainers,
        tick=tick,
        micro_batch=micro_batch,
        shared=shared,
        boxes=tuple(
            tuple(found.pixels for found in batch.boxes[position] if found.label in {None, target})
            for position, target in rows
        )
        if batch.boxes
        else (),
    )
    return chunk, [*records, *_used_records(chunk, decoded)]


def _check_labels(images: Sequence[EncodedImage], classifier: Classifier) -> None:
    for image in images:
        for label in image.labels:
            if label >= classifier.classes:
                raise LabelOutOfRange(label=label, classes=classifier.classes, field=f"images.labels.{image.index}")
        for box in image.boxes:
            if box.label is not None and box.label >= classifier.classes:
                raise LabelOutOfRange(label=box.label, classes=classifier.classes, field=f"images.boxes.{image.index}")


def _left_out(image: EncodedImage, choice: Choice) -> ImageRecord:
    return ImageRecord(
        index=image.index,
        name=image.name,
        digest=image.digest,
        label=image.label,
        code=choice.code,
        reason=choice.reason,
    )


def _used_records(chunk: Chunk, decoded: Sequence[EncodedImage]) -> list[ImageRecord]:
    explained: dict[int, list[ExplainedClass]] = {}
    for index, target, probability in zip(
        chunk.indices, chunk.targets.tolist(), chunk.probabilities.tolist(), strict=True
    ):
        explained.setdefault(index, []).append(ExplainedClass(target=target, probability=rounded(probability)))
    return [
        ImageRecord(
            index=image.index,
            name=image.name,
            digest=image.digest,
            label=image.label,
            targets=tuple(explained[image.index]),
        )
        for image in decoded
        if image.index in explained
    ]


def _peak_memory_bytes(device: torch.device) -> int:
    """Peak of the device's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
