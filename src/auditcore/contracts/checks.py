"""One class a check: what is measured, and with which parameters."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeGuard, final

from pydantic import Field, field_validator, model_validator

from auditcore.contracts.augmentations import (
    Augmentation,
    Brightness,
    Gmic,
    GmicFilter,
    Hue,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.contracts.contract import Contract, Name
from auditcore.contracts.ranking_orders import RANK_BY, RankBy
from auditcore.contracts.speed import CURVE_MODES, DEFAULT_TOLERANCE, CurveMode, Tolerance

Noise = Literal["common", "fresh"]
"""Whether a stochastic explainer draws the same random numbers for an image and all its changed copies."""

NOISE = (
    "What a stochastic explainer draws for the changed copies of an image. common: the same random numbers as for the "
    "unchanged image, so that maps differ only by what the change does. fresh: new numbers for each copy, so that "
    "scores also hold the sampling noise of the explainer, which the control `repeatability` measures. Sampling noise "
    "is not instability: with fresh noise even a change of 0.1 gray level leaves a correlation of only 0.42 for "
    "SmoothGrad with 50 samples. The control `random` always draws fresh numbers; with common noise its maps would all "
    "be the same map."
)

Reduction = Literal["sum", "mean", "max_abs"]
"""How an attribution of shape (C,H,W) becomes one value a pixel; signs are kept except by `max_abs`."""


CheckNeed = Literal["class_scores", "maps_of_copies", "weights"]
"""What a check asks of a model beyond a prediction and a map of each image: the score of any class, for changed
copies; maps of changed copies; weights that can be altered."""


class CheckContract(Contract):
    """Base of all checks.

    Attributes:
        needs: What the model must capabilities.
        name: How the report calls this entry; its kind if null. Two entries of one kind need names.
        explainers: Names of the explainers of the plan that it runs on; all of them if null.
        paper: Where the check is defined.
    """

    needs: ClassVar[frozenset[CheckNeed]]
    paper: ClassVar[str]
    kind: str
    name: Name | None = Field(default=None, description="How the report calls it; its kind if null.")
    explainers: tuple[Name, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Names of the explainers of the plan that this check runs on; all of them if null. The report has "
        "no rows of the others. The random control runs in any case.",
    )

    @field_validator("explainers")
    @classmethod
    def _explainers_differ(cls, explainers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = [name for name, count in Counter(explainers or ()).items() if count > 1]
        if twice:
            msg = f"explainer {twice[0]!r} is listed twice"
            raise ValueError(msg)
        return explainers

    @property
    def label(self) -> str:
        """The name under which results are listed."""
        return self.name or self.kind

    def runs_on(self, explainer: str) -> bool:
        """Whether this check runs on the explainer of this name."""
        return self.explainers is None or explainer in self.explainers


class RankingCheck(CheckContract):
    """Base of the checks that order pixels or cells by relevance.

    Attributes:
        rank_by: What the order rests on; see `ranking_orders`.
        reduce: How channels are joined where the order is signed.
    """

    rank_by: RankBy = Field(default="auto", description=RANK_BY)
    reduce: Reduction = Field(
        default="sum", description="How channels are joined where the order is signed; no other order needs it."
    )

    @model_validator(mode="after")
    def _reduce_has_a_use(self) -> RankingCheck:
        if self.rank_by == "magnitude" and self.reduce != "sum":
            msg = (
                f"reduce is {self.reduce!r}, but rank_by 'magnitude' always takes the largest absolute value over "
                "channels; leave reduce out, or set rank_by to 'signed'"
            )
            raise ValueError(msg)
        return self


def all_augmentations() -> tuple[Augmentation, ...]:
    """The six augmentations of Tetkova & Hansen 2023 with automatic intervals."""
    return (Brightness(), Hue(), Saturation(), Rotate(), Translate(), Scale())


AUGMENTATION_MEAN = "mean"
"""Variant of a sweep's ratios: the mean over its augmentations, of each image for which all of them are defined."""


