"""Augmentation sweep: whether a map survives harmless changes of the image as well as the prediction does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field, field_validator

from auditcore.contracts.augmentations import (
    Augmentation,
    Brightness,
    Hue,
    Interval,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.contracts.checks.check import (
    NOISE,
    CheckContract,
    CheckNeed,
    CurveLine,
    Noise,
    Notice,
    Question,
    Reduction,
)
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.counts.levels import AUTO_INTERVAL_STEPS, level_grid, same_level

AUGMENTATION_MEAN = "mean"
"""Variant of a sweep's ratios: the mean over its augmentations, of each image for which all of them are defined."""

ENOUGH_LEVELS = 11
"""Levels from which a sweep gets no warning (Tetkova & Hansen 2023 take 11). A random map whose prediction collapses
gets an S of 0.94 at 3 levels, 0.84 at 5, 0.42 at 11, 0.10 at 41."""

LEAST_PROBABILITY_SCORE = 0.5
"""Mean area under the target probability below which the prediction counts as collapsed."""

METRICS: Mapping[str, Metric] = {
    "probability_score": Metric(
        unit="area",
        higher_is_better=True,
        variants="augmentation",
        of_explainer=False,
        lowest=0,
        highest=2,
        meaning="Area under the target probability over the interval, shifted to 1 at the anchor.",
    ),
    "prediction_flip_rate": Metric(
        unit="share of levels",
        higher_is_better=False,
        variants="augmentation",
        of_explainer=False,
        lowest=0,
        highest=1,
        meaning="Share of changed copies whose predicted class is not the target.",
    ),
    "pearson_score": Metric(
        unit="area",
        higher_is_better=True,
        variants="augmentation",
        lowest=-1,
        highest=1,
        meaning="Area under the correlation of maps before and after the change, shifted to 1 at the anchor.",
    ),
    "top_k_score": Metric(
        unit="area",
        higher_is_better=True,
        variants="augmentation",
        lowest=0,
        highest=1,
        meaning="Area under the overlap of the k most relevant pixels, or channel values where `reduce` is none, "
        "shifted to 1 at the anchor.",
    ),
    "s_pearson": Metric(
        unit="ratio",
        higher_is_better=True,
        variants="augmentation_mean",
        boxed=True,
        meaning="pearson_score / probability_score; below 1 the explanation is less stable than the prediction.",
    ),
    "s_top_k": Metric(
        unit="ratio",
        higher_is_better=True,
        variants="augmentation_mean",
        boxed=True,
        lowest=0,
        meaning="top_k_score / probability_score; below 1 the explanation is less stable than the prediction.",
    ),
    "interpolation_ceiling": Metric(
        control=True,
        unit="correlation",
        higher_is_better=None,
        variants="augmentation",
        lowest=-1,
        highest=1,
        meaning="Correlation of a map with itself warped there and back: the cost of interpolation.",
    ),
    "top_k_chance": Metric(
        control=True,
        unit="share",
        higher_is_better=None,
        lowest=0,
        highest=1,
        meaning="Expected top-k overlap if one of the maps were shuffled, averaged over augmentations and levels.",
    ),
    "repeatability_pearson": Metric(
        control=True,
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Correlation of a stochastic explainer's map with its map of the same image under another draw.",
    ),
    "repeatability_top_k": Metric(
        control=True,
        unit="share",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Top-k overlap of a stochastic explainer's map with its map of the same image under another draw.",
    ),
}


def all_augmentations() -> tuple[Augmentation, ...]:
    """The six augmentations of Tetkova & Hansen 2023 with automatic intervals."""
    return (Brightness(), Hue(), Saturation(), Rotate(), Translate(), Scale())


