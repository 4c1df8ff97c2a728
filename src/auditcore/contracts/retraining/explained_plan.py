"""What the plans of all measures that retrain have in common: explainers whose maps follow the weights."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field, field_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import CONTROL, Explainer

Target = Literal["predicted", "label"]
"""The class that is explained: the most probable one, or the label."""


class ExplainedPlan(Contract):
    """Base of the plans of measures that retrain.

    Attributes:
        explainers: What makes the maps. The random control always runs beside them.
    """

    explainers: tuple[Explainer, ...] = Field(min_length=1, max_length=64)

    @field_validator("explainers")
    @classmethod
    def _explainers_fit(cls, explainers: tuple[Explainer, ...]) -> tuple[Explainer, ...]:
        for explainer in explainers:
            reason = unfit_for_retraining(explainer)
            if reason is not None:
                msg = f"explainer {explainer.label!r} has no maps here: {reason}"
                raise ValueError(msg)
        twice = [label for label, count in Counter(one.label for one in explainers).items() if count > 1]
        if twice:
            msg = f"two explainers are called {twice[0]!r}; give one of them a `name`"
            raise ValueError(msg)
        if any(one.label == CONTROL.label for one in explainers if not one.is_control):
            msg = f"only an explainer of kind {CONTROL.kind} may be called {CONTROL.label!r}; give it another `name`"
            raise ValueError(msg)
        return explainers

    @property
    def controls(self) -> tuple[Explainer, ...]:
        """The random explainer, if the plan does not ask for it."""
        return () if any(explainer.is_control for explainer in self.explainers) else (CONTROL,)

    @property
    def explained(self) -> tuple[Explainer, ...]:
        """The explainers of the plan and the control."""
        return (*self.explainers, *self.controls)


def unfit_for_retraining(explainer: Explainer) -> str | None:
    """Why an explainer has no maps of a model that was trained a moment ago, and what to take; None if it has."""
    if not explainer.computes_maps or explainer.server is not None:
        return "its maps are not of the model that is trained; take one that computes them, such as grad_cam"
    if explainer.needs_measure_wave:
        return "it first measures all images, which only an audit does; take one such as grad_cam"
    return None
