"""One shard: a plan and a few consecutive images become a shard result."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from auditcore.checks.image_group import REPEAT, ImageGroup
from auditcore.checks.measuring import measurement, not_applicable, without_rows
from auditcore.checks.micro_batches import MicroBatches, blaming_size
from auditcore.checks.registry import CHECKS
from auditcore.contracts.access import Limits
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.capabilities import check_incompatibility
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.image_dependence import sketched_images
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import (
    Calibration,
    CheckCost,
    Cost,
    DeviationSample,
    MapSketches,
    Measurement,
    ModelRecord,
    ShardResult,
    SharedSample,
    Wave,
)
from auditcore.costs.estimate import BACKWARD_COST, waves_of, weight
from auditcore.costs.passes import ModelFacts, mapped_first, passes_needed
from auditcore.devices.arithmetic import arithmetic
from auditcore.devices.transfer import current, numbers_on
from auditcore.engine.calibration import calibrate
from auditcore.engine.deviation import measure_deviation
from auditcore.engine.environment import describe_environment
from auditcore.engine.groups import group_size, join_measurements, join_samples
from auditcore.engine.map_sketches import join_sketches, sketch_originals
from auditcore.engine.originals import left_out, predict_originals
from auditcore.engine.pictures import Pictures, draw_pictures
from auditcore.engine.targets import LABEL_MISSING, merge_targets, needs_labels
from auditcore.engine.ways import Ahead, choose_way
from auditcore.errors import AuditCancelled, LabelOutOfRange
from auditcore.explainers.registry import EXPLAINERS, layers_named, prepare
from auditcore.images.batch import decode_ahead
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import UploadedMaps
from auditcore.metrics.reduction import reduce_channels
from auditcore.metrics.similarity import pearson
from auditcore.models.classifier import Classifier
from auditcore.models.sanity import invalid_output


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
    memory_bytes: int | None = None,
    pictures: Pictures | None = None,
    model_name: str | None = None,
    deviation_images: int = 0,
    uploaded: Mapping[str, UploadedMaps] | None = None,
    audit_images: int | None = None,
    order: Sequence[int] | None = None,
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
        micro_batch: Images a pass; a short calibration chooses if None. Scores do not depend on it beyond rounding.
        memory_bytes: What the activations of a pass may take; half of the free memory if None.
        pictures: Which images of the compute wave are drawn, and where the pictures go; none if None.
        model_name: What the audit calls the model, if it audits several.
        deviation_images: How many images of the compute wave to measure exactly too, if the plan has faster modes.
        uploaded: Files of maps that explainers of kind `precomputed` name, by their digest.
        audit_images: Images of the whole audit, which decide what preparation pays; those of the shard if None.
        order: Indices of the images of the whole audit in the order in which they are audited, if that is not the
            batch's; the maps of the first ones are compared with each other.

    Raises:
        LabelOutOfRange: A label is not a class of this model.
        ModelOutputInvalid: The model returned NaN or infinite logits.
        ModelChanged: The server of a model gives another one than when the audit began.
    """
    with arithmetic(plan.speed, classifier.device), current(classifier.device):
        return _run_shard(
            classifier.at_speed(plan.speed),
            images,
            plan,
            wave,
            shared,
            limits=limits,
            progress=progress,
            clock=clock,
            micro_batch=micro_batch,
            memory_bytes=memory_bytes,
            pictures=pictures,
            model_name=model_name,
            deviation_images=deviation_images,
            uploaded=uploaded or {},
            audit_images=audit_images or len(images),
            order=order,
        )


