"""How an audit is cut into shards."""

from __future__ import annotations

from collections.abc import Iterator

from auditcore.contracts.estimate import passes_of, waves_of
from auditcore.contracts.plan import AuditPlan
from auditcore_service.store.records import NewShard

ASSEMBLE_SHARE = 0.02
"""Work of assembling a report relative to all the rest, for the progress bar only."""


def images_per_shard(plan: AuditPlan, *, passes_per_s: float, target_s: float, most: int) -> int:
    """Images whose work in the longest wave takes about `target_s` seconds; at least one, at most `most`."""
    passes = max(passes_of(plan, wave=wave) for wave in waves_of(plan))
    return max(1, min(most, int(passes_per_s * target_s / passes)))


def shards_of(plan: AuditPlan, *, images: int, chunk: int, models: int = 1) -> tuple[NewShard, ...]:
    """Every shard of an audit: in each wave of the plan consecutive images of each model, then one for the report.

    The shards of a model follow each other, so that a worker that takes them in order loads each model once a wave.
    """
    waves = waves_of(plan)
    chunks = tuple(_chunks(images, chunk))
    weights = {wave: passes_of(plan, wave=wave) for wave in waves}
    shards = [
        NewShard(
            wave=number,
            index=model * len(chunks) + position,
            kind=wave,
            start=start,
            stop=stop,
            weight=float((stop - start) * weights[wave]),
            model=model,
        )
        for number, wave in enumerate(waves)
        for model in range(models)
        for position, (start, stop) in enumerate(chunks)
    ]
    work = sum(shard.weight for shard in shards)
    last = NewShard(wave=len(waves), index=0, kind="assemble", start=0, stop=images, weight=ASSEMBLE_SHARE * work)
    return (*shards, last)


def _chunks(images: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of almost equal size: 9 images in shards of at most 4 are 3, 3, 3."""
    count = -(-images // chunk)
    for number in range(count):
        yield images * number // count, images * (number + 1) // count
