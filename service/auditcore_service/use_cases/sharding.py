"""How an audit is cut into shards."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.stopping import StopRule, looks
from auditcore.costs.estimate import passes_of, waves_of
from auditcore_service.store.records import NewShard

ASSEMBLE_SHARE = 0.02
"""Work of assembling a report relative to all the rest, for the progress bar only."""


def images_per_shard(plan: AuditPlan, *, passes_per_s: float, target_s: float, most: int) -> int:
    """Images whose work in the longest wave takes about `target_s` seconds; at least one, at most `most`."""
    passes = max(passes_of(plan, wave=wave) for wave in waves_of(plan))
    return max(1, min(most, int(passes_per_s * target_s / passes)))


def shards_of(
    plan: AuditPlan, *, images: int, shard_images: int, models: int = 1, stop: StopRule | None = None
) -> tuple[NewShard, ...]:
    """Every shard of an audit: in each wave of the plan consecutive images of each model, then one for the report.

    The shards of a model follow each other, so that a worker that takes them in order loads each model once a wave.
    With a stop rule the compute wave goes from look to look instead, and no shard reaches over a look: there `start`
    and `stop` count in the random order of the images.
    """
    waves = waves_of(plan)
    weights = {wave: passes_of(plan, wave=wave) for wave in waves}
    whole = ((0, images),)
    shards = [
        NewShard(
            wave=number,
            index=index,
            kind=wave,
            start=start,
            stop=end,
            weight=float((end - start) * weights[wave]),
            model=model,
        )
        for number, wave in enumerate(waves)
        for index, (model, start, end) in enumerate(
            (model, first + start, first + end)
            for first, last in (whole if stop is None or wave == "measure" else _between_looks(images, stop))
            for model in range(models)
            for start, end in _ranges(last - first, shard_images)
        )
    ]
    work = sum(shard.weight for shard in shards)
    last = NewShard(wave=len(waves), index=0, kind="assemble", start=0, stop=images, weight=ASSEMBLE_SHARE * work)
    return (*shards, last)


def _between_looks(images: int, rule: StopRule) -> Iterator[tuple[int, int]]:
    """Ranges of images that a stop rule does not look into."""
    return pairwise((0, *looks(images, rule.first_look)))


def _ranges(images: int, shard_images: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of almost equal size: 9 images in shards of at most 4 are 3, 3, 3."""
    count = -(-images // shard_images)
    for number in range(count):
        yield images * number // count, images * (number + 1) // count