def _run_shard(
    classifier: Classifier,
    images: Sequence[EncodedImage],
    plan: AuditPlan,
    wave: Wave,
    shared: Mapping[str, tuple[float, ...]],
    *,
    limits: Limits,
    progress: Callable[[float], None],
    clock: Callable[[], float],
    micro_batch: int | None,
    memory_bytes: int | None,
    pictures: Pictures | None,
    model_name: str | None,
    deviation_images: int,
    uploaded: Mapping[str, UploadedMaps],
    audit_images: int,
    order: Sequence[int] | None,
) -> ShardResult:
    """The same in the arithmetic of the plan."""
    started, ledger = clock(), classifier.ledger
    forward_before, backward_before = ledger.forward_images, ledger.backward_images
    if classifier.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(classifier.device)
    expected = _begin(classifier, plan, wave, images=len(images))

    def tick() -> None:
        forward = ledger.forward_images - forward_before
        backward = ledger.backward_images - backward_before
        progress(min(1.0, (forward + BACKWARD_COST * backward) / expected))

    _check_labels(images, classifier)
    preparing = clock()
    micro_batch = _prepared(classifier, plan, micro_batch, memory_bytes, audit_images=audit_images, clock=clock)
    preparation_s = clock() - preparing
    micro_batches = MicroBatches(micro_batch)
    explainable = [image for image in images if image.labels or not needs_labels(plan)]
    records = [left_out(image, LABEL_MISSING) for image in images if image not in explainable]
    meter = _Meter(classifier)
    measurements: list[list[Measurement]] = []
    samples: list[list[SharedSample]] = []
    unable: dict[str, str] = {}
    layers: dict[str, str] = {}
    artifacts: list[Artifact] = []
    deviations: list[DeviationSample] = []
    sketches: list[tuple[MapSketches, ...]] = []
    colors: dict[str, Tensor] = {}
    for encoded, batch in decode_ahead(explainable, group_size(plan, micro_batch), classifier.preprocessing, limits):
        records += batch.excluded
        decoded = [encoded[position] for position in batch.used]
        if not decoded:
            continue
        with meter.measuring("measure" if wave == "measure" else "originals"):
            group, seen = predict_originals(
                classifier,
                batch,
                decoded,
                plan,
                tick=tick,
                micro_batches=micro_batches,
                shared=shared,
                colors=colors,
                explained=plan.explainers if wave == "compute" else mapped_first(plan),
                uploaded=uploaded,
            )
        records += seen
        if group is None:
            continue
        if wave == "measure":
            with meter.measuring("measure"):
                samples.append(_measure(plan, group))
        else:
            measurements.append(_compute(plan, group, shared, meter))
            unable, layers = group.unable, layers_named(classifier, group.able)
            sketches.append(sketch_originals(group, sketched_images(order)))
            unsampled = deviation_images - len({index for one in deviations for index in one.images})
            deviations += _deviations(plan, group, measurements[-1], shared, meter, images=unsampled)
            artifacts += () if pictures is None else draw_pictures(group, pictures, model_name=model_name)
    notes = (*_notes(plan, micro_batch, micro_batches, classifier), *_end(classifier))
    progress(1.0)
    return ShardResult(
        wave=wave,
        model_name=model_name,
        images=tuple(sorted(records, key=lambda record: record.index)),
        measurements=join_measurements(measurements) if measurements else (),
        shared=join_samples(plan, samples),
        sketches=join_sketches(sketches),
        not_applicable=unable,
        layers=layers,
        artifacts=tuple(artifacts),
        model=ModelRecord(
            digest=classifier.digest,
            classes=classifier.classes,
            parameters=classifier.parameters,
            trained=classifier.trained,
            preprocessing=classifier.preprocessing,
            capabilities=classifier.capabilities,
            scores=classifier.scores,
            structure=classifier.structure,
        ),
        probe=None if classifier.source is None else classifier.source.probe,
        cost=Cost(
            forward_images=ledger.forward_images - forward_before,
            backward_images=ledger.backward_images - backward_before,
            checks=meter.costs,
            seconds=clock() - started,
            device=str(classifier.device),
            peak_memory_bytes=_peak_memory_bytes(classifier.device),
            micro_batch=micro_batches.size,
        ),
        deviations=tuple(deviations),
        calibration=classifier.calibration,
        preparation_seconds=preparation_s,
        notes=notes,
        environment=describe_environment(classifier.device, plan.speed),
    )


def _prepared(
    classifier: Classifier,
    plan: AuditPlan,
    micro_batch: int | None,
    memory_bytes: int | None,
    *,
    audit_images: int,
    clock: Callable[[], float],
) -> int:
    """Build what the explainers need of the model, and choose how many images pass at once, and how."""
    with blaming_size():
        prepare(classifier, plan.explainers)
    # on a CPU there is nothing to choose where the size is given
    if micro_batch is None or classifier.device.type == "cuda":
        micro_batch = _calibrated(classifier, memory_bytes, micro_batch).micro_batch
        choose_way(classifier, _ahead(classifier, plan, audit_images), plan.speed, clock)
    return micro_batch


