"""What is audited how: explainers x checks, with every parameter, and presets that spell one out."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, final

from pydantic import Discriminator, Field, Tag, model_validator

from auditcore.contracts.augmentations import Brightness, Rotate
from auditcore.contracts.checks import Check, DeletionCheck, EddaCheck, SweepCheck
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import (
    Deconvolution,
    Explainer,
    GradCam,
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    Random,
    SmoothGrad,
)

Seed = Annotated[int, Field(ge=0, lt=2**53, description="Below 2^53, so that every JSON reader keeps it exact.")]
PresetName = Literal["quick", "standard"]


@final
class AuditPlan(Contract):
    """Explainers x checks. All randomness follows from `seed` and the images' digests."""

    seed: Seed = 0
    target: Literal["predicted", "label"] = Field(
        default="predicted", description="The class explained: argmax on the original image, or its given label."
    )
    explainers: tuple[Explainer, ...] = Field(min_length=1, max_length=64)
    checks: tuple[Check, ...] = Field(min_length=1, max_length=32)

    @model_validator(mode="after")
    def _names_differ(self) -> AuditPlan:
        for what, labels in (
            ("explainers", [explainer.label for explainer in self.explainers]),
            ("checks", [check.label for check in self.checks]),
        ):
            twice = [label for label, count in Counter(labels).items() if count > 1]
            if twice:
                msg = f"two {what} are called {twice[0]!r}; give one of them a `name`"
                raise ValueError(msg)
        # under this name EDDA lists its control, whether or not the plan asks for it
        if any(explainer.label == "random" for explainer in self.explainers if not isinstance(explainer, Random)):
            msg = "only an explainer of kind random may be called 'random'; give it another `name`"
            raise ValueError(msg)
        return self


@final
class PresetPlan(Contract):
    """A named plan; `resolve_plan` spells it out."""

    preset: PresetName
    seed: Seed = 0


def _plan_form(value: Any) -> str:  # noqa: ANN401 - pydantic hands over whatever was sent
    if isinstance(value, dict):
        return "preset" if "preset" in value else "explicit"
    return "preset" if isinstance(value, PresetPlan) else "explicit"


PlanRequest = Annotated[
    Annotated[AuditPlan, Tag("explicit")] | Annotated[PresetPlan, Tag("preset")],
    Discriminator(_plan_form),
]
"""Either a plan in full or the name of one."""


def quick_plan(seed: int = 0) -> AuditPlan:
    """About a minute for four photos on two cores: one method a family, two families, coarse levels."""
    return AuditPlan(
        seed=seed,
        explainers=(
            Gradient(),
            InputXGradient(),
            IntegratedGradients(steps=16),
            GuidedBackpropagation(),
            GradCam(),
            LrpEpsilonPlusFlat(),
            Random(),
        ),
        checks=(
            SweepCheck(families=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-20, 20))), levels=5),
            DeletionCheck(grid=7, repeats=3),
            EddaCheck(keep=(0.15,)),
        ),
    )


def standard_plan(seed: int = 0) -> AuditPlan:
    """Every explainer, all six families with automatic intervals, the papers' deletion and EDDA settings.

    Seven levels and 20 steps instead of the papers' 11 and 50 keep eight photos within 15 minutes on two cores.
    """
    return AuditPlan(
        seed=seed,
        explainers=(
            Gradient(),
            InputXGradient(),
            IntegratedGradients(steps=20),
            SmoothGrad(samples=20),
            GuidedBackpropagation(),
            Deconvolution(),
            GradCam(),
            LrpEpsilonPlusFlat(),
            LrpEpsilonGammaBox(),
            LrpEpsilonAlpha2Beta1Flat(),
            Random(),
        ),
        checks=(SweepCheck(levels=7), DeletionCheck(), EddaCheck()),
    )


PRESETS = {"quick": quick_plan, "standard": standard_plan}


def resolve_plan(plan: AuditPlan | PresetPlan) -> AuditPlan:
    """The plan with every default spelled out."""
    return PRESETS[plan.preset](plan.seed) if isinstance(plan, PresetPlan) else plan
