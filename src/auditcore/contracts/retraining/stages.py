"""The stages of measures that retrain."""

from __future__ import annotations

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.retraining.f_fidelity import FFidelityPlan
from auditcore.contracts.retraining.idsds import IdsdsPlan
from auditcore.contracts.retraining.roar import RoarPlan


def roar_stages(plan: RoarPlan) -> tuple[Stage, ...]:
    """The price, then a training on untouched images per repeat, then all trainings of an explainer in a repeat."""
    cells = float(len(plan.measures) * len(plan.shares))
    return (
        Stage(name="price", wave=0, weight=0.1, title="measuring the speed"),
        *(
            Stage(name=f"untouched-{repeat}", wave=1, weight=2, title=f"repeat {repeat}: training on whole images")
            for repeat in range(plan.repeats)
        ),
        *(
            Stage(
                name=f"retrain/{repeat}/{explainer.label}",
                wave=2,
                weight=cells * len(plan.orders(explainer)),
                title=f"repeat {repeat}: trainings by the maps of {explainer.label}",
            )
            for repeat in range(plan.repeats)
            for explainer in plan.explained
        ),
        Stage(name="report", wave=3, weight=0.1, title="making the report"),
    )


def fine_tuned_stages(plan: FFidelityPlan | IdsdsPlan) -> tuple[Stage, ...]:
    """The fine-tuning, which is priced first, then the values of each explainer."""
    epochs = 1 if plan.training is None else plan.training.epochs
    return (
        Stage(name="fine_tune", wave=0, weight=epochs, title="fine-tuning"),
        *(
            Stage(name=f"measure/{explainer.label}", wave=1, weight=1, title=f"measuring {explainer.label}")
            for explainer in plan.explained
        ),
        Stage(name="report", wave=2, weight=0.1, title="making the report"),
    )
