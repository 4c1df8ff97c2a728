"""Whether a model of 512 pixels can be audited on a card of 24 GiB: torch may take no more of the card than that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.explainers import GradCam, Gradient, IntegratedGradients, LrpEpsilonPlusFlat
from auditcore.contracts.plan import AuditPlan
from auditcore.costs.estimate import waves_of
from auditcore.engine.calibration import MEMORY_SHARE
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.models.loading import load_classifier
from benchmarks import memory
from gpu.context import Context
from gpu.models import TINY, TINY_SIDE_PX, untrained
from gpu.photos import photos

GIB = 1024**3
LIMIT_BYTES = 24 * GIB
SIDE_PX = 512
IMAGES, TINY_IMAGES = 8, 2


def plan_of(*, tiny: bool) -> AuditPlan:
    """A gradient, a path of gradients, an activation and a relevance method, under three checks."""
    augmentations = (Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20)))
    return AuditPlan(
        explainers=(Gradient(), IntegratedGradients(steps=2 if tiny else 20), GradCam(), LrpEpsilonPlusFlat()),
        checks=(
            SweepCheck(augmentations=augmentations, levels=3),
            DeletionCheck(grid=2 if tiny else 7, repeats=1),
            EddaCheck(),
        ),
    )


def run(context: Context) -> dict[str, object]:
    """Audit eight photos with the engine's own calibration; what was reserved tells what a card would need."""
    on_card = context.device.type == "cuda"
    model = untrained(TINY["resnet50"], TINY_SIDE_PX) if context.tiny else untrained("resnet50", SIDE_PX)
    pictures = photos(TINY_IMAGES if context.tiny else IMAGES)
    plan = plan_of(tiny=context.tiny)
    with _card_of(LIMIT_BYTES, context.device):
        classifier = load_classifier(model, access=AccessRules(), device=str(context.device))
        started = time.perf_counter()
        shared: dict[str, tuple[float, ...]] = {}
        notes: list[str] = []
        with memory.peak_of(context.device) as peak:
            for wave in waves_of(plan):
                result = run_shard(
                    ShardTask(plan=plan, wave=wave, images=pictures, shared=shared),
                    # the engine would ask the card itself, which has more than it may use here
                    Runtime(classifier, memory_bytes=int(LIMIT_BYTES * MEMORY_SHARE) if on_card else None),
                )
                shared = dict(reduce_shared(plan, [result]))
                notes += result.notes
        seconds = time.perf_counter() - started
        reserved = torch.cuda.max_memory_reserved(context.device) if on_card else None
    calibration = classifier.calibration
    taken = peak.highest_bytes if reserved is None else reserved
    context.say(
        f"memory: {classifier.shape.height} px, {len(pictures)} photos in {seconds:.1f} s, micro-batch "
        f"{None if calibration is None else calibration.micro_batch}, allocated {peak.highest_bytes / GIB:.2f} GiB, "
        f"reserved {taken / GIB:.2f} GiB (limit {LIMIT_BYTES // GIB}); {'; '.join(notes) or 'no notes'}"
    )
    return {
        "limit_bytes": LIMIT_BYTES,
        "side_px": classifier.shape.height,
        "images": len(pictures),
        "seconds": seconds,
        "allocated_bytes": peak.highest_bytes,
        "reserved_bytes": reserved,
        "micro_batch": None if calibration is None else calibration.micro_batch,
        "micro_batch_at_the_end": result.cost.micro_batch,
        "not_applicable": dict(result.not_applicable),
        "notes": notes,
        "reached": taken <= LIMIT_BYTES and not result.not_applicable,
    }


@contextmanager
def _card_of(limit_bytes: int, device: torch.device) -> Iterator[None]:
    """Inside the block torch refuses to take more of the card than a smaller one has; what it held before is freed."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    _, total = torch.cuda.mem_get_info(device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
