"""What pages show of a job: names of its models, how far it is, how long it took and will take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, final

from pydantic import TypeAdapter, ValidationError

from auditcore.contracts.model_reference import ModelReference
from auditcore.costs.cost_model import Estimate
from auditcore.report.model_names import model_name
from auditcore_service.gateway.routes.following import waiting_of
from auditcore_service.gateway.schemas import WaitingBody
from auditcore_service.store.records import Audit
from auditcore_service.store.transitions import TERMINAL

_REFERENCE: Final[TypeAdapter[Any]] = TypeAdapter(ModelReference)

_LEAST_SHARE: Final = 0.02
"""Share of the work from which its speed says how long the rest takes."""


@final
@dataclass(frozen=True)
class JobView:
    """An audit, a training or an experiment, as a row of a list shows it.

    Attributes:
        job: As stored.
        models: Names of its models.
        under_way: Whether it has not ended.
        took_s: Seconds from its start to its end; None unless it has both.
        left_s: Seconds that it will probably take; None where nothing is known, or if it has ended.
        waiting: What it waits for; None if it does not have to.
    """

    job: Audit
    models: tuple[str, ...]
    under_way: bool
    took_s: float | None
    left_s: float | None
    waiting: WaitingBody | None

    @property
    def title(self) -> str:
        """Its name; the beginning of its id without one."""
        return self.job.name or self.job.id[:8]


def view_of(job: Audit, *, now: float) -> JobView:
    """What a page shows of a job.

    Args:
        job: As stored.
        now: The present, seconds since 1970.
    """
    ended = job.state in TERMINAL
    took = None if job.started_at is None or job.finished_at is None else job.finished_at - job.started_at
    return JobView(
        job=job,
        models=models_of(json.loads(job.request)),
        under_way=not ended,
        took_s=took,
        left_s=None if ended else time_left(job, now=now),
        waiting=waiting_of(job),
    )


def models_of(request: dict[str, Any]) -> tuple[str, ...]:
    """The name of each model of a stored request, of an audit of several with the name in the report before it."""
    several = request.get("models") or ()
    if several:
        return tuple(f"{one['name']}: {_name(one['model'])}" for one in several)
    if request.get("audit"):  # of a remedy
        return (f"that of audit {request['audit'][:8]}",)
    return (_name(request.get("model")),)


def time_left(job: Audit, *, now: float) -> float | None:
    """Seconds until a job ends, at least 1: from the share that is done, or from its price as long as little is done.

    Args:
        job: A job that has not ended.
        now: The present, seconds since 1970.
    """
    done = job.progress.fraction
    if job.started_at is not None and done >= _LEAST_SHARE:
        return max(1.0, (now - job.started_at) * (1 - done) / done)
    if job.estimate is None:
        return None
    return max(1.0, Estimate.model_validate_json(job.estimate).seconds * (1 - done))


def _name(reference: object) -> str:
    try:
        return model_name(_REFERENCE.validate_python(reference))
    except ValidationError:  # stored by an earlier release
        return "unknown model"
