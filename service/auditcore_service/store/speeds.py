"""Observed speeds of workers and models, which estimates are based on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.tables import SPEEDS

KEPT = 0.7
"""Weight of the past for each new shard: the last three shards make up two thirds. So a changed machine shows soon, and
one slow shard has little effect."""


@final
@dataclass(frozen=True)
class SeenSpeed:
    """Decayed sums over the shards, or parts of a training, of one model, device, plan and wave.

    Attributes:
        model: `cost_model.model_identity` of its reference; `cost_model.network_identity` for speeds that were scaled
            to the typical input size; `training_speed.training_identity` for speeds of trainings.
        plan: `cost_model.plan_identity`; for the bare model, `cost_model.way_identity`; for trainings,
            `training_speed.training_way_identity`.
        wave: Wave of the plan; for the bare model, `forward`, `gradient` or `comparison` of maps; `train` for
            trainings.
        passes: Expected passes of those shards; for the bare model, images or maps per second, with `seconds` of 1.
        seconds: Time that the shards took.
        updated_at: Time of the last shard, seconds since 1970.
    """

    model: str
    device: str
    plan: str
    wave: str
    passes: float
    seconds: float
    updated_at: float


def remember_speed(connection: Connection, seen: SeenSpeed) -> None:
    """Add the speed of a shard; earlier shards count less from now on."""
    row = and_(
        SPEEDS.c.model == seen.model,
        SPEEDS.c.device == seen.device,
        SPEEDS.c.plan == seen.plan,
        SPEEDS.c.wave == seen.wave,
    )
    change = (
        update(SPEEDS)
        .where(row)
        .values(
            passes=KEPT * SPEEDS.c.passes + seen.passes,
            seconds=KEPT * SPEEDS.c.seconds + seen.seconds,
            updated_at=seen.updated_at,
        )
    )
    if connection.execute(change).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(
                insert(SPEEDS).values(
                    model=seen.model,
                    device=seen.device,
                    plan=seen.plan,
                    wave=seen.wave,
                    passes=seen.passes,
                    seconds=seen.seconds,
                    updated_at=seen.updated_at,
                )
            )
    except IntegrityError:
        # on PostgreSQL another worker may have inserted the row first
        connection.execute(change)


def speeds_of(connection: Connection, models: list[str]) -> tuple[SeenSpeed, ...]:
    """Return all observed speeds of some models."""
    rows = connection.execute(select(SPEEDS).where(SPEEDS.c.model.in_(models)))
    return tuple(
        SeenSpeed(row.model, row.device, row.plan, row.wave, row.passes, row.seconds, row.updated_at) for row in rows
    )