@final
class SweepCheck(CheckContract):
    """Does the explanation survive harmless changes of the image as well as the prediction does?

    Attributes:
        augmentations: Augmentations to sweep, each over its interval.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores", "maps_of_copies"})
    paper: ClassVar[str] = "Tetkova & Hansen 2023"
    kind: Literal["sweep"] = "sweep"
    augmentations: tuple[Augmentation, ...] = Field(default_factory=all_augmentations, min_length=1)
    levels: int = Field(default=11, ge=2, le=101, description="Equidistant values over the interval.")
    anchor: Literal["identity", "max"] = Field(
        default="identity",
        description="Which point of a curve is shifted to 1: the unchanged image (paper) or the highest (its code).",
    )
    top_k: int = Field(
        default=1000,
        ge=1,
        description="Most relevant values compared by the top-k overlap; capped by the support. They are pixels, or "
        "where `reduce` is none channel values, three a pixel.",
    )
    reduce: Reduction | Literal["none"] = Field(
        default="sum",
        description="How channels become one value a pixel before maps are compared; none compares channel values.",
    )
    noise: Noise = Field(default="common", description=NOISE)

    @field_validator("augmentations")
    @classmethod
    def _augmentations_differ(cls, augmentations: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        twice = [label for label, count in Counter(f.label for f in augmentations).items() if count > 1]
        if twice:
            msg = f"augmentation {twice[0]} is listed twice; put the second into another sweep with its own name"
            raise ValueError(msg)
        return augmentations


@final
class DeletionCheck(RankingCheck):
    """Deleting the least relevant cells first should hurt less than deleting at random."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Won et al. 2025"
    kind: Literal["deletion"] = "deletion"
    grid: int | None = Field(
        default=None, ge=2, le=64, description="Cells a side; 14 for sides of at least 128 pixels, else 8, if null."
    )
    repeats: int = Field(default=5, ge=1, le=100, description="Random orders, shared by all explainers and models.")
    fill: Literal["mean", "black", "blur"] = Field(
        default="mean", description="Mean is the model's mean color: zero after normalization."
    )
    curve: CurveMode = Field(default="exact", description=CURVE_MODES)
    tolerance: Tolerance = DEFAULT_TOLERANCE


Keep = Annotated[float, Field(gt=0, lt=1)]


SaliencyThreshold = Annotated[float, Field(ge=0.001, le=0.999)]
"""A threshold on maps scaled to [0, 1]. Neither end is one: some pixels lie above each threshold, and some below."""


