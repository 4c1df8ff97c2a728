"""Study plans: which training methods are compared, over which seeds, by which audit."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.audit_labels import AuditName, Tags
from auditcore.contracts.contract import Contract, Name
from auditcore.contracts.images import ImagesReference
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.plan import AuditPlan, Seed
from auditcore.contracts.training.plan import TrainingPlan
from auditcore.contracts.training.request import HeldOut, ValidationImages

MOST_METHODS = 16
"""As many models fit into one audit."""


@final
class StudyMethod(Contract):
    """One of the compared methods.

    Attributes:
        name: Its name in the report.
        plan: How its models are trained. Its seed is that of the study, so `seed` of the plan has no effect.
        model: Architecture and starting weights, if they differ from those of the study.
        continues: Name of a method whose trained model of the same seed it starts from, instead of `model`.
    """

    name: Name
    plan: TrainingPlan
    model: ModelReference | None = Field(default=None, exclude_if=lambda model: model is None)
    continues: Name | None = Field(default=None, exclude_if=lambda name: name is None)

    @model_validator(mode="after")
    def _starts_once(self) -> StudyMethod:
        if self.model is not None and self.continues is not None:
            msg = "a method starts from a `model` of its own or `continues` another method; give one of the two"
            raise ValueError(msg)
        return self


@final
class StudyPlan(Contract):
    """Methods x seeds, and one audit of the models of each seed, on the same images and the same random orders.

    Attributes:
        methods: The compared methods; the first is the baseline of all comparisons.
        seeds: Each method is trained once with each seed. Random starting weights are drawn with it too.
        audit: What is measured on the trained models of a seed.
        audit_images: How many test images are audited, counted from the first; all if null.
    """

    kind: Literal["study"] = "study"
    methods: Annotated[tuple[StudyMethod, ...], Field(min_length=2, max_length=MOST_METHODS)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=100)] = (0, 1, 2, 3, 4)
    audit: AuditPlan
    audit_images: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _names_and_seeds_differ(self) -> StudyPlan:
        for what, values in (("methods", [one.name for one in self.methods]), ("seeds", list(self.seeds))):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                msg = f"two {what} are {twice[0]!r}; each may occur once"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _continued_methods_come_first(self) -> StudyPlan:
        seen: set[str] = set()
        for method in self.methods:
            if method.continues is not None and method.continues not in seen:
                msg = (
                    f"method {method.name!r} continues {method.continues!r}, which does not come before it; "
                    f"known there: {', '.join(sorted(seen)) or 'none'}"
                )
                raise ValueError(msg)
            seen.add(method.name)
        return self

    @property
    def baseline(self) -> str:
        """Name of the method with which the others are compared."""
        return self.methods[0].name


@final
class StudyRequest(Contract):
    """A model, labeled images and a plan of methods.

    Attributes:
        model: Architecture and starting weights of all methods that name none of their own.
        images: Training images; each needs a label.
        validation: Validation images of every training.
        test: Labeled images on which accuracy is measured and explanations are audited; never trained on.
        plan: What is compared.
        name: What to call the study; need not be unique.
        tags: Key -> value, to find the study by.
    """

    model: ModelReference
    images: ImagesReference
    validation: ValidationImages = HeldOut()
    test: ImagesReference
    plan: StudyPlan
    name: AuditName | None = Field(default=None, exclude_if=lambda name: name is None)
    tags: Tags = Field(default_factory=dict, exclude_if=lambda tags: not tags)
