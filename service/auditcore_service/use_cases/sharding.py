"""The shards that an audit is stored with: how large they are, and how much work each is."""

from __future__ import annotations

from collections.abc import Sequence

from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.stopping import StopRule
from auditcore.costs.estimate import passes_of, waves_of
from auditcore.orchestration.sharding import shard_ranges
from auditcore_service.store.records import NewShard

ASSEMBLE_SHARE = 0.02
"""Work of assembling a report relative to all the rest, for the progress bar only."""


def images_per_shard(*, image_s: float, target_s: float, most: int) -> int:
    """Images whose work takes about `target_s` seconds; at least one, at most `most`.

    Args:
        image_s: Seconds that one image takes in the longest wave.
        target_s: Intended seconds of a shard.
        most: Images of a shard, at most.
    """
    return max(1, min(most, int(target_s / image_s)))


def shards_of(
    plan: AuditPlan,
    *,
    images: int,
    shard_images: int,
    models: Sequence[str | None] = (None,),
    compared: Sequence[str] = (),
    stop: StopRule | None = None,
) -> tuple[NewShard, ...]:
    """Every shard of an audit as it is stored: those of `shard_ranges` with their weight, then one for the report.

    Args:
        plan: The plan in full.
        images: Number of images of the audit.
        shard_images: Most images of a shard.
        models: Names of the models under audit; None is that of an audit of one.
        compared: Names of the models with which these are only compared.
        stop: Decides on the looks.
    """
    waves = waves_of(plan)
    plans = [plan.for_model(name) for name in (*models, *compared)]
    ranges = shard_ranges(
        plan, images=images, shard_images=shard_images, models=len(models), compared=len(compared), stop=stop
    )
    shards = [
        NewShard(
            wave=number,
            index=index,
            kind=wave,
            start=one.start,
            stop=one.stop,
            weight=float((one.stop - one.start) * passes_of(plans[one.model], wave=wave)),
            model=one.model,
        )
        for number, wave in enumerate(waves)
        for index, one in enumerate(found for found in ranges if found.wave == wave)
    ]
    work = sum(shard.weight for shard in shards)
    last = NewShard(wave=len(waves), index=0, kind="assemble", start=0, stop=images, weight=ASSEMBLE_SHARE * work)
    return (*shards, last)