@final
class EddaCheck(RankingCheck):
    """Do the most relevant pixels alone carry the prediction, and does removing them destroy it?"""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Li et al. 2021"
    kind: Literal["edda"] = "edda"
    keep: tuple[Keep, ...] = Field(
        default=(0.15, 0.3, 0.5), max_length=10, description="Shares of pixels kept; variants such as `top_15`."
    )
    thresholds: tuple[SaliencyThreshold, ...] = Field(
        default=(),
        max_length=10,
        description="Thresholds on the map scaled to [0, 1] by its minimum and maximum; variants such as `tau_0.5`. "
        "Pixels above are kept, or removed; a pixel at the threshold is in neither image.",
    )
    color: Literal["black", "mean"] = Field(
        default="black", description="Of removed pixels; mean is the model's mean color."
    )
    min_probability: float = Field(
        default=0.01,
        ge=1e-8,
        le=1,
        description="Images whose target probability is below have no drop_percent and no increase_percent: one image "
        "at 5e-5 gave an increase of 273 898 %.",
    )

    @field_validator("keep")
    @classmethod
    def _shares_differ(cls, keep: tuple[float, ...]) -> tuple[float, ...]:
        if len({top_variant(share) for share in keep}) < len(keep):
            msg = "two shares in keep are the same"
            raise ValueError(msg)
        return keep

    @field_validator("thresholds")
    @classmethod
    def _thresholds_differ(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if len({threshold_variant(threshold) for threshold in thresholds}) < len(thresholds):
            msg = "two thresholds are the same"
            raise ValueError(msg)
        return thresholds

    @model_validator(mode="after")
    def _masks_something(self) -> EddaCheck:
        if not self.keep and not self.thresholds:
            msg = "give at least one share in keep or one of thresholds"
            raise ValueError(msg)
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the sub-cases: shares first, then thresholds."""
        return (*map(top_variant, self.keep), *map(threshold_variant, self.thresholds))


@final
class Change(Contract):
    """One augmentation at fixed values; its interval plays no role.

    Attributes:
        augmentation: The augmentation.
        values: Its values; each makes one perturbed image.
    """

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
                        f", and nothing between does: {self.augmentation.label} exists at its ends alone"
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
    """Do maps of changed images that the model sees as the same look the same?

    Attributes:
        changes: Augmentations with their values.
        reduce: How the channels of a map become one value per pixel.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores", "maps_of_copies"})
    paper: ClassVar[str] = "Erdem 2021"
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


ALL_CHANGES = "all"
"""Variant over every change of a structural similarity sweep."""

ALL_VALID = "all_valid"
"""The same over the images of which every changed copy is accepted."""


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


@final
class PixelFlippingCheck(RankingCheck):
    """Removing the most relevant pixels first should destroy the prediction soon.

    Attributes:
        fill: What a removed pixel shows instead.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Bach et al. 2015; Tetkova & Hansen 2023"
    kind: Literal["pixel_flipping"] = "pixel_flipping"
    pixels_per_step: int | None = Field(
        default=None, ge=1, description="512 for 224 x 224 pixels, and as many in proportion for others, if null."
    )
    share: float = Field(default=0.2, gt=0, le=1, description="Share of the pixels that are removed.")
    fill: Literal["black", "mean"] = "black"


Game = Literal[
    "deletion_zero", "deletion_black", "deletion_blur", "insertion_zero", "insertion_black", "insertion_blur"
]


@final
class InsertionDeletionCheck(RankingCheck):
    """Pixels deleted from the image, or inserted into nothing, most relevant first."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Petsiuk et al. 2018; Li et al. 2021"
    kind: Literal["insertion_deletion"] = "insertion_deletion"
    games: tuple[Game, ...] = Field(
        default=("deletion_zero", "deletion_blur", "insertion_zero", "insertion_blur"),
        min_length=1,
        description="Zero is zero after normalization, the model's mean color; black is black; blur is Gaussian, "
        "11 pixels, sigma 5. Each game has two areas: under the target probability, and under whether the target is "
        "predicted (`deletion_zero_accuracy`), which needs `curve` exact.",
    )
    pixels_per_step: int | None = Field(
        default=None, ge=1, description="224 for 224 x 224 pixels, and as many in proportion for others, if null."
    )
    curve: CurveMode = Field(default="exact", description=CURVE_MODES)
    tolerance: Tolerance = DEFAULT_TOLERANCE

    @field_validator("games")
    @classmethod
    def _games_differ(cls, games: tuple[Game, ...]) -> tuple[Game, ...]:
        if len(set(games)) < len(games):
            msg = "a game is listed twice"
            raise ValueError(msg)
        return games


@final
class SensitivityCheck(CheckContract):
    """How far the map moves, at most, when the input moves by a little noise.

    Attributes:
        draws: Perturbations per image.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"maps_of_copies"})
    paper: ClassVar[str] = "Yeh et al. 2019; Erdem 2021"
    kind: Literal["sensitivity"] = "sensitivity"
    draws: int = Field(default=10, ge=1, le=1000)
    radius: float = Field(default=0.02, gt=0, le=10, description="Uniform noise on each normalized value.")
    noise: Noise = Field(default="common", description=NOISE)


@final
class InfidelityCheck(CheckContract):
    """Squared error of the map as a linear account of what noise does to the logit.

    Attributes:
        draws: Perturbations per image.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Yeh et al. 2019; Erdem 2021"
    kind: Literal["infidelity"] = "infidelity"
    draws: int = Field(default=10, ge=2, le=10_000)
    std: float = Field(default=0.003, gt=0, le=10, description="Normal noise on each normalized value.")
    normalize: bool = Field(
        default=False, description="Scale each map by the factor that suits it best, as the authors' code does."
    )


@final
class LocalizationCheck(CheckContract):
    """Does the map lie on the object? Needs boxes in the image batch.

    Attributes:
        reduce: How the channels of a map become one value per pixel.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset()
    paper: ClassVar[str] = "Wang et al. 2020; Zhang et al. 2021; Choe et al. 2020; Won et al. 2025"
    kind: Literal["localization"] = "localization"
    threshold: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the map's maximum from which a pixel is in the mask of wsol_iou and "
        "wsol_iou_largest_region: 0.2 as in Zhou et al. 2016; Won et al. 2025 name none, and Choe et al. 2020 search "
        "for the best.",
    )
    min_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Images whose target probability is not above this are not applicable; 0 leaves no image out.",
    )
    box_share: tuple[float, float] = Field(
        default=(0.0, 1.0), description="Share of the image that its boxes may cover; others are not applicable."
    )
    reduce: Reduction = "sum"

    @field_validator("box_share")
    @classmethod
    def _shares_in_order(cls, box_share: tuple[float, float]) -> tuple[float, float]:
        low, high = box_share
        if not 0 <= low < high <= 1:
            msg = f"box_share must be two shares in order, such as [0.1, 0.5]; got [{low}, {high}]"
            raise ValueError(msg)
        return box_share


@final
class RandomizationCheck(CheckContract):
    """Does the map change when the model forgets what it learned, layer by layer from the top?

    Attributes:
        reduce: How the channels of a map become one value per pixel.
        similarity: How maps are compared.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"maps_of_copies", "weights"})
    paper: ClassVar[str] = "Adebayo et al. 2018"
    kind: Literal["randomization"] = "randomization"
    stages: int | None = Field(
        default=None, ge=1, le=1000, description="Steps of the cascade, layers in equal groups; one a layer if null."
    )
    similarity: Literal["spearman", "pearson", "ssim"] = "spearman"
    absolute: bool = Field(default=False, description="Compare absolute values, as half of the paper's figures do.")
    reduce: Reduction = "sum"


