"""Agreement: whether two models explain the same decision by the same pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Literal, final

from pydantic import Field, field_validator

from auditcore.contracts.augmentations import Augmentation, Brightness, GaussianNoise
from auditcore.contracts.checks.check import CheckContract, CheckNeed, Noise, Question, Reduction
from auditcore.contracts.checks.check_case import CheckCase
from auditcore.contracts.contract import Name
from auditcore.contracts.metric import Metric
from auditcore.contracts.pass_counts import LOGITS, NOTHING, Passes

MapMeasure = Literal["ssim", "pearson", "spearman", "top_k"]
"""How two maps are compared: structural similarity, correlation of values, of ranks, common most relevant pixels."""

SELF_METRICS: Mapping[str, str] = {
    "ssim": "self_ssim",
    "pearson": "self_pearson",
    "spearman": "self_spearman",
    "top_k": "self_top_k",
}
"""Measure -> the metric of the reference model with itself under harmless changes."""

METRICS: Mapping[str, Metric] = {
    "ssim": Metric(
        unit="similarity",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Structural similarity of the map of the model and the map of the reference model.",
    ),
    "pearson": Metric(
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Correlation of the map of the model with the map of the reference model.",
    ),
    "spearman": Metric(
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Rank correlation of the map of the model with the map of the reference model.",
    ),
    "top_k": Metric(
        unit="share",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of the most relevant pixels that the maps of the two models have in common.",
    ),
    "top_k_chance": Metric(
        control=True,
        unit="share",
        higher_is_better=None,
        lowest=0,
        highest=1,
        meaning="Expected top_k if one of the two maps were shuffled.",
    ),
    "self_ssim": Metric(
        unit="similarity",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Structural similarity of the maps of the reference model before and after harmless changes.",
    ),
    "self_pearson": Metric(
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Correlation of the maps of the reference model before and after harmless changes of the image.",
    ),
    "self_spearman": Metric(
        unit="correlation",
        higher_is_better=True,
        lowest=-1,
        highest=1,
        meaning="Rank correlation of the maps of the reference model before and after harmless changes of the image.",
    ),
    "self_top_k": Metric(
        unit="share",
        higher_is_better=True,
        lowest=0,
        highest=1,
        meaning="Share of the most relevant pixels that the reference model keeps under harmless changes of the image.",
    ),
    "prediction_agreement": Metric(
        unit="share of images",
        higher_is_better=None,
        of_explainer=False,
        lowest=0,
        highest=1,
        meaning="Share of images that the model and the reference model classify alike.",
    ),
}


def slight_changes() -> tuple[Augmentation, ...]:
    """A little darker, a little brighter (5 of 255 gray levels) and a little noise (2.5 of 255)."""
    return Brightness(interval=(-0.02, 0.02)), GaussianNoise(interval=(0.0, 0.01))


@final
class AgreementCheck(CheckContract):
    """Do two models explain the same decision by the same pixels? Needs several models, or a baseline.

    Every model but the reference is compared with the reference. In an audit of one model, the reference is the model
    of the baseline. Of a model that was trained again it asks for
    repeatability, of another architecture for reproducibility. What agreement is worth lies between two ends: that of
    random maps, and that of the reference model with itself under changes that nobody calls a change.

    Attributes:
        reduce: How the channels of a map become one value per pixel.
    """

    needs: ClassVar[frozenset[CheckNeed]] = frozenset({"several_models"})
    paper: ClassVar[str] = "Arun et al. 2021"
    question: ClassVar[Question] = "stability"
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    headlines: ClassVar[tuple[str, ...]] = ("ssim", "pearson", "spearman", "top_k")
    # it depends on the scale, the window and the size of the maps
    floors_shown: ClassVar[frozenset[str]] = frozenset({"ssim", "pearson", "spearman", "top_k"})
    expectations_shown: ClassVar[Mapping[str, str]] = SELF_METRICS
    kind: Literal["agreement"] = "agreement"
    reference: Name | None = Field(
        default=None,
        description="Name of the model of the request with which every other model is compared; the first one if null. "
        "It has no rows under this check. In an audit of one model it is `baseline`, the model of the earlier audit.",
    )
    measures: tuple[MapMeasure, ...] = Field(
        default=("ssim", "pearson", "spearman", "top_k"), min_length=1, description="How maps are compared."
    )
    only_alike: bool = Field(
        default=True,
        description="Leave out images that the two models do not classify alike: their most probable classes differ, "
        "or, where a model has several labels, one of the two gives the explained class a probability of at least 0.5 "
        "and the other does not. If false, all images count; both maps explain the class of the model under audit.",
    )
    normalize: Literal["max_abs", "min_max"] = Field(
        default="max_abs",
        description="How maps are scaled before `ssim`, because two models give maps of different scale. max_abs: each "
        "map by its own largest absolute value, so that 0 stays 0. min_max: each map from its own smallest and largest "
        "value to [0, 1]. The data range is 1. The other measures do not depend on the scale.",
    )
    window: int = Field(default=11, ge=3, le=63, description="Side of the uniform window of `ssim`, in pixels; odd.")
    top_share: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the pixels that are the most relevant ones of `top_k`."
    )
    size: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Height and width, in pixels, to which both maps are resampled bilinearly. If null, the smaller "
        "of the two in each direction. Either way, only the part of the image that both models see is compared.",
    )
    absolute: bool = Field(default=False, description="Compare absolute values.")
    reduce: Reduction = "sum"
    noise: Noise = Field(
        default="common",
        description="What a stochastic explainer draws for the reference model. common: the same random numbers as for "
        "the model under audit, so that maps differ only by what the models do. fresh: other numbers, so that scores "
        "also hold the sampling noise of the explainer. The control `random` always draws other numbers.",
    )

    harmless: tuple[Augmentation, ...] = Field(
        default_factory=slight_changes,
        max_length=8,
        description="Changes of the image under which the maps of the reference model should stay what they are. Each "
        "end of an `interval` that changes the image gives one copy. The metrics `self_*` compare the maps of the "
        "reference model with its maps of the copies that it classifies alike: more agreement than that cannot be "
        "expected of another model. Each copy costs the reference model one more map by each explainer. Empty: no "
        "copies, and no `self_*`. The augmentations must move no pixels, and their intervals must be numbers.",
    )

    @field_validator("measures")
    @classmethod
    def _measures_differ(cls, measures: tuple[MapMeasure, ...]) -> tuple[MapMeasure, ...]:
        twice = [name for name, count in Counter(measures).items() if count > 1]
        if twice:
            msg = f"measure {twice[0]!r} is listed twice; list it once"
            raise ValueError(msg)
        return measures

    @field_validator("window")
    @classmethod
    def _window_is_odd(cls, window: int) -> int:
        if window % 2 == 0:
            msg = f"the window of SSIM must be odd, got {window}"
            raise ValueError(msg)
        return window

    @field_validator("harmless")
    @classmethod
    def _changes_are_harmless(cls, harmless: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        twice = [label for label, count in Counter(one.label for one in harmless).items() if count > 1]
        if twice:
            msg = f"harmless change {twice[0]!r} is listed twice; list it once"
            raise ValueError(msg)
        for one in harmless:
            if one.equivariant:
                msg = (
                    f"harmless change {one.label!r} moves pixels, so the map must move with the image; list one that "
                    "moves none, such as brightness, gaussian_noise or jpeg_quality"
                )
                raise ValueError(msg)
            if one.interval == "auto":
                msg = (
                    f"harmless change {one.label!r} has an automatic interval, at whose ends the prediction suffers; "
                    f"set its `interval` to two numbers around {one.identity:g} ({one.unit})"
                )
                raise ValueError(msg)
        return harmless

    @property
    def harmless_copies(self) -> tuple[tuple[Augmentation, float], ...]:
        """The harmless copies of an image: an augmentation and its value."""
        return tuple((one, value) for one in self.harmless for value in one.extent if value != one.identity)

    @property
    def reference_model(self) -> Name | None:
        """The reference, once it is known which model it is."""
        return self.reference

    def with_reference_model(self, name: Name) -> AgreementCheck:
        """The same check with its reference spelled out."""
        return self if self.reference is not None else self.model_copy(update={"reference": name})

    @property
    def listed_metrics(self) -> Mapping[str, Metric]:
        """The chosen measures, what chance gives `top_k`, how often the models agree, and the reference by itself."""
        chosen = {*self.measures, "prediction_agreement", *(("top_k_chance",) if "top_k" in self.measures else ())}
        if self.harmless:
            chosen |= {SELF_METRICS[measure] for measure in self.measures}
        return {name: metric for name, metric in self.metrics.items() if name in chosen}

    def passes(self, case: CheckCase, rows: int) -> Passes:
        """None: it reads the maps of the originals."""
        return NOTHING

    def reference_passes(self, case: CheckCase, rows: int) -> Passes:
        """Maps and predictions of the reference model, of the images and their copies; and images of one color."""
        maps = case.map_passes(case.able, reads_logits=True).times(rows * (1 + self._copies(case)))
        return maps.plus(LOGITS.times(len(case.map_colors)))

    def map_comparisons(self, case: CheckCase) -> int:
        """For each explainer, one pair of the two models and one for each copy."""
        return len(case.explained) * (1 + self._copies(case))

    def _copies(self, case: CheckCase) -> int:
        """Copies of each image; none if only random maps would be compared, or if a change cannot be applied."""
        if all(one.is_control for one in case.able) or any(one.label in case.unavailable for one in self.harmless):
            return 0
        return len(self.harmless_copies)
