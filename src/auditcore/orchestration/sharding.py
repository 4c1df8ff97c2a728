"""How an audit is divided into shards. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from auditcore.contracts.automatic_intervals import automatic_intervals
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Wave
from auditcore.contracts.stopping import StopRule, looks
from auditcore.costs.estimate import waves_of


@final
@dataclass(frozen=True)
class ShardRange:
    """One wave of one model on consecutive images.

    Attributes:
        wave: Which wave of the plan.
        model: Which of the request's `loaded_models`, counted from 0.
        start: First image, counted from 0. In the compute wave of an audit with a stop rule it counts in the random
            order of the images.
        stop: One past the last image.
    """

    wave: Wave
    model: int
    start: int
    stop: int


def models_depend(plan: AuditPlan) -> bool:
    """Whether a model computes with what was measured of another: automatic intervals, or those of a reference."""
    return bool(plan.reference_models) or any(automatic_intervals(plan))


def shard_ranges(
    plan: AuditPlan, *, images: int, shard_images: int, models: int = 1, compared: int = 0, stop: StopRule | None = None
) -> tuple[ShardRange, ...]:
    """The shards of all waves, in the order in which they run best.

    The shards of a model follow each other, so that a worker that takes them in order loads each model once per wave.
    With a stop rule the compute wave goes from look to look: no shard contains images from both sides of a look.

    Args:
        plan: Decides on the waves.
        images: Number of images of the audit.
        shard_images: Most images of a shard.
        models: Number of models under audit.
        compared: Number of further models with which these are only compared. They are measured, but have no shards of
            the compute wave.
        stop: Decides on the looks.
    """
    return tuple(
        ShardRange(wave, model, first + start, first + end)
        for wave in waves_of(plan)
        for first, last in ([(0, images)] if stop is None or wave == "measure" else _between_looks(images, stop))
        for model in range(models + (compared if wave == "measure" else 0))
        for start, end in _even_ranges(last - first, shard_images)
    )


def _between_looks(images: int, rule: StopRule) -> Iterator[tuple[int, int]]:
    """The ranges of images between one look and the next."""
    return pairwise((0, *looks(images, rule.first_look)))


def _even_ranges(images: int, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of almost equal size: 9 images in ranges of at most 4 are 3, 3, 3."""
    count = -(-images // most)
    for number in range(count):
        yield images * number // count, images * (number + 1) // count