@final
class SweepCheck(CheckContract):
    """Does the explanation survive harmless changes of the image as well as the prediction does?

    Attributes:
        augmentations: Augmentations to sweep, each over its interval.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"class_scores", "maps_of_copies"})
    paper: ClassVar[str] = "Tetkova & Hansen 2023"
    question: ClassVar[Question] = "stability"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("s_pearson", "s_top_k")
    # it depends on the number of levels and on how far the prediction drops
    floors_shown: ClassVar[frozenset[str]] = frozenset({"s_pearson", "s_top_k"})
    lines: ClassVar[Mapping[str, CurveLine]] = {
        "pearson_score": CurveLine("correlation of maps", "one"),
        "top_k_score": CurveLine("top-k overlap", "two"),
        "probability_score": CurveLine("target probability", "reference"),
    }
    chart_metric: ClassVar[str | None] = "s_pearson"
    flip_rate: ClassVar[str | None] = "prediction_flip_rate"
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
        "where `reduce` is none channel values, three per pixel.",
    )
    reduce: Reduction | Literal["none"] = Field(
        default="sum",
        description="How channels become one value per pixel before maps are compared; none compares channel values.",
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

    def variants_of(self, metric: str) -> tuple[str, ...]:
        """The augmentations, and for a ratio over several of them their mean."""
        match self.metrics[metric].variants:
            case "augmentation":
                return self.chart_parts
            case "augmentation_mean" if len(self.augmentations) > 1:
                return (*self.chart_parts, AUGMENTATION_MEAN)
            case "augmentation_mean":
                return self.chart_parts
            case _:
                return ()

    @property
    def automatic_intervals(self) -> tuple[tuple[Augmentation, str], ...]:
        """Every augmentation with an automatic interval, and the key under which shards share the interval."""
        return tuple(
            (augmentation, interval_key(self, augmentation))
            for augmentation in self.augmentations
            if augmentation.interval == "auto"
        )

    @property
    def needs_measure_wave(self) -> bool:
        """Whether an interval is automatic."""
        return bool(self.automatic_intervals)

    def measure_passes(self, case: CheckCase, rows: int) -> Passes:
        """Both ends of every interval that may be chosen, without those at which nothing changes."""
        ends = sum(
            end != augmentation.identity
            for augmentation, _ in self.automatic_intervals
            if augmentation.label not in case.unavailable
            for interval in tried_intervals(augmentation)
            for end in interval
        )
        return LOGITS.times(rows * ends)

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Every perturbed image once, for the probability and all maps."""
        copies = sum(
            self._changed_levels(augmentation, case)
            for augmentation in self.augmentations
            if augmentation.label not in case.unavailable
        )
        return case.map_passes(case.explained, reads_logits=True).times(rows * copies)

    def map_comparisons(self, case: CheckCase) -> int:
        """The map of every perturbed image with that of its original."""
        return len(case.explained) * sum(
            self._changed_levels(augmentation, case) for augmentation in self.augmentations
        )

    def values(self, augmentation: Augmentation, interval: Interval) -> tuple[float, ...]:
        """Values of an augmentation over an interval, ascending, with the one that changes nothing."""
        return level_grid(interval, augmentation.identity, self.levels, only_ends=augmentation.only_ends)

    def _changed_levels(self, augmentation: Augmentation, case: CheckCase) -> int:
        """Values that change something."""
        interval = augmentation.extent
        if augmentation.interval == "auto":
            interval = case.intervals.get(interval_key(self, augmentation), interval)
        return sum(not same_level(value, augmentation.identity) for value in self.values(augmentation, interval))

    def axis_of(self, variant: str | None) -> str:
        """The augmentation and its unit."""
        return next((f"{one.label} ({one.unit})" for one in self.augmentations if one.label == variant), self.axis)

    def chart_variant(self, explainer: ExplainerContract) -> str | None:
        """The mean over the augmentations; the augmentation itself where there is only one."""
        return AUGMENTATION_MEAN if len(self.augmentations) > 1 else self.augmentations[0].label

    @property
    def chart_parts(self) -> tuple[str, ...]:
        """The augmentations."""
        return tuple(augmentation.label for augmentation in self.augmentations)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """With few levels, S cannot be compared with that of the usual number of levels."""
        if self.levels >= ENOUGH_LEVELS:
            return ()
        message = (
            f"The sweep has {self.levels} levels. The S of a random map depends on the number of levels: for example, "
            "it is 0.94 at 3 levels, 0.84 at 5, 0.42 at 11 and 0.10 at 41 if the prediction collapses. "
            "Compare S with its floor, and never with an S at a different number of levels. Set `levels` to at least "
            f"{ENOUGH_LEVELS}."
        )
        return (Notice("few_levels", message),)

    def notice_of(self, metric: str, mean: float) -> Notice | None:
        """Where the model no longer predicts the target on most of an interval, S divides by little."""
        if metric != "probability_score" or mean >= LEAST_PROBABILITY_SCORE:
            return None
        return Notice(
            "prediction_collapses",
            f"The mean area under the target probability is {mean:.3g}, below {LEAST_PROBABILITY_SCORE:g}: the "
            "prediction does not survive this change, and S divides by that area. Compare S with its floor, or narrow "
            "the interval.",
        )


def interval_key(check: SweepCheck, augmentation: Augmentation) -> str:
    """Under which name the automatic interval of an augmentation is shared between shards."""
    return f"{check.label}.{augmentation.label}.interval"


def tried_intervals(augmentation: Augmentation) -> tuple[Interval, ...]:
    """Every interval that `auto` may choose, narrowest first."""
    return tuple(
        augmentation.around(augmentation.bound * step / AUTO_INTERVAL_STEPS)
        for step in range(1, AUTO_INTERVAL_STEPS + 1)
    )
