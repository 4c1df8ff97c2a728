"""One class a check: what is measured, and with which parameters."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, field_validator

from auditcore.contracts.augmentations import (
    Augmentation,
    Brightness,
    Hue,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.contracts.contract import Contract, Name

Reduction = Literal["sum", "mean", "max_abs"]
"""How an attribution of shape (C,H,W) becomes one value a pixel; signs are kept except by `max_abs`."""


class CheckContract(Contract):
    """Base of all checks.

    Attributes:
        name: How the report calls this entry; its kind if null. Two entries of one kind need names.
        paper: Where the check is defined.
    """

    paper: ClassVar[str]
    kind: str
    name: Name | None = Field(default=None, description="How the report calls it; its kind if null.")

    @property
    def label(self) -> str:
        """The name under which results are listed."""
        return self.name or self.kind


def all_families() -> tuple[Augmentation, ...]:
    """The six families of Tetkova & Hansen 2023 with automatic intervals."""
    return (Brightness(), Hue(), Saturation(), Rotate(), Translate(), Scale())


@final
class SweepCheck(CheckContract):
    """Does the explanation survive harmless changes of the image as well as the prediction does?"""

    paper: ClassVar[str] = "Tetkova & Hansen 2023"
    kind: Literal["sweep"] = "sweep"
    families: tuple[Augmentation, ...] = Field(default_factory=all_families, min_length=1)
    levels: int = Field(default=11, ge=2, le=101, description="Equidistant values over the interval.")
    anchor: Literal["identity", "max"] = Field(
        default="identity",
        description="Which point of a curve is shifted to 1: the unchanged image (paper) or the highest (its code).",
    )
    top_k: int = Field(default=1000, ge=1, description="Pixels compared by the top-k overlap; capped by the support.")
    reduce: Reduction | Literal["none"] = "sum"

    @field_validator("families")
    @classmethod
    def _families_differ(cls, families: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        twice = [kind for kind, count in Counter(f.kind for f in families).items() if count > 1]
        if twice:
            msg = f"family {twice[0]} is listed twice; put the second into another sweep with its own name"
            raise ValueError(msg)
        return families


@final
class DeletionCheck(CheckContract):
    """Deleting the least relevant cells first should hurt less than deleting at random."""

    paper: ClassVar[str] = "Won et al. 2025"
    kind: Literal["deletion"] = "deletion"
    grid: int | None = Field(
        default=None, ge=2, le=64, description="Cells a side; 14 for sides of at least 128 pixels, else 8, if null."
    )
    repeats: int = Field(default=5, ge=1, le=100, description="Random orders, shared by all explainers and models.")
    fill: Literal["mean", "black", "blur"] = Field(
        default="mean", description="Mean is the model's mean color: zero after normalization."
    )
    reduce: Reduction = "sum"


Keep = Annotated[float, Field(gt=0, lt=1)]


@final
class EddaCheck(CheckContract):
    """Do the most relevant pixels alone carry the prediction, and does removing them destroy it?"""

    paper: ClassVar[str] = "Li et al. 2021"
    kind: Literal["edda"] = "edda"
    keep: tuple[Keep, ...] = Field(
        default=(0.15, 0.3, 0.5), min_length=1, max_length=10, description="Shares of pixels kept."
    )
    reduce: Reduction = "sum"

    @field_validator("keep")
    @classmethod
    def _shares_differ(cls, keep: tuple[float, ...]) -> tuple[float, ...]:
        if len({top_variant(share) for share in keep}) < len(keep):
            msg = "two shares in keep are the same"
            raise ValueError(msg)
        return keep


def top_variant(share: float) -> str:
    """Name of the sub-case that keeps this share of pixels, such as `top_15`."""
    return f"top_{100 * share:g}"


def interval_key(check: SweepCheck, family: Augmentation) -> str:
    """Under which name the automatic interval of a family is shared between shards."""
    return f"{check.label}.{family.kind}.interval"


Check = Annotated[SweepCheck | DeletionCheck | EddaCheck, Field(discriminator="kind")]
