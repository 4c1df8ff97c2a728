"""What every check says of itself before any tensor exists: its metrics, its price, how its results are shown."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, get_args

from pydantic import Field, field_validator

from auditcore.contracts.augmentations import Augmentation
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.contract import Contract, Name
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.image_colors import ImageColor
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import NOTHING, Passes

CheckNeed = Literal["class_scores", "maps_of_copies", "weights", "several_models"]
"""What a check asks of an audit beyond a prediction and a map of each image: the score of any class, for perturbed
images; maps of perturbed images; weights that can be altered; another model, which makes maps of the same images."""

Question = Literal["stability", "faithfulness", "localization", "randomization", "complexity"]
"""What a check asks.

`stability`: whether the map stays the same where it should. `faithfulness`: whether the model needs what the map shows.
`localization`: whether the map lies on the object. `randomization`: whether it changes when the model forgets.
`complexity`: how few pixels carry it.
"""

ABOUT_THE_MODEL: frozenset[Question] = frozenset({"faithfulness", "randomization"})
"""Questions that a map cannot answer well if it ignores what the model computes."""

LineStyle = Literal["one", "two", "three", "four", "five", "six", "reference"]
"""How the page draws a curve; the reference lies below the others."""

Reduction = Literal["sum", "mean", "max_abs"]
"""How an attribution of shape (C,H,W) becomes one value per pixel; signs are kept except by `max_abs`."""

Noise = Literal["common", "fresh"]
"""Whether a stochastic explainer draws the same random numbers for an image and all its perturbed copies."""

NOISE = (
    "What a stochastic explainer draws for the changed copies of an image. common: the same random numbers as for the "
    "unchanged image, so that maps differ only by what the change does. fresh: new numbers for each copy, so that "
    "scores also hold the sampling noise of the explainer, which the control `repeatability` measures. Sampling noise "
    "is not instability: with fresh noise even a change of 0.1 gray level leaves a correlation of only 0.42 for "
    "SmoothGrad with 50 samples. The control `random` always draws fresh numbers; with common noise its maps would all "
    "be the same map."
)


class CurveLine(NamedTuple):
    """How the page draws the curve of a metric.

    Attributes:
        legend: Its name in the legend.
        style: Its color and stroke.
    """

    legend: str
    style: LineStyle


class Pool(NamedTuple):
    """Which single changes a sub-case joins, for statistics over all pairs of an image and a change.

    Attributes:
        members: Sub-cases of single changes.
        kept_by: Metric and sub-case whose value is 1 for the images that count; None if all count.
    """

    members: tuple[str, ...]
    kept_by: tuple[str, str] | None = None


class Notice(NamedTuple):
    """A warning that a report gives about a check.

    Attributes:
        code: Kind of the warning, for programs; one of `report.WarningCode`.
        message: What was found, what it means and what to do, for a reader.
    """

    code: Literal["few_levels", "prediction_collapses"]
    message: str


class CheckContract(Contract):
    """Base of all checks. A new check declares the class variables and overrides the methods that concern it.

    Attributes:
        needs: What the model must let an audit see.
        paper: Where the check is defined.
        question: What it asks.
        metrics: Name -> meaning of every number that it can report.
        headlines: Metrics that a summary shows, in order; the report holds all others too.
        floors_shown: Metrics beside which a summary shows what a map without knowledge gets, because no reader knows
            it.
        expectations_shown: Metric -> the metric beside it that says how high it can be expected to be at all; a
            summary shows its mean for the same explainer.
        lines: Metric -> how the page draws its curve. The curves of other metrics are in the JSON report only.
        axis: What runs along its curves.
        chart_metric: Its number in the chart of robustness against faithfulness; None if it is not part of that chart.
        random_order: Metric -> what a random order of pixels or cells scores: a number, or the metric that lists it.
        flip_rate: Metric that says how often the prediction changes in a sub-case, by which the report splits the
            images; None if it has none.
        measures_maps: Whether the first wave makes the maps of all originals for it.
        pays_per_group: Whether it makes some passes again for every group of images, so that groups should be large.
        name: How the report calls this entry; its kind if null. Two entries of one kind need names.
        explainers: Names of the explainers of the plan that it runs on; all of them if null.
    """

    needs: ClassVar[frozenset[CheckNeed]]
    paper: ClassVar[str]
    question: ClassVar[Question]
    metrics: ClassVar[Mapping[str, Metric]]
    headlines: ClassVar[tuple[str, ...]]
    floors_shown: ClassVar[frozenset[str]] = frozenset()
    expectations_shown: ClassVar[Mapping[str, str]] = {}
    lines: ClassVar[Mapping[str, CurveLine]] = {}
    axis: ClassVar[str] = ""
    chart_metric: ClassVar[str | None] = None
    random_order: ClassVar[Mapping[str, float | str]] = {}
    flip_rate: ClassVar[str | None] = None
    measures_maps: ClassVar[bool] = False
    pays_per_group: ClassVar[bool] = False
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

    # --- several models ----------------------------------------------------------------------------

    @property
    def reference_model(self) -> Name | None:
        """Name of the model with which it compares the others; None if it looks at each model by itself."""
        return None

    def with_reference_model(self, name: Name) -> CheckContract:
        """The same check, comparing with the model of this name unless it names one already."""
        return self

    # --- metrics and their sub-cases ---------------------------------------------------------------

    @property
    def listed_metrics(self) -> Mapping[str, Metric]:
        """Metrics that it lists with its parameters."""
        return self.metrics

    @property
    def measured_metrics(self) -> Mapping[str, Metric]:
        """Metrics that can have a value with its parameters."""
        return self.listed_metrics

    def variants_of(self, metric: str) -> tuple[str, ...]:
        """Sub-cases under which it lists a metric; empty if the metric has none."""
        return ()

    @classmethod
    def is_headline(cls, metric: str, variant: str | None) -> bool:  # noqa: ARG003 - for checks with sub-cases
        """Whether a summary shows this number."""
        return metric in cls.headlines

    # --- price -------------------------------------------------------------------------------------

    @abstractmethod
    def passes(self, case: CheckCase, rows: int) -> Passes:
        """Passes that it makes in the second wave, without those of `colors`.

        Args:
            case: Explainers, model and sizes.
            rows: Images and targets that are explained.
        """

    def reference_passes(self, case: CheckCase, rows: int) -> Passes:
        """Passes that its reference model makes in the second wave, in a shard of the model under audit.

        Args:
            case: As for `passes`, about the reference model, with the explainers that run on both models.
            rows: Images and targets that are explained.
        """
        return NOTHING

    @property
    def colors(self) -> frozenset[ImageColor]:
        """Colors of whole images that it passes once for all images."""
        return frozenset()

    @property
    def needs_measure_wave(self) -> bool:
        """Whether it needs a quantity of the whole audit, which takes a first wave over all images."""
        return self.measures_maps

    def measure_passes(self, case: CheckCase, rows: int) -> Passes:
        """Passes that it makes in the first wave, without predictions and maps of the originals."""
        return NOTHING

    def map_comparisons(self, case: CheckCase) -> int:
        """Pairs of maps that it compares per image and target; work that is no pass of the model."""
        return 0

    # --- quantities of the whole audit, and faster modes -------------------------------------------

    @property
    def automatic_intervals(self) -> tuple[tuple[Augmentation, str], ...]:
        """Every augmentation whose interval is found by measuring, with the key of the interval."""
        return ()

    @property
    def area_tolerance(self) -> float | None:
        """What the areas under its adaptive curves may be off by; None if it measures every step."""
        return None

    def exactly(self) -> CheckContract:
        """The same check without faster modes."""
        return self

    # --- what a report shows -----------------------------------------------------------------------

    def axis_of(self, variant: str | None) -> str:
        """What runs along the curves of a sub-case."""
        return self.axis

    def chart_variant(self, explainer: ExplainerContract) -> str | None:
        """Sub-case of `chart_metric` that stands for an explainer in the chart."""
        return None

    @property
    def chart_parts(self) -> tuple[str, ...]:
        """Sub-cases that its number in the chart is the mean of; empty if it has none."""
        return ()

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Sub-case -> the single changes that it joins; only sub-cases that join several."""
        return {}

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Warnings that follow from its settings, for audits in which it has measured something."""
        return ()

    def notice_of(self, metric: str, mean: float) -> Notice | None:
        """The warning that the mean of a metric calls for, if any."""
        return None

    # --- what takes the place of removed pixels ----------------------------------------------------

    @property
    def fills(self) -> Mapping[str, str]:
        """Field, or entry of a field -> what it puts in place of removed pixels, named as baselines are."""
        return {}

    def ways_to_fill(self, baseline: str) -> tuple[str, ...]:
        """What to set so that all its fills are this baseline; empty if nothing does."""
        fields = type(self).model_fields
        return tuple(
            f"`{field}` of {self.label} to `{baseline}`"
            for field, fill in self.fills.items()
            if fill != baseline and field in fields and baseline in get_args(fields[field].annotation)
        )

    def advice_on_fills(self, baseline_field: str) -> str:
        """What to do where neither the check nor the explainer can be set so that fill and baseline match.

        Args:
            baseline_field: Field of the explainer that sets its baseline.
        """
        return f"Leave the explainer out of `explainers` of {self.label}, or give it another `{baseline_field}`."
