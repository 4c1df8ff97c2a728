"""One shard: a plan and a few consecutive images become a shard result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.checks.micro_batches import BESIDE_PASSES, MicroBatches, blaming_size
from auditcore.contracts.access import Limits
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.image_dependence import sketched_images
from auditcore.contracts.images import labels_of
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.shards import (
    Cost,
    DeviationSample,
    ImageRecord,
    MapSketches,
    Measurement,
    ShardResult,
    SharedSample,
)
from auditcore.costs.estimate import BACKWARD_COST
from auditcore.costs.passes import mapped_first
from auditcore.devices.arithmetic import arithmetic
from auditcore.devices.transfer import current
from auditcore.engine.compute_wave import compute_group, measure_deviations
from auditcore.engine.environment import describe_environment
from auditcore.engine.groups import group_size, groups_grow, join_measurements, join_samples, shortened_group
from auditcore.engine.map_sketches import join_sketches, sketch_originals
from auditcore.engine.measure_wave import measure_group
from auditcore.engine.model_records import model_record
from auditcore.engine.originals import left_out, predict_originals
from auditcore.engine.pass_meter import PassMeter, peak_memory_bytes
from auditcore.engine.pictures import Pictures, draw_pictures
from auditcore.engine.preparation import expected_work, notes_of, prepare_model
from auditcore.engine.reference_model import ReferenceModel
from auditcore.engine.shard_task import ReferenceTask, Runtime, ShardTask
from auditcore.engine.targets import ENDED_PROCESS, LABEL_MISSING, needs_labels
from auditcore.errors import LabelOutOfRange
from auditcore.explainers.registry import layers_named
from auditcore.images.batch import DecodedBatch, decode_ahead
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier

SMALL_PARTS = (
    "some files use only a small part of the range of their values, such as 12 bits in 16, so the model sees them "
    "almost black, gray or white; `images.items` says which. `preprocessing.bits`, `range` or `window` declare what "
    "the model knows"
)
"""A note of the report. Which files they are stands at each image, so that the note is the same for all shards."""

READY_TENSORS = (
    "images were sent as tensors ready for the model, so the report cannot say how they were made: of `preprocessing`, "
    "only mean and std apply, which say what black, white and the mean color are; nothing was resized or cropped"
)
"""A note of the report."""


def run_shard(task: ShardTask, runtime: Runtime) -> ShardResult:
    """Run one wave of a plan on some images.

    Args:
        task: What to compute.
        runtime: How to compute it.

    Returns:
        What was computed, with a record of each of the images. They are the first ones of the shard if
        `runtime.enough` has ended it early.

    Raises:
        AuditCancelled: `progress` has raised it.
        LabelOutOfRange: A label is not a class of this model.
        MemoryExhausted: Memory ran out where nothing can be made smaller.
        ModelOutputInvalid: The model returned NaN or infinite logits.
        ModelChanged: The server of a model gives another model than when the audit began.
    """
    classifier, speed = runtime.classifier, task.plan.speed
    references = {name: other.at_speed(speed) for name, other in runtime.references.items()}
    with arithmetic(speed, classifier.device), current(classifier.device), blaming_size(BESIDE_PASSES):
        return _run_shard(task, replace(runtime, classifier=classifier.at_speed(speed), references=references))


@dataclass
class _ShardRun:
    """A shard that is being computed: its groups of images one after the other, and what they have given so far.

    Attributes:
        task: What to compute.
        classifier: The model at the speed of the plan.
        pictures: What is drawn; nothing if None.
        meter: Counts passes by purpose.
        micro_batches: How many images pass at once.
        tick: Called between micro-batches; may raise AuditCancelled.
        references: The models with which checks compare this one.
        limits: Sizes that are checked before an image is decoded.
        records: What became of each image.
        colors: Logits of images of one color, kept for the whole shard.
        unable: Label of an explainer that cannot run on this model -> why.
        layers: Label of an explainer -> the layer that it looks at.
        ready: How many images were tensors ready for the model.
    """

    task: ShardTask
    classifier: Classifier
    pictures: Pictures | None
    meter: PassMeter
    micro_batches: MicroBatches
    tick: Callable[[], None]
    references: Sequence[ReferenceModel]
    limits: Limits
    records: list[ImageRecord]
    measurements: list[list[Measurement]] = field(default_factory=list)
    samples: list[list[SharedSample]] = field(default_factory=list)
    sketches: list[tuple[MapSketches, ...]] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    deviations: list[DeviationSample] = field(default_factory=list)
    colors: dict[str, Tensor] = field(default_factory=dict)
    file_notes: dict[int, str] = field(default_factory=dict)
    ready: int = 0
    unable: dict[str, str] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)

    def run_group(self, encoded: Sequence[EncodedImage], batch: DecodedBatch) -> None:
        """Run the wave on one group of images.

        Args:
            encoded: The images.
            batch: The same images decoded.
        """
        self.records += batch.excluded
        self.file_notes |= dict(batch.notes)
        self.ready += sum(batch.ready)
        decoded = [encoded[position] for position in batch.used]
        group = self._predict(decoded, batch) if decoded else None
        if group is None:
            return
        if self.task.wave == "measure":
            with self.meter.measuring("measure"):
                self.samples.append(measure_group(self.task.plan, group))
        else:
            rows = {one.name: one.rows_of(group, decoded, batch, self.limits) for one in self.references}
            self._compute(replace(group, references=rows))

    def _predict(self, decoded: Sequence[EncodedImage], batch: DecodedBatch) -> ImageGroup | None:
        task = self.task
        with self.meter.measuring("measure" if task.wave == "measure" else "originals"):
            group, seen = predict_originals(
                self.classifier,
                batch,
                decoded,
                task.plan,
                tick=self.tick,
                micro_batches=self.micro_batches,
                shared=task.shared,
                colors=self.colors,
                explained=task.plan.explainers if task.wave == "compute" else mapped_first(task.plan),
                uploaded=task.uploaded,
            )
        self.records += seen
        return group

    def _compute(self, group: ImageGroup) -> None:
        plan, shared = self.task.plan, self.task.shared
        measured = compute_group(plan, group, shared, self.meter)
        self.measurements.append(measured)
        self.unable, self.layers = group.unable, layers_named(self.classifier, group.able)
        self.sketches.append(sketch_originals(group, sketched_images(self.task.order)))
        unsampled = self.task.deviation_images - len({index for one in self.deviations for index in one.images})
        self.deviations += measure_deviations(plan, group, measured, shared, self.meter, images=unsampled)
        if self.pictures is not None:
            self.artifacts += draw_pictures(group, self.pictures, model_name=self.task.model_name)


def _run_shard(task: ShardTask, runtime: Runtime) -> ShardResult:
    """The same in the arithmetic of the plan, with the model at the speed of the plan."""
    plan, classifier, clock = task.plan, runtime.classifier, runtime.clock
    started, meter = clock(), PassMeter((classifier, *runtime.references.values()))
    forward_before, backward_before = meter.forward_images, meter.backward_images
    if classifier.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(classifier.device)
    expected = expected_work(
        classifier,
        plan,
        task.wave,
        images=len(task.images),
        references=runtime.references,
        positions={name: one.position for name, one in task.references.items()},
    )

    def tick() -> None:
        forward = meter.forward_images - forward_before
        backward = meter.backward_images - backward_before
        runtime.progress(min(1.0, (forward + BACKWARD_COST * backward) / expected))

    _check_labels(task.images, classifier)
    preparing = clock()
    micro_batch = prepare_model(
        classifier,
        plan,
        micro_batch=runtime.micro_batch,
        memory_bytes=runtime.memory_bytes,
        audit_images=task.audit_images or len(task.images),
        clock=clock,
    )
    references = [_reference(name, one, task, runtime) for name, one in task.references.items()]
    preparation_s = clock() - preparing
    micro_batches = MicroBatches(micro_batch)
    able = [image for image in task.images if image.index not in task.left_out]
    unlabeled = [image for image in able if not image.labels] if needs_labels(plan) else []
    explainable = [image for image in able if image.labels] if needs_labels(plan) else able
    run = _ShardRun(
        task=task,
        classifier=classifier,
        pictures=runtime.pictures,
        meter=meter,
        micro_batches=micro_batches,
        tick=tick,
        references=references,
        limits=runtime.limits,
        records=[
            *(
                left_out(image, ENDED_PROCESS[task.left_out[image.index]])
                for image in task.images
                if image.index in task.left_out
            ),
            *(left_out(image, LABEL_MISSING) for image in unlabeled),
        ],
    )
    size = shortened_group(
        group_size(plan, micro_batch=micro_batch, shape=classifier.shape, device=classifier.device.type),
        image_s=_seconds_an_image(classifier, expected, len(task.images)),
        group_s=runtime.group_s,
    )
    runtime.begin_images()
    done = _run_groups(run, explainable, size, runtime)
    run.records = [record for record in run.records if record.index in done]
    notes = (
        *notes_of(plan, micro_batch, micro_batches, classifier),
        *((SMALL_PARTS,) if run.file_notes else ()),
        *((READY_TENSORS,) if run.ready else ()),
    )
    for reference in references:
        with blaming_model(reference.name, reference.position):
            _confirm(reference, classifier)
    runtime.progress(1.0)
    return ShardResult(
        wave=task.wave,
        model_name=task.model_name,
        images=tuple(
            record.model_copy(update={"note": run.file_notes.get(record.index)})
            for record in sorted(run.records, key=lambda record: record.index)
        ),
        measurements=join_measurements(run.measurements) if run.measurements else (),
        shared=join_samples(plan, run.samples),
        sketches=join_sketches(run.sketches),
        not_applicable=run.unable,
        layers=run.layers,
        references={reference.name: reference.classifier.digest for reference in references},
        artifacts=tuple(run.artifacts),
        class_names=_class_names(classifier, run.records),
        model=model_record(classifier),
        probe=None if classifier.source is None else classifier.source.probe,
        cost=Cost(
            forward_images=meter.forward_images - forward_before,
            backward_images=meter.backward_images - backward_before,
            checks=run.meter.costs,
            seconds=clock() - started,
            device=str(classifier.device),
            peak_memory_bytes=peak_memory_bytes(classifier.device),
            micro_batch=micro_batches.size,
        ),
        deviations=tuple(run.deviations),
        calibration=classifier.calibration,
        preparation_seconds=preparation_s,
        notes=notes,
        environment=describe_environment(classifier.device, plan.speed),
    )


def _class_names(classifier: Classifier, records: Iterable[ImageRecord]) -> dict[int, str]:
    """What the model calls the classes and labels of the images."""
    found = {
        number for record in records for number in (*(one.target for one in record.targets), *labels_of(record.label))
    }
    return {number: classifier.class_names[number] for number in sorted(found) if number < len(classifier.class_names)}


def _run_groups(run: _ShardRun, explainable: Sequence[EncodedImage], size: int, runtime: Runtime) -> set[int]:
    """Run groups of images until there are no more, or until it is enough; indices of the images that are done."""
    images = run.task.images
    last = explainable[-1].index if explainable else None
    ahead = decode_ahead(
        explainable,
        size,
        run.classifier.preprocessing,
        runtime.limits,
        growing=groups_grow(run.task.plan),
        device=run.classifier.device,
    )
    for encoded, batch in ahead:
        run.run_group(encoded, batch)
        end = encoded[-1].index
        if end != last and runtime.enough():
            return {image.index for image in images if image.index <= end}
    return {image.index for image in images}


def _seconds_an_image(classifier: Classifier, expected: float, images: int) -> float | None:
    """Seconds of an image by the calibration of the model; None if it was not calibrated."""
    measured = classifier.calibration
    return None if measured is None else expected / max(1, images) / measured.forward_per_s


def _reference(name: str, task: ReferenceTask, shard: ShardTask, runtime: Runtime) -> ReferenceModel:
    """Prepare a model with which checks compare the model under audit."""
    classifier = runtime.references[name]
    with blaming_model(name, task.position):
        micro_batch = prepare_model(
            classifier,
            shard.plan,
            micro_batch=runtime.micro_batch,
            memory_bytes=runtime.memory_bytes,
            audit_images=shard.audit_images or len(shard.images),
            clock=runtime.clock,
        )
    return ReferenceModel(name, task.position, classifier, task.shared, MicroBatches(micro_batch))


def _confirm(reference: ReferenceModel, classifier: Classifier) -> None:
    """Make certain that the server of a reference model still serves the same model.

    Raises:
        ModelChanged: It serves another one.
    """
    source = reference.classifier.source
    if source is not None and source is not classifier.source:
        source.end()


def _check_labels(images: Sequence[EncodedImage], classifier: Classifier) -> None:
    for image in images:
        for label in image.labels:
            if label >= classifier.classes:
                raise LabelOutOfRange(label=label, classes=classifier.classes, field=f"images.labels.{image.index}")
        for box in image.boxes:
            if box.label is not None and box.label >= classifier.classes:
                raise LabelOutOfRange(label=box.label, classes=classifier.classes, field=f"images.boxes.{image.index}")
        for mask in image.masks:
            if mask.label is not None and mask.label >= classifier.classes:
                raise LabelOutOfRange(label=mask.label, classes=classifier.classes, field=f"images.masks.{image.index}")