@final
class RoadCheck(RankingCheck):
    """Removing pixels by noisy linear imputation, which leaves no visible hole that a model could read."""

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores"})
    paper: ClassVar[str] = "Rong et al. 2022"
    kind: Literal["road"] = "road"
    shares: tuple[Keep, ...] = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        min_length=1,
        max_length=99,
        description="Shares of pixels imputed, ascending.",
    )
    noise: float = Field(
        default=0.01, ge=0, le=1, description="Standard deviation added to imputed values, normalized."
    )

    @field_validator("shares")
    @classmethod
    def _shares_ascend(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if list(shares) != sorted(set(shares)):
            msg = "shares must ascend without repetition"
            raise ValueError(msg)
        return shares


@final
class ComplexityCheck(CheckContract):
    """How few pixels carry the map.

    Attributes:
        reduce: How the channels of a map become one value per pixel.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset()
    paper: ClassVar[str] = "Chalasani et al. 2020; Bhatt et al. 2020"
    kind: Literal["complexity"] = "complexity"
    reduce: Reduction = "sum"


def has_adaptive_curves(check: CheckContract) -> TypeGuard[DeletionCheck | InsertionDeletionCheck]:
    """Whether the areas of a check come from some of their curves' steps."""
    return isinstance(check, (DeletionCheck, InsertionDeletionCheck)) and check.curve == "adaptive"


def top_variant(share: float) -> str:
    """Name of the sub-case that keeps this share of pixels, such as `top_15`."""
    return f"top_{100 * share:g}"


def threshold_variant(threshold: float) -> str:
    """Name of the sub-case that keeps pixels above this threshold, such as `tau_0.5`."""
    return f"tau_{threshold:g}"


def accuracy_metric(game: Game) -> str:
    """Name of the area under whether the target is predicted along a game, such as `deletion_zero_accuracy`."""
    return f"{game}_accuracy"


def interval_key(check: SweepCheck, augmentation: Augmentation) -> str:
    """Under which name the automatic interval of an augmentation is shared between shards."""
    return f"{check.label}.{augmentation.label}.interval"


Check = Annotated[
    SweepCheck
    | SsimSweepCheck
    | DeletionCheck
    | EddaCheck
    | PixelFlippingCheck
    | InsertionDeletionCheck
    | RoadCheck
    | SensitivityCheck
    | InfidelityCheck
    | LocalizationCheck
    | RandomizationCheck
    | ComplexityCheck,
    Field(discriminator="kind"),
]