def _begin(classifier: Classifier, plan: AuditPlan, wave: Wave, *, images: int) -> float:
    """Weight of the passes that are expected; where a black box takes its predictions from is told beforehand."""
    facts = ModelFacts(side_px=classifier.size, capabilities=classifier.capabilities)
    needed = total(passes_needed(plan, wave=wave, images=images, facts=facts).values())
    if classifier.source is not None:
        classifier.source.begin(needed.forward)
    return max(1.0, weight(needed))


def _ahead(classifier: Classifier, plan: AuditPlan, images: int) -> Ahead:
    """Passes that both waves of a plan make on so many images."""
    facts = ModelFacts(side_px=classifier.size, capabilities=classifier.capabilities)
    waves = (passes_needed(plan, wave=wave, images=images, facts=facts) for wave in waves_of(plan))
    needed = [total(by_purpose.values()) for by_purpose in waves]
    backward = sum(passes.backward for passes in needed)
    return Ahead(forward=sum(passes.forward for passes in needed) - backward, backward=backward)


def _end(classifier: Classifier) -> tuple[str, ...]:
    """What a black box has shown of itself until now, once it is certain that it is still the same."""
    return () if classifier.source is None else classifier.source.end()


def _calibrated(classifier: Classifier, memory_bytes: int | None, fixed: int | None) -> Calibration:
    """What the first shard of a model measures, and the first with another fixed size."""
    if classifier.calibration is None or fixed != classifier.fixed_size:
        classifier.static = None
        classifier.ways_tried.clear()
        classifier.calibration = calibrate(classifier, memory_bytes=memory_bytes, fixed=fixed)
        classifier.fixed_size = fixed
    return classifier.calibration


def _notes(plan: AuditPlan, micro_batch: int, micro_batches: MicroBatches, classifier: Classifier) -> tuple[str, ...]:
    """What a reader should know of how a shard was computed."""
    notes = []
    if micro_batches.halvings:
        notes.append(
            f"memory ran out with {micro_batch} images a pass, so {micro_batches.size} passed at once from then on; "
            "passes that broke off were made again and are counted"
        )
    way = "eager" if classifier.static is None else classifier.static.way
    asked = plan.speed.compile and classifier.device.type == "cuda"
    if asked and way != "compiled" and classifier.compilation_failure is None:
        notes.append("compiling the model would not have won its time back, so the model ran as it is")
    if classifier.compilation_failure is not None:
        notes.append(f"the model could not be compiled and ran as it is: {classifier.compilation_failure}")
    return tuple(notes)


@dataclass
class _Meter:
    """Passes by purpose, read off the model's ledger."""

    classifier: Classifier
    costs: dict[str, CheckCost] = field(default_factory=dict)

    @contextmanager
    def measuring(self, purpose: str) -> Iterator[None]:
        ledger = self.classifier.ledger
        forward, backward = ledger.forward_images, ledger.backward_images
        guard = self.classifier.guard
        guard.forget()
        try:
            yield
        except AuditCancelled:
            raise
        except Exception as error:
            # what the host makes of logits that are no numbers may fail before anybody has asked for them
            if guard.has_seen_invalid():
                raise invalid_output() from error
            raise
        # results come back here: until now the host has only asked
        guard.require_finite()
        before = self.costs.get(purpose, CheckCost())
        self.costs[purpose] = CheckCost(
            forward_images=before.forward_images + ledger.forward_images - forward,
            backward_images=before.backward_images + ledger.backward_images - backward,
        )


def _measure(plan: AuditPlan, group: ImageGroup) -> list[SharedSample]:
    samples: list[SharedSample] = []
    # together, so that they share passes whatever each check runs on
    group.explain_originals([explainer for explainer in mapped_first(plan) if explainer in group.able])
    for check in plan.checks:
        measure = CHECKS[type(check)].measure_shared
        if measure is not None and check_incompatibility(check, group.classifier.capabilities) is None:
            samples += measure(check, group.under(check))
    # a layer's statistics belong to images, however many targets each has
    first = [row for row, index in enumerate(group.indices) if index not in group.indices[:row]]
    for explainer in group.able:
        measure_layer = EXPLAINERS[type(explainer)].measure_shared
        if measure_layer is not None:
            rows: list[Tensor] = []

            def work(
                part: slice,
                measure_layer: Callable[..., Tensor] = measure_layer,
                explainer: Explainer = explainer,
                rows: list[Tensor] = rows,
            ) -> None:
                own = first[part]
                pixels = group.pixels[numbers_on(own, group.pixels.device, torch.long)]
                halves = [group.indices[row] % 2 for row in own]
                rows.append(measure_layer(group.batch(pixels, own, "original"), explainer, halves))

            group.each(len(first), work)
            values = [row for part in rows for row in part.cpu().tolist()]
            samples.append(SharedSample.of(explainer.shared_key, values))
    return samples


