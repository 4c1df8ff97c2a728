"""Audit plans: explainers x checks with every parameter, or the name of a preset."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, final

from pydantic import Discriminator, Field, Tag, model_validator

from auditcore.contracts.checks import Check
from auditcore.contracts.contract import Contract
from auditcore.contracts.explainers import CONTROL, Explainer
from auditcore.contracts.speed import Speed

Seed = Annotated[int, Field(ge=0, lt=2**53, description="Below 2^53, so that every JSON parser reads it exactly.")]
PresetName = Literal["quick", "standard", "tetkova2023", "erdem2021", "won2023", "li2021", "arun2021", "saporta2022"]

OTHER_PURPOSES = frozenset({"explainer", "originals", "repeatability", "measure", "deviation"})
"""Names that a report lists together with the checks: the explainers' own controls, and four kinds of passes."""


@final
class AuditPlan(Contract):
    """Explainers x checks. All randomness follows from `seed` and the images' digests.

    Attributes:
        explainers: What makes the heat maps.
        checks: What is measured on them.
    """

    seed: Seed = 0
    target: Literal["predicted", "label", "top"] = Field(
        default="predicted",
        description="The explained class: the most probable one on the original image, each given label, or the "
        "`top_n` most probable ones. An image's value is the mean over its targets.",
    )
    top_n: int = Field(default=1, ge=1, le=20, description="Number of classes explained with target `top`.")
    only_correct: bool = Field(
        default=False,
        description="Leave out images whose label is missing or is not predicted. A label is predicted if it is the "
        "most probable class, or, for a multi-label model, if its probability is at least 0.5.",
    )
    explainers: tuple[Explainer, ...] = Field(min_length=1, max_length=64)
    checks: tuple[Check, ...] = Field(min_length=1, max_length=32)
    speed: Speed = Field(default=Speed(), description="Faster ways through the model; exact float32 by default.")

    @model_validator(mode="after")
    def _top_n_has_a_use(self) -> AuditPlan:
        if self.target != "top" and self.top_n != 1:
            msg = f"top_n is {self.top_n}, but target is {self.target!r}; explain several classes with target 'top'"
            raise ValueError(msg)
        return self

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
        # checks list their control under this name where the plan has none
        if any(explainer.label == CONTROL.label for explainer in self.explainers if not explainer.is_control):
            msg = f"only an explainer of kind {CONTROL.kind} may be called {CONTROL.label!r}; give it another `name`"
            raise ValueError(msg)
        taken = next((check.label for check in self.checks if check.label in OTHER_PURPOSES), None)
        if taken is not None:
            msg = f"a check may not be called {taken!r}, because the report uses this name; give it another `name`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _checks_run_on_explainers_of_the_plan(self) -> AuditPlan:
        known = [explainer.label for explainer in self.explainers]
        for check in self.checks:
            unknown = next((name for name in check.explainers or () if name not in known), None)
            if unknown is not None:
                msg = (
                    f"check {check.label!r} runs on explainer {unknown!r}, which is not in the plan; "
                    f"use names of: {', '.join(known)}"
                )
                raise ValueError(msg)
        return self

    @property
    def modes(self) -> tuple[str, ...]:
        """The faster modes in use, in words for the report; empty if everything is exact."""
        return (
            *(("bf16 autocast",) if self.speed.precision == "bf16" else ()),
            *(("TF32 products",) if self.speed.precision == "tf32" else ()),
            *(("torch.compile",) if self.speed.compile else ()),
            *(
                f"adaptive curves of {check.label} (tolerance {check.area_tolerance:g})"
                for check in self.checks
                if check.area_tolerance is not None
            ),
        )

    def for_model(self, name: str | None) -> AuditPlan:
        """The part that concerns one model of an audit: without the checks that would compare it with itself.

        Args:
            name: Name of the model; None in an audit of one.
        """
        checks = tuple(check for check in self.checks if name is None or check.reference_model != name)
        return self if len(checks) == len(self.checks) else self.model_copy(update={"checks": checks})

    @property
    def reference_models(self) -> frozenset[str]:
        """Names of the models with which its checks compare the others."""
        return frozenset(check.reference_model for check in self.checks if check.reference_model is not None)

    def exactly(self) -> AuditPlan:
        """The same without faster modes, with only those checks that the faster modes affect."""
        return self.model_copy(
            update={
                "speed": Speed(),
                "checks": tuple(
                    check.exactly() for check in self.checks if not self.speed.exact or check.area_tolerance is not None
                ),
            }
        )


@final
class PresetPlan(Contract):
    """A named plan; `presets.resolve_plan` spells it out.

    Attributes:
        preset: Name of a preset of the catalogue.
    """

    preset: PresetName
    seed: Seed = 0


def _plan_form(value: Any) -> str:  # noqa: ANN401 - pydantic passes on any value
    if isinstance(value, dict):
        return "preset" if "preset" in value else "explicit"
    return "preset" if isinstance(value, PresetPlan) else "explicit"


PlanRequest = Annotated[
    Annotated[AuditPlan, Tag("explicit")] | Annotated[PresetPlan, Tag("preset")],
    Discriminator(_plan_form),
]
"""Either a full plan or the name of one."""
