"""Structural similarity sweep: whether maps of changed images that the model sees as the same look the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import ClassVar, Literal, NamedTuple, final

from pydantic import Field, field_validator, model_validator

from auditcore.contracts.augmentations import Augmentation, Gmic, GmicFilter, Rotate
from auditcore.contracts.checks.check import (
    NOISE,
    CheckContract,
    CheckNeed,
    Noise,
    Pool,
    Question,
    Reduction,
)
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.contract import Contract
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes

ALL_CHANGES = "all"
"""Variant over every change of a structural similarity sweep."""

ALL_VALID = "all_valid"
"""The same over the images of which every changed copy is accepted."""

METRICS: Mapping[str, Metric] = {
    "ssim": Metric(
        unit="similarity",
        higher_is_better=True,
        variants="change",
        lowest=-1,
        highest=1,
        pooled=True,
        meaning="Mean structural similarity of maps before and after the changes that were accepted; `all_valid` "
        "takes only images of which every change was.",
    ),
    "accepted_fraction": Metric(
        unit="share of copies",
        higher_is_better=None,
        variants="change",
        of_explainer=False,
        lowest=0,
        highest=1,
        meaning="Share of changed copies whose target probability moved by less than the tolerance; `all_valid`: 1 "
        "for images of which every copy is accepted, else 0.",
    ),
    "ssim_data_range": Metric(
        control=True,
        unit="attribution",
        higher_is_better=None,
        lowest=0,
        meaning="Largest absolute attribution over all originals, the data range of SSIM; the same for every image.",
    ),
    "repeatability_ssim": Metric(
        control=True,
        unit="similarity",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Structural similarity of a stochastic explainer's map and its map of the same image under another "
        "draw.",
    ),
}


@final
class Change(Contract):
    """One augmentation at fixed values; its interval plays no role."""

    augmentation: Augmentation
    values: tuple[float, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _values_make_sense(self) -> Change:
        least, most = self.augmentation.reach
        for value in self.values:
            if not self.augmentation.changes_at(value):
                msg = (
                    f"value {value:g} of {self.augmentation.label} must be inside [{least:g}, {most:g}] "
                    f"({self.augmentation.unit}) "
                    f"and change something: {self.augmentation.identity:g} does not"
                    + (
                        f", and nothing between does: {self.augmentation.label} exists only at its ends"
                        if self.augmentation.only_ends
                        else ""
                    )
                )
                raise ValueError(msg)
        if len(set(self.values)) < len(self.values):
            msg = f"a value of {self.augmentation.label} is listed twice"
            raise ValueError(msg)
        return self


def erdem_changes() -> tuple[Change, ...]:
    """Four rotations and the five G'MIC filters of Erdem 2021."""
    filters: tuple[GmicFilter, ...] = (
        "freaky_details",
        "normalize_local",
        "boost_chroma",
        "mighty_details",
        "sharpen",
    )
    return (
        Change(augmentation=Rotate(), values=(-30.0, -15.0, 15.0, 30.0)),
        *(Change(augmentation=Gmic(filter=name), values=(1.0,)) for name in filters),
    )


@final
class SsimSweepCheck(CheckContract):
    """Do maps of changed images that the model sees as the same look the same?"""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores", "maps_of_copies"})
    paper: ClassVar[str] = "Erdem 2021"
    question: ClassVar[Question] = "stability"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("ssim",)
    # the data range of similarity is the largest attribution over all originals
    measures_maps: ClassVar[bool] = True
    kind: Literal["ssim_sweep"] = "ssim_sweep"
    changes: tuple[Change, ...] = Field(default_factory=erdem_changes, min_length=1, max_length=32)
    tolerance: float = Field(
        default=0.05, gt=0, le=1, description="A copy is accepted if the target probability moved by less than this."
    )
    window: int = Field(default=11, ge=3, le=63, description="Side of the uniform window of SSIM, in pixels; odd.")
    border: Literal["exclude", "include"] = Field(
        default="exclude", description="Whether windows that touch the fill outside a moved image count."
    )
    reduce: Reduction | Literal["none"] = "none"
    noise: Noise = Field(default="common", description=NOISE)

    @field_validator("window")
    @classmethod
    def _window_is_odd(cls, window: int) -> int:
        if window % 2 == 0:
            msg = f"the window of SSIM must be odd, got {window}"
            raise ValueError(msg)
        return window

    @field_validator("changes")
    @classmethod
    def _augmentations_differ(cls, changes: tuple[Change, ...]) -> tuple[Change, ...]:
        twice = [label for label, count in Counter(c.augmentation.label for c in changes).items() if count > 1]
        if twice:
            msg = f"augmentation {twice[0]} is listed twice; put all its values into one entry"
            raise ValueError(msg)
        return changes

    def variants_of(self, metric: str) -> tuple[str, ...]:
        """All changes together and in parts; see `change_variants`."""
        return tuple(change_variants(self)) if self.metrics[metric].variants == "change" else ()

    @classmethod
    def is_headline(cls, metric: str, variant: str | None) -> bool:
        """Only all changes together: a plan may list 32."""
        return metric in cls.headlines and variant == ALL_CHANGES

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Every changed copy for its prediction, and the maps of those that are accepted."""
        copies = rows * sum(
            len(change.values) for change in self.changes if change.augmentation.label not in case.unavailable
        )
        accepted = copies if case.accepted is None else case.accepted
        return LOGITS.times(copies).plus(case.map_passes(case.mapped_first).times(accepted))

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The sub-cases that join several changes; `all_valid` without images of which a copy is not accepted."""
        return {
            variant: Pool(
                tuple(member.variant for member in members),
                ("accepted_fraction", ALL_VALID) if variant == ALL_VALID else None,
            )
            for variant, members in change_variants(self).items()
            if len(members) > 1
        }


class ChangedValue(NamedTuple):
    """One change of a sweep at one value.

    Attributes:
        augmentation: Label of the augmentation.
        position: Number of the value among those of the augmentation.
        variant: The sub-case that this one change makes up: the augmentation's where it has no other value.
    """

    augmentation: str
    position: int
    variant: str


def change_variants(check: SsimSweepCheck) -> dict[str, tuple[ChangedValue, ...]]:
    """Sub-cases of a structural similarity sweep -> the changes that each joins.

    `all`; `all_valid`, where there are several changes; a kind that several augmentations share, such as `gmic`; each
    augmentation; and each value of an augmentation with several, such as `rotate=-30`.
    """
    members: dict[str, tuple[ChangedValue, ...]] = {}
    for change in check.changes:
        label, several = change.augmentation.label, len(change.values) > 1
        members[label] = tuple(
            ChangedValue(label, position, f"{label}={repr(value).removesuffix('.0')}" if several else label)
            for position, value in enumerate(change.values)
        )
    kinds = Counter(change.augmentation.kind for change in check.changes)
    groups = {
        kind: tuple(
            one
            for change in check.changes
            if change.augmentation.kind == kind
            for one in members[change.augmentation.label]
        )
        for kind, count in kinds.items()
        if count > 1
    }
    every = tuple(chain.from_iterable(members.values()))
    singles = {one.variant: (one,) for one in every if one.variant not in members}
    joint = {ALL_CHANGES: every} | ({ALL_VALID: every} if len(every) > 1 else {})
    return joint | groups | members | singles
