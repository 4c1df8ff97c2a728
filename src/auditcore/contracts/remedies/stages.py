"""The stages of a remedy: the start and a training per learning rate, the chosen training, its audit, the report."""

from __future__ import annotations

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.remedies.plan import RemedyPlan


def remedy_stages(plan: RemedyPlan) -> tuple[Stage, ...]:
    """All stages."""
    most = float(max(plan.epochs))
    return (
        Stage(name="start", wave=0, weight=0.2, title="measuring the audited model"),
        *(
            Stage(name=search_stage(number), wave=0, weight=most, title=f"training with learning rate {rate:g}")
            for number, rate in enumerate(plan.learning_rates)
        ),
        Stage(name="train", wave=1, weight=most, title="training the chosen model"),
        Stage(name="audit", wave=2, weight=most, title="auditing the trained model"),
        Stage(name="report", wave=3, weight=0.01 * most, title="making the report"),
    )


def search_stage(number: int) -> str:
    """Name of the stage that tries a learning rate.

    Args:
        number: Of the learning rate, from 0.
    """
    return f"search-{number}"
