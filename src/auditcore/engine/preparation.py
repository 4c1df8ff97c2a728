"""Before the first image of a shard: what the model needs to run fast, and what a reader should know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from auditcore.checks.micro_batches import MicroBatches, blaming_size
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Calibration, Wave
from auditcore.costs.estimate import waves_of, weight
from auditcore.costs.passes import ModelFacts, passes_needed, passes_on_reference
from auditcore.engine.calibration import calibrate
from auditcore.engine.ways import Ahead, choose_way
from auditcore.explainers.registry import prepare
from auditcore.models.black_box import Source
from auditcore.models.classifier import Classifier


def prepare_model(
    classifier: Classifier,
    plan: AuditPlan,
    *,
    micro_batch: int | None,
    memory_bytes: int | None,
    audit_images: int,
    clock: Callable[[], float],
) -> int:
    """Build what the explainers need of the model, and choose the size of micro-batches and how passes run.

    Args:
        classifier: The model.
        plan: Its explainers are prepared.
        micro_batch: Images per pass; calibration chooses if None.
        memory_bytes: Memory for the activations of one pass; half of the free memory if None.
        audit_images: Number of images of the whole audit, which decides what pays off.
        clock: Seconds, monotonic.

    Returns:
        Images per pass.
    """
    with blaming_size():
        prepare(classifier, plan.explainers)
    # on a CPU there is nothing to choose where the size is given
    if micro_batch is None or classifier.device.type == "cuda":
        with blaming_size():
            micro_batch = _calibrated(classifier, memory_bytes, micro_batch).micro_batch
        choose_way(classifier, _ahead(classifier, plan, audit_images), plan.speed, clock)
    return micro_batch


def expected_work(
    classifier: Classifier,
    plan: AuditPlan,
    wave: Wave,
    *,
    images: int,
    references: Mapping[str, Classifier],
    positions: Mapping[str, int | None],
) -> float:
    """Expected passes of a shard in forward passes, at least 1; the source of a black box gets its share first.

    Args:
        classifier: The model under audit.
        plan: Its plan.
        wave: Which wave.
        images: Images of the shard.
        references: The models with which checks compare it, by name.
        positions: Position of each of them in `models` of the request, for errors; None for the model of the baseline.
    """
    facts, others = _facts(classifier), {name: _facts(other) for name, other in references.items()}
    needed = total(passes_needed(plan, wave=wave, images=images, facts=facts, references=others).values())
    on_references = {
        name: passes_on_reference(plan, name, rows=images, facts=facts, references=others) for name in references
    }
    sent: list[tuple[str | None, Source | None, int]] = [
        (None, classifier.source, needed.forward - total(on_references.values()).forward),
        *((name, references[name].source, passes.forward) for name, passes in on_references.items()),
    ]
    begun: list[Source] = []
    for name, source, _ in sent:
        # a model that is compared with itself has one source
        if source is not None and not any(source is one for one in begun):
            begun.append(source)
            with blaming_model(name, 0 if name is None else positions[name]):
                source.begin(sum(share for _, other, share in sent if other is source))
    return max(1.0, weight(needed))


def _facts(classifier: Classifier) -> ModelFacts:
    return ModelFacts(shape=classifier.shape, capabilities=classifier.capabilities)


def notes_of(plan: AuditPlan, micro_batch: int, micro_batches: MicroBatches, classifier: Classifier) -> tuple[str, ...]:
    """What a reader of the report should know of how a shard was computed.

    A black box says what it has shown of itself, once it is certain that it is still the same model.

    Raises:
        ModelChanged: The server of a black box gives another model than when the audit began.
    """
    notes = [*classifier.notes]
    if micro_batches.halvings:
        notes.append(
            f"memory ran out with {micro_batch} images per pass, so {micro_batches.size} passed at once from then on; "
            "passes that broke off were made again and are counted"
        )
    way = "eager" if classifier.static is None else classifier.static.way
    asked = plan.speed.compile and classifier.device.type == "cuda"
    if asked and way != "compiled" and classifier.compilation_failure is None:
        notes.append("compiling the model would not have won its time back, so the model ran as it is")
    if classifier.compilation_failure is not None:
        notes.append(f"the model could not be compiled and ran as it is: {classifier.compilation_failure}")
    shown = () if classifier.source is None else classifier.source.end()
    return (*notes, *shown)


def _ahead(classifier: Classifier, plan: AuditPlan, images: int) -> Ahead:
    """Passes that all waves of a plan make on this number of images."""
    facts = _facts(classifier)
    waves = (passes_needed(plan, wave=wave, images=images, facts=facts) for wave in waves_of(plan))
    needed = [total(by_purpose.values()) for by_purpose in waves]
    backward = sum(passes.backward for passes in needed)
    return Ahead(forward=sum(passes.forward for passes in needed) - backward, backward=backward)


def _calibrated(classifier: Classifier, memory_bytes: int | None, fixed: int | None) -> Calibration:
    """What the first shard of a model measures, and the first with another fixed size."""
    if classifier.calibration is None or fixed != classifier.fixed_size:
        classifier.static = None
        classifier.ways_tried.clear()
        classifier.calibration = calibrate(classifier, memory_bytes=memory_bytes, fixed=fixed)
        classifier.fixed_size = fixed
    return classifier.calibration
