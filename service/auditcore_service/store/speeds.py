"""How fast workers have run which model: the memory that estimates are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from auditcore_service.store.tables import SPEEDS

KEPT = 0.7
"""What the past weighs against one more shard: the last three make two thirds, so a changed machine is soon believed
and one slow shard is not."""


@final
@dataclass(frozen=True)
class SeenSpeed:
    """Decayed sums over the shards of one model, device, plan and wave.

    Attributes:
        model: `cost_model.model_identity` of its reference.
        plan: `cost_model.plan_identity`; or, of the bare model, `cost_model.way_identity`.
        wave: Which wave of the plan; or, of the bare model, `forward`, `gradient` or `comparison` of maps.
        passes: Expected passes of those shards; or images or maps a second, next to one second.
        seconds: What they took.
        updated_at: Seconds since 1970 of the last of them.
    """

    model: str
    device: str
    plan: str
    wave: str
    passes: float
    seconds: float
    updated_at: float


def remember_speed(connection: Connection, seen: SeenSpeed) -> None:
    """Add a shard; the shards before it count less from now on."""
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
        # on PostgreSQL another worker may have been the first
        connection.execute(change)


def speeds_of(connection: Connection, models: list[str]) -> tuple[SeenSpeed, ...]:
    """Everything that is known of some models."""
    rows = connection.execute(select(SPEEDS).where(SPEEDS.c.model.in_(models)))
    return tuple(
        SeenSpeed(row.model, row.device, row.plan, row.wave, row.passes, row.seconds, row.updated_at) for row in rows
    )
