"""The engine: the shards of a plan, timed, with the passes that hooks on the model counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.checks import ComplexityCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import AuditPlan
from auditcore.costs.estimate import waves_of
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks.ideal import Passes
from benchmarks.memory import Peak, peak_of
from benchmarks.timing import drain


@dataclass(frozen=True)
class Run:
    """One audit without its service and its report.

    Attributes:
        seconds: From the first byte decoded to the last score.
        made: Passes counted.
        peak: Memory.
    """

    seconds: float
    made: Passes
    peak: Peak


def run(
    classifier: Classifier, plan: AuditPlan, photos: Sequence[EncodedImage], *, audit_images: int | None = None
) -> Run:
    """Audit photos, with both waves if the plan needs them.

    Args:
        classifier: The model.
        plan: What runs.
        photos: All of them in one shard.
        audit_images: Images of the audit of which these are a sample, from which the engine sees what preparations
            pay; as many as there are photos if None.

    Raises:
        RuntimeError: A photo was left out or an explainer could not run, so the time would mean nothing.
    """
    ledger = classifier.ledger
    forward, backward = ledger.forward_images, ledger.backward_images
    shared: Mapping[str, tuple[float, ...]] = {}
    with peak_of(classifier.device) as peak:
        drain(classifier.device)
        started = time.perf_counter()
        for wave in waves_of(plan):
            result = run_shard(
                ShardTask(plan=plan, wave=wave, images=photos, shared=shared, audit_images=audit_images),
                Runtime(classifier),
            )
            shared = reduce_shared(plan, [result])
        drain(classifier.device)
        seconds = time.perf_counter() - started
    excluded = [f"{image.name}: {image.reason}" for image in result.images if image.reason is not None]
    if excluded or result.not_applicable:
        msg = f"not everything ran: {excluded or result.not_applicable}"
        raise RuntimeError(msg)
    made = Passes(ledger.forward_images - forward, ledger.backward_images - backward)
    return Run(seconds, made, peak)


def warm_up(classifier: Classifier, explainers: Sequence[Explainer], photos: Sequence[EncodedImage]) -> None:
    """Make the maps once: the first call compiles kernels, traces the model and is slower than all others."""
    run(classifier, AuditPlan(explainers=tuple(explainers), checks=(ComplexityCheck(),)), photos)
