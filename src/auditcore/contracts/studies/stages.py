"""The stages of a study: a training per method and seed, then an audit per seed, then the report."""

from __future__ import annotations

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.studies.plan import StudyPlan


def study_stages(plan: StudyPlan) -> tuple[Stage, ...]:
    """All stages; a method that continues another one comes a wave later."""
    depths: dict[str, int] = {}
    for method in plan.methods:
        depths[method.name] = 0 if method.continues is None else depths[method.continues] + 1
    audits = max(depths.values()) + 1
    trainings = [
        Stage(
            name=training_stage(method.name, seed),
            wave=depths[method.name],
            weight=method.plan.epochs * method.plan.share,
            title=f"training {method.name}, seed {seed}",
        )
        for seed in plan.seeds
        for method in plan.methods
    ]
    trainings.sort(key=lambda stage: stage.wave)
    weight = sum(stage.weight for stage in trainings) / len(plan.seeds)
    return (
        *trainings,
        *(
            Stage(name=audit_stage(seed), wave=audits, weight=weight, title=f"auditing the models of seed {seed}")
            for seed in plan.seeds
        ),
        Stage(name="report", wave=audits + 1, weight=0.01 * weight, title="making the report"),
    )


def training_stage(method: str, seed: int) -> str:
    """Name of the stage that trains a method with a seed; its training is kept under the same name."""
    return f"{method}-{seed}"


def audit_stage(seed: int) -> str:
    """Name of the stage that audits the models of a seed."""
    return f"audit/{seed}"