def _compute(
    plan: AuditPlan,
    group: ImageGroup,
    shared: Mapping[str, tuple[float, ...]],
    meter: _Meter,
    *,
    about_explainers: bool = True,
) -> list[Measurement]:
    """Every check on one group; the maps that all of them need come first, so that no check pays for another.

    Args:
        plan: What to measure.
        group: The images.
        shared: Quantities of the whole audit.
        meter: Counts passes by purpose.
        about_explainers: Whether to measure what belongs to explainers and not to a check, too.
    """
    with meter.measuring("originals"):
        group.explain_originals(group.able)
    if about_explainers and group.repeatable:
        with meter.measuring(REPEAT):
            group.repeat_originals(group.repeatable)
    found: list[Measurement] = []
    missing = {explainer.label: group.without_map(explainer) for explainer in group.able}
    for check in plan.checks:
        listed = group.under(check)
        unable = listed.unable_under(check)
        if check_incompatibility(check, group.classifier.capabilities) is None:
            with meter.measuring(check.label):
                measured = CHECKS[type(check)].compute(check, listed.without(unable), shared)
            found += [without_rows(one, missing.get(one.explainer or "", {}), group.indices) for one in measured]
        for label, reason in unable.items():
            found += not_applicable(check, label, reason, indices=group.indices)
    if about_explainers:
        found += _about_explainers(group)
    return merge_targets(found, group.indices)


def _about_explainers(group: ImageGroup) -> list[Measurement]:
    """What explainers report about themselves, and how far stochastic ones repeat themselves."""
    found = [
        measurement(
            None,
            metric,
            values.cpu(),
            indices=group.indices,
            explainer=explainer.label,
            undefined=explainer.diagnostics[metric].undefined,
        )
        for explainer in group.able
        for metric, values in group.original(explainer).diagnostics.items()
    ]
    everywhere = torch.ones_like(group.pixels[:, :1], dtype=torch.bool)
    for explainer in group.repeatable:
        # summed in float64: channels that cancel must not leave rounding behind as relevance
        original, again = (
            reduce_channels(made.maps.double(), "sum") for made in (group.original(explainer), group.repeat(explainer))
        )
        found.append(
            measurement(
                None,
                "repeatability",
                pearson(original, again, everywhere).cpu(),
                indices=group.indices,
                explainer=explainer.label,
                undefined="one of both maps is constant or not finite, so their correlation is undefined",
            )
        )
    return found


def _deviations(
    plan: AuditPlan,
    group: ImageGroup,
    measured: Sequence[Measurement],
    shared: Mapping[str, tuple[float, ...]],
    meter: _Meter,
    *,
    images: int,
) -> tuple[DeviationSample, ...]:
    """What the plan's faster modes change on so many images of a group; nothing if it has none."""
    if not plan.modes or images < 1:
        return ()
    with meter.measuring("deviation"):
        return measure_deviation(
            plan,
            group,
            measured,
            images=images,
            # what single checks pay for the sample is not told apart
            compute=lambda exact, rows: _compute(
                exact, rows, shared, _Meter(group.classifier), about_explainers=not plan.speed.exact
            ),
        )


def _check_labels(images: Sequence[EncodedImage], classifier: Classifier) -> None:
    for image in images:
        for label in image.labels:
            if label >= classifier.classes:
                raise LabelOutOfRange(label=label, classes=classifier.classes, field=f"images.labels.{image.index}")
        for box in image.boxes:
            if box.label is not None and box.label >= classifier.classes:
                raise LabelOutOfRange(label=box.label, classes=classifier.classes, field=f"images.boxes.{image.index}")


def _peak_memory_bytes(device: torch.device) -> int:
    """Peak of the device's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
