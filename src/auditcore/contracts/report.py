"""The audit report: strict JSON, in which every number has a meaning and every missing value a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, final

from pydantic import Field

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.capabilities import WHITE_BOX, ModelCapabilities
from auditcore.contracts.contract import Contract, Name, Sha256
from auditcore.contracts.images import Labels, labels_of
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.model_signature import ModelSignature
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import Criterion, Severity, Statistic
from auditcore.contracts.policy_document import Version
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.shards import Cost, ExplainedClass

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION: Final = "2.0"


def _missing(value: object) -> bool:
    """Return whether a value is absent; such fields are omitted from the JSON."""
    # a report of 100 images has a thousand results, most of them without a curve or a model's name
    return value is None or value is False


def _everything(value: object) -> bool:
    """Left out of the JSON: a report of 100 images holds a thousand results."""
    return value == WHITE_BOX


def _zero(value: object) -> bool:
    """Left out of the JSON: a report of 100 images holds a thousand results."""
    return value == 0


def _empty(value: object) -> bool:
    """Return whether a collection is empty; such fields are omitted from the JSON."""
    return value in ((), {})


ModelName = Annotated[str | None, Field(exclude_if=_missing)]
"""Name of the model in an audit of several; absent in an audit of one."""

CiReason = Annotated[str | None, Field(exclude_if=_missing)]
"""Why there is no interval."""

Verdict = Literal["pass", "warn", "fail", "inconclusive", "not_evaluated"]

ConditionStatus = Literal["passed", "warned", "failed", "inconclusive", "not_applicable", "vacuous", "skipped"]


@final
class ReportStatistics(Contract):
    """Number of conditions of the policy by outcome.

    Attributes:
        evaluated: All conditions, counted for every model that they are judged for.
        passed: Met, on enough evidence.
        warned: Missed, of severity `warn`.
        failed: Missed, of severity `fail`.
        inconclusive: Neither met nor missed on the available evidence.
        not_applicable: Without any value to judge.
        vacuous: Met, but a random map meets them too; they do not count. Absent if there are none.
        skipped: Without any value, with `on_not_applicable: skip`; they do not count. Absent if there are none.
    """

    evaluated: int
    passed: int
    warned: int
    failed: int
    inconclusive: int
    not_applicable: int
    vacuous: Annotated[int, Field(exclude_if=_zero)] = 0
    skipped: Annotated[int, Field(exclude_if=_zero)] = 0


@final
class ModelPerformance(Contract):
    """Predictive performance of a model on the images of the audit.

    Images that the plan leaves out because they are misclassified count as wrong. Images without a label, or that the
    model has not seen, do not count.

    Attributes:
        n: Number of images with a label that the model has classified.
        accuracy: Share of them whose most probable class is the label, or one of several labels.
        macro_f1: Mean over classes of 2 TP / (2 TP + FP + FN).
        reasons: Name of a number -> why it is null.
    """

    n: int
    accuracy: float | None
    macro_f1: float | None
    reasons: dict[str, str] = Field(default_factory=dict)


@final
class ReportModel(Contract):
    """The model under audit, as asked for and as loaded.

    Attributes:
        reference: The reference, with version and digest as they were pinned.
        digest: sha256 of the weights as loaded.
        classes: Number of classes.
        preprocessing: How an image becomes the model's input.
    """

    name: str | None = Field(default=None, description="Its name in an audit of several models.")
    reference: ModelReference
    digest: Sha256
    classes: int
    parameters: int | None = Field(description="Number of trainable values; null for a black box.")
    trained: bool = Field(description="False for `random:` weights; such a report says nothing about a trained model.")
    preprocessing: Preprocessing
    architecture: str | None = Field(
        default=None,
        description="What models that differ only in their weights have in common; null where that is not known.",
    )
    performance: ModelPerformance = Field(
        default=ModelPerformance(n=0, accuracy=None, macro_f1=None),
        description="Performance on the images of this audit.",
    )
    capabilities: Annotated[ModelCapabilities, Field(exclude_if=_everything)] = Field(
        default=WHITE_BOX, description="What the audit could use of the model; absent if that is everything."
    )
    signature: Annotated[ModelSignature | None, Field(exclude_if=_missing)] = Field(
        default=None,
        description="The signature of its files, verified when they were loaded; absent if the request names none.",
    )
    layers: Annotated[dict[str, str], Field(exclude_if=_empty)] = Field(
        default_factory=dict,
        description="Explainer -> module path of the layer that it reads, named by the plan or chosen automatically; "
        "absent if no explainer reads a layer.",
    )


@final
class ExcludedImage(Contract):
    """An image left out, and why.

    Attributes:
        index: Position in the batch, from 0.
        name: Name of its file; null if unknown.
        digest: sha256 of its file; null if it could not be read.
        code: Stable name of the reason.
        reason: What was found and how to fix it.
    """

    index: int
    name: str | None
    digest: Sha256 | None
    code: str
    reason: str


@final
class UsedImage(Contract):
    """An image that was audited; `per_image` lists follow this order.

    Attributes:
        target: Class explained: the first one where there are several, for the first model that used the image.
        probability: Its probability on the original image.
        further_targets: The others.
        by_model: In an audit of several models, what each explained; a model that left the image out is missing.
        index: Position in the batch, from 0.
        name: Name of its file; null if unknown.
        digest: sha256 of its file.
        label: True class or classes of the image; null if unknown.
        note: What a reader should know of the values of its file; missing if nothing.
    """

    index: int
    name: str | None
    digest: Sha256
    label: Labels | None
    target: int
    probability: float
    further_targets: tuple[ExplainedClass, ...] = ()
    by_model: dict[str, tuple[ExplainedClass, ...]] = Field(default_factory=dict)
    note: Annotated[str | None, Field(exclude_if=_missing)] = None

    @property
    def labels(self) -> tuple[int, ...]:
        """All true classes; empty if unknown."""
        return labels_of(self.label)


@final
class ReportImages(Contract):
    """The image batch. `digest` is the sha256 over the digests of all images that were examined, in order.

    Attributes:
        count: Images of the batch.
        used: Images with at least one value.
        excluded: Images left out, with reasons.
        digest: sha256 over the digests of all images that were examined, in order.
        items: Images used, in the order of every `per_image`.
        class_names: Class -> its name, for the classes and labels of `items`; missing if neither the
            request nor a model has names.
    """

    count: int
    used: int
    pictured: int = Field(default=0, description="Images whose pictures are listed under `artifacts`.")
    excluded: tuple[ExcludedImage, ...]
    not_examined: Annotated[int, Field(exclude_if=_zero)] = Field(
        default=0, description="Images that no model has seen, because the audit stopped early."
    )
    digest: Sha256
    items: tuple[UsedImage, ...]
    class_names: Annotated[dict[int, str], Field(exclude_if=_empty)] = Field(default_factory=dict)


@final
class Curve(Contract):
    """Mean curve over distinct images; `lo` and `hi` bound its pointwise 95 % percentile bootstrap interval.

    The band is drawn and decides nothing. It is narrower than the intervals of `Result` on few images.

    Attributes:
        x: Positions, such as the share of pixels removed.
        mean: Mean over images at each position; null without a value.
        lo: Lower end of the band; null without one.
        hi: Upper end of the band; null without one.
    """

    x: tuple[float, ...]
    mean: tuple[float | None, ...]
    lo: tuple[float | None, ...]
    hi: tuple[float | None, ...]
    interpolated: Annotated[
        bool, Field(exclude_if=_missing, description="True if an adaptive curve has steps that were not measured.")
    ] = False


@final
class PooledStatistics(Contract):
    """Statistics over all pairs of an image and a change; each pair counts once.

    Attributes:
        n: Number of pairs with a value; if an image has several targets, each counts.
        mean: Mean over the pairs; null without a pair.
        std: Sample standard deviation over the pairs; null below two. Pairs of one image depend on each other, so there
            is no interval; the interval over images is `Result.ci`.
    """

    n: int
    mean: float | None
    std: float | None


@final
class BoxPlot(Contract):
    """A box plot over images.

    Attributes:
        lowest: Smallest value that is at most 1.5 box widths below the box.
        q1: First quartile; interpolated linearly between two values.
        median: Median.
        q3: Third quartile.
        highest: Largest value that is at most 1.5 box widths above the box.
    """

    lowest: float
    q1: float
    median: float
    q3: float
    highest: float


@final
class Result(Contract):
    """One metric of one explainer under one check, over all distinct images.

    Images with the same digest are copies: they count as one image, whose value is the mean of their values. The value
    of an image with several targets is the mean over them. So the interval depends on the number of different images,
    not on the number of files or targets.

    Attributes:
        explainer: Name of the explainer; null for a property of model and image only.
        variant: Sub-case, such as `rotate` or `top_15`.
        n: Distinct images with a value.
        n_not_applicable: Distinct images without a value.
        mean: Mean over distinct images; null without any value.
        std: Sample standard deviation over distinct images; null below two values.
        sem: Standard error of the mean; null below two values.
        ci: 95 % confidence interval of the mean, within the metric's range; null if there is none (see `ci_reason`).
            `manifest.interval` describes the method.
        ci_reason: Why there is no interval; absent if there is one.
        per_image: Values in the order of `images.items`, copies included; null where undefined.
        reasons: Image index -> why its value is null.
        model: Name of the model in an audit of several.
        ranked_by: By what a check ordered the pixels or cells of the explainer's maps; absent without an order.
        small_sample: n is below 30, where the interval may cover less than it promises.
        floor: Mean of the random control for the same model, check, metric and sub-case: what a map without knowledge
            gets. Absent where there is none, and of the control itself.
        box: Quartiles over images, for metrics that papers show so.
        pooled: The same over all pairs of an image and a change, for metrics of several changes an image.
        check: The check, by its name in the plan.
        metric: Name of the metric; the catalogue says what it means.
        unit: Unit of the values.
        higher_is_better: Whether larger values are better; null if neither is.
        curve: Mean curve over images, for metrics that are areas under one; absent for others.
    """

    model: ModelName = None
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    unit: str
    higher_is_better: bool | None
    n: int
    n_not_applicable: int
    mean: float | None
    std: float | None
    sem: float | None
    ci: tuple[float, float] | None
    ci_reason: CiReason = None
    ranked_by: Annotated[RankingOrder | None, Field(exclude_if=_missing)] = None
    small_sample: Annotated[bool, Field(exclude_if=_missing)] = False
    floor: Annotated[float | None, Field(exclude_if=_missing)] = None
    per_image: tuple[float | None, ...]
    reasons: dict[int, str]
    curve: Annotated[Curve | None, Field(exclude_if=_missing)] = None
    box: Annotated[BoxPlot | None, Field(exclude_if=_missing)] = None
    pooled: Annotated[PooledStatistics | None, Field(exclude_if=_missing)] = None


@final
class Slice(Contract):
    """A headline metric over a part of the images.

    Attributes:
        part: `class=N` for the images (and targets) of one class; `flipped` and `not_flipped` for images whose
            predicted class changes, or does not change, anywhere in the sweep's interval of this augmentation.
        n: Distinct images with a value.
        ci: 95 % confidence interval of the mean; null where `ci_reason` says why.
        ci_reason: Why there is no interval; absent where there is one.
        model: In an audit of several models, which one; absent in an audit of one.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        mean: Mean over distinct images.
        std: Sample standard deviation over distinct images; null below two values.
        sem: Standard error of the mean; null below two values.
    """

    part: str
    model: ModelName = None
    check: str
    explainer: str
    metric: str
    variant: str | None
    n: int
    mean: float
    std: float | None
    sem: float | None
    ci: tuple[float, float] | None
    ci_reason: CiReason = None


@final
class Comparison(Contract):
    """One metric of two models on the images that both have a value for: `model` minus `against`.

    Attributes:
        n: Distinct images that both models have a value for.
        ci: 95 % paired confidence interval of the mean difference; null where `ci_reason` says why.
        ci_reason: Why there is no interval; absent where there is one.
        model: Name of the first model.
        against: Name of the second model.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan; null if it concerns none.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        difference: Mean of `model` minus mean of `against`; null without any value.
        std: Sample standard deviation of the differences over images; null below two values.
    """

    model: str
    against: str
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    n: int
    difference: float | None
    std: float | None
    ci: tuple[float, float] | None
    ci_reason: CiReason = None


@final
class ExplainerLead(Contract):
    """The best explainer of a headline metric against the second best: `best` minus `second`, paired by image.

    Random controls are left out. The same data select the two explainers and compare them, so the interval is a little
    too narrow where several explainers are about equally good.

    Attributes:
        best: Explainer with the best mean.
        second: Explainer with the second best mean.
        n: Distinct images that both have a value for.
        ci: 95 % paired confidence interval of the mean difference; null where `ci_reason` says why.
        ci_reason: Why there is no interval; absent where there is one.
        model: In an audit of several models, which one; absent in an audit of one.
        check: The check, by its name in the plan.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        difference: Mean of the paired differences; null without any value.
    """

    model: ModelName = None
    check: str
    metric: str
    variant: str | None
    best: str
    second: str
    n: int
    difference: float | None
    ci: tuple[float, float] | None
    ci_reason: CiReason = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0, so that the lead is more than chance."""
        return self.ci is not None and not self.ci[0] <= 0 <= self.ci[1]


@final
class MeasureReliability(Contract):
    """Whether a metric orders the explainers the same way on several models.

    Erdem 2021, definition 5.1, requires this for models of one architecture with different performance, on images of
    one domain: scope `architecture`. Scope `all_models` compares all models of the audit.

    Attributes:
        architecture: Of all these models; null for scope `all_models`.
        models: Those that are compared, by ascending accuracy on the images of the audit; in the order of the request
            where it is not known of all.
        n: Images behind the mean that rests on the fewest.
        reliable: Every model gives the same order of explainers by mean; null when no two can be told apart.
        kendall_w: Kendall's coefficient of concordance over models, corrected for ties, in [0, 1];
            null when no two can be told apart.
        orders: Explainers that have a mean on every model, from best (or largest) to worst for each; random controls
            are left out.
        discordant: Pairs of explainers that two models order differently, or that are equal for only one of them.
        check: The check, by its name in the plan.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        scope: Which models are compared.
    """

    check: str
    metric: str
    variant: str | None
    scope: Literal["architecture", "all_models"]
    architecture: str | None
    models: tuple[str, ...]
    n: int
    reliable: bool | None
    kendall_w: float | None
    orders: dict[str, tuple[str, ...]]
    discordant: tuple[tuple[str, str], ...]


@final
class ExplainerAverage(Contract):
    """One metric averaged over explainers, image by image, then over images: the column Average of Won et al. 2025.

    `sem` and `ci` are over images: values of one image with several explainers are not independent, so each image
    counts once. The paper's tables print a different number, `pooled_sem`: they treat the values of every image with
    every explainer as independent (5 explainers and 2,000 images count as 10,000 values). It is smaller if images that
    are hard for one explainer are hard for the others.

    Attributes:
        explainers: The averaged explainers: each has a value for at least one image, in an audit of several models on
            every model, so that models are compared over the same explainers. Random controls are left out.
        left_out: Explainers of the plan that are not averaged, because they have no such value.
        n: Number of images for which every averaged explainer has a value; only these count.
        n_not_applicable: Number of all other images.
        std: Sample standard deviation over images of the image averages; null below two images.
        sem: Standard error of the mean over images; null below two images.
        ci: 95 % confidence interval of the mean over images; null if there is none (see `ci_reason`).
        ci_reason: Why there is no interval; absent if there is one.
        pooled_sem: Standard error if all values of all these images were independent, as printed in the paper; null
            below two values.
        reason: Why there is no mean; null where there is one.
        model: In an audit of several models, which one; absent in an audit of one.
        check: The check, by its name in the plan.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        unit: Unit of the values.
        higher_is_better: Whether larger values are better; null if neither is.
        mean: Mean over images of the average over explainers; null if there is none.
    """

    model: ModelName = None
    check: str
    metric: str
    variant: str | None
    unit: str
    higher_is_better: bool | None
    explainers: tuple[str, ...]
    left_out: Annotated[tuple[str, ...], Field(exclude_if=_empty)] = ()
    n: int
    n_not_applicable: int
    mean: float | None
    std: float | None
    sem: float | None
    ci: tuple[float, float] | None
    ci_reason: CiReason = None
    pooled_sem: float | None
    reason: Annotated[str | None, Field(exclude_if=_missing)] = None


@final
class ModelRanking(Contract):
    """Models ordered by the average over explainers, and a paired test of the best model against the second.

    The test is Student's two-sided t-test of the differences, paired by image; its null hypothesis is that the mean
    difference is 0. Won et al. 2025 compare the best and the second model of their tables by a p-value and do not name
    their test. As there, the same data select the two models and test them. A report contains many such tests: of tests
    between equal models, about one in twenty is below 0.05 by chance.

    Attributes:
        explainers: The averaged explainers, as in `averages`.
        n: Number of images for which every model has an average; copies of one image count once. Order, means and test
            use only these images, so that no model is better because its images are easier.
        order: Models from best to worst; models with equal means in the order of the request. Empty without images.
        means: Mean of each model over these images.
        difference: Mean of the best model minus mean of the second.
        t: Test statistic, the difference over its standard error; null without a test.
        p_value: Probability of a difference at least as far from 0 if the models were equal, in [0, 1]; null without a
            test.
        reason: Why there is no test; null where there is one.
        check: The check, by its name in the plan.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        higher_is_better: Whether the best model has the largest mean.
    """

    check: str
    metric: str
    variant: str | None
    higher_is_better: bool
    explainers: tuple[str, ...]
    n: int
    order: tuple[str, ...]
    means: dict[str, float]
    difference: float | None
    test: Literal["paired_t"] = "paired_t"
    t: float | None
    p_value: float | None
    reason: Annotated[str | None, Field(exclude_if=_missing)] = None


@final
class OcclusionCorrelation(Contract):
    """Correlation over models between robustness to random deletion and a score of deletion (Won et al. 2025, table 4).

    Each model gives one point: its mean `rao_auc`, which does not depend on explanations, and its mean of `metric`. Won
    et al. find a high correlation for `lerf_auc` (0.512 for CIFAR-10, 0.869 for ImageNet, six models each) and conclude
    that it rewards models that are robust to deletion, regardless of their explanations. `inter_model_deletion` removes
    this effect (-0.020 and -0.192), so it can compare models. Their 0.869 uses an average of 63.14 for the baseline in
    table 5, whose row has the mean 68.14; with that mean the correlation is 0.750.

    A correlation over few models says little: over three models, it is often near 1 or -1 by chance.

    Attributes:
        explainer: Whose scores; null for the average over explainers, which is what the paper prints.
        models: Those that have values; one point each.
        n: Images on which every one of these models has both values; means are over these images.
        pearson: In [-1, 1]; null below three models, or where all models have the same mean.
        reason: Why there is no correlation; null where there is one.
        check: The check, by its name in the plan.
        metric: The score that is correlated with `rao_auc`.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
    """

    check: str
    explainer: str | None
    metric: Literal["lerf_auc", "inter_model_deletion"]
    variant: str | None
    models: tuple[str, ...]
    n: int
    pearson: float | None
    reason: Annotated[str | None, Field(exclude_if=_missing)] = None


@final
class BaselineChange(Contract):
    """The change of one result since a baseline, over the images that have a value in both audits.

    Attributes:
        kind: `absolute`: in the unit of the metric. `relative`: as a share of `baseline_mean`, without its sign.
        n: Distinct images with a value in both audits.
        baseline_mean: Mean of the baseline over these images; null without any.
        change: Mean of the paired differences, above 0 for an improvement; null where `reason` says why.
        ci: 95 % paired confidence interval of the change; null if there is none (see `ci_reason`). That of a relative
            change takes `baseline_mean` as exact.
        ci_reason: Why there is no interval; absent if there is one.
        reason: Why there is no change; absent if there is one.
    """

    kind: Literal["absolute", "relative"]
    n: int
    baseline_mean: float | None
    change: float | None
    ci: tuple[float, float] | None
    ci_reason: CiReason = None
    reason: Annotated[str | None, Field(exclude_if=_missing)] = None


@final
class ReportBaseline(Contract):
    """The earlier audit that conditions on changes compare with.

    Attributes:
        audit_id: Id of the earlier audit.
        plan_digest: Digest of its plan.
        shared_images: Distinct images that both audits used.
        differences: What differs besides the model, and can be the reason for a change; one phrase each.
    """

    audit_id: str
    plan_digest: Sha256
    shared_images: int
    differences: tuple[str, ...]


@final
class BaselineModel(Contract):
    """The model of the baseline, when a check has compared its maps with those of the model under audit.

    Attributes:
        reference: Its reference, with version and digest as they were pinned.
        digest: sha256 of the weights as loaded, equal to that in the report of the baseline.
    """

    reference: ModelReference
    digest: Sha256


@final
class ConditionOutcome(Contract):
    """The outcome of one condition of the policy. Conditions that passed are listed too.

    A condition with a pattern has one outcome for each result that it matches, all with the same id.

    Attributes:
        statistic: What was compared with the threshold: the unfavorable end of the interval, or the mean.
        min_images: Distinct images that must have a value.
        severity: Effect on the verdict if the condition does not pass; with `warn`, the verdict is at worst `warn`.
        observed: Mean over distinct images; null without any value.
        ci: 95 % confidence interval of the mean; null if there is none.
        n: Distinct images with a value.
        status: `passed`, or missed: `failed` or `warned` by its severity. `inconclusive` if the evidence does not tell.
            `not_applicable` if there is no value, `skipped` if the condition then asks to be skipped. `vacuous` if it
            is met, but a random map meets it too; such a condition cannot make a verdict pass.
        change: The change since the baseline, for a condition that compares it; absent for others.
        message: One sentence: what was compared, with which threshold, over how many images, and what is missing.
        id: Id of the condition.
        model: In an audit of several models, which one; absent in an audit of one.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan; null if it concerns none.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
        comparison: Whether the value must be at least or at most the threshold, or what the change since a baseline
            must be.
        threshold: The threshold, the smallest change, or the margin.
    """

    id: str
    model: ModelName = None
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    statistic: Statistic
    min_images: int
    severity: Severity
    comparison: Criterion
    threshold: float
    observed: float | None
    ci: tuple[float, float] | None
    n: int
    anytime_ci: Annotated[tuple[float | None, float | None] | None, Field(exclude_if=_missing)] = Field(
        default=None, description="In an audit with a stop rule, the confidence sequence; see `stopping.decisions`."
    )
    change: Annotated[BaselineChange | None, Field(exclude_if=_missing)] = None
    status: ConditionStatus
    message: str


@final
class ReportPolicy(Contract):
    """The policy that the conditions are from.

    Attributes:
        name: Its name.
        version: Its version.
        digest: sha256 of the document in canonical JSON.
    """

    name: Name
    version: Version
    digest: Sha256


@final
class ConditionDecision(Contract):
    """The decision of a stop rule on one condition at the end of the audit.

    Attributes:
        condition: Its id.
        decided: What the mean does, as far as the images seen can tell: over all images of the batch and over images
            like them, both at once; null if that is open.
        decided_at: Images after which it was known.
        interval: Ends of the confidence sequence of both means: each holds after every image at the error rate
            `alpha_each`, so that a threshold outside is decided. Null at an end without a bound.
        bounds: Range of the metric that the sequence rests on; null at an end where it has none.
        model: In an audit of several models, which one; absent in an audit of one.
    """

    condition: str
    model: ModelName = None
    decided: Literal["met", "missed"] | None
    decided_at: int | None
    interval: tuple[float | None, float | None]
    bounds: tuple[float | None, float | None]


@final
class Stopping(Contract):
    """How an audit with a stop rule ended.

    If it stopped early, results are means over the used images, and their 95 % intervals do not take the stop into
    account; conditions are judged by the confidence sequences, which do. If it used all images, results and conditions
    are the same as without a rule.

    Attributes:
        alpha: Largest allowed probability of any wrong decision.
        alpha_each: Largest allowed probability of a wrong decision for one condition of one model.
        order_seed: The plan's seed, which determines the order of the images together with their number.
        looks: Number of looks.
        decisions: One entry per condition and model that it is judged for.
        reason: One sentence for a reader.
        rule: Kind of the stop rule.
        images_total: Images of the batch.
        images_used: Images that were audited.
        stopped_early: Whether the audit ended before all images were used.
    """

    rule: Literal["conclusive"]
    alpha: float
    alpha_each: float
    order_seed: int
    images_total: int
    images_used: int
    looks: int
    stopped_early: bool
    decisions: tuple[ConditionDecision, ...]
    reason: str


@final
class CalibratedInterval(Contract):
    """The measured interval of `interval: auto`, for one model.

    Attributes:
        model: Name of the model in an audit of several.
        interval: Interval of the sweep. In an audit of several models, the narrowest of their own intervals.
        own_interval: In an audit of several models, the interval that this model would have in an audit of its own.
        set_by: In an audit of several models, the model with the narrowest interval; the first one if several are
            equal.
        reached: Whether this model's mean probability has dropped by 10 % at an end of its own interval; if not, its
            own interval is the whole bound.
        check: The check, by its name in the plan.
        augmentation: Kind of the augmentation.
        message: One sentence for a reader.
    """

    model: str | None = None
    check: str
    augmentation: str
    interval: tuple[float, float]
    own_interval: Annotated[tuple[float, float] | None, Field(exclude_if=_missing)] = None
    set_by: ModelName = None
    reached: bool
    message: str


@final
class MetricDeviation(Contract):
    """Difference of a metric from its exact value on the sample.

    Attributes:
        n: Number of images of the sample with both values.
        max_abs: Largest absolute difference; null without such images.
        mean_abs: Mean absolute difference.
        one_sided: Images for which only one of the two values is defined.
        model: In an audit of several models, which one; absent in an audit of one.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan; null if it concerns none.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
    """

    model: ModelName = None
    check: str
    explainer: str | None
    metric: str
    variant: str | None
    n: int
    max_abs: float | None
    mean_abs: float | None
    one_sided: Annotated[int, Field(exclude_if=_zero)] = 0


@final
class StatedError(Contract):
    """Stated error of the areas under the adaptive curves of a metric, over all images of the audit.

    Attributes:
        tolerance: Requested tolerance of the area under one curve.
        estimated: Largest value of two standard errors, assuming that unmeasured steps scatter around the line like
            measured steps nearby. For a metric of several curves, the errors are added.
        bound: Largest possible error if every curve is monotone between neighboring measured steps.
        steps_measured: Measured steps of its curves.
        steps: Steps of its exact curves.
        model: In an audit of several models, which one; absent in an audit of one.
        check: The check, by its name in the plan.
        explainer: The explainer, by its name in the plan; null if it concerns none.
        metric: Name of the metric; the catalogue says what it means.
        variant: Sub-case, such as `rotate` or `top_15`; null if there is none.
    """

    model: ModelName = None
    check: str
    explainer: str | None
    metric: str
    variant: Annotated[str | None, Field(exclude_if=_missing)] = None
    tolerance: float
    estimated: float
    bound: float
    steps_measured: int
    steps: int


@final
class Deviation(Contract):
    """Deviation of faster modes from the exact audit: measured on a sample of the same images, and stated for curves.

    Attributes:
        modes: The faster modes in use.
        sample_images: Number of the first images that were also measured exactly; zero if none of them could be used.
        metrics: Differences on the sample, metric by metric.
        stated: Errors of areas under adaptive curves.
    """

    modes: tuple[str, ...]
    against: Literal["exact fp32"] = "exact fp32"
    sample_images: int
    metrics: tuple[MetricDeviation, ...]
    stated: tuple[StatedError, ...] = ()


WarningCode = Literal[
    "image_independent", "depends_on_other_images", "few_levels", "prediction_collapses", "baseline_differs_from_fill"
]


@final
class ReportWarning(Contract):
    """A warning that some numbers of a report can mislead.

    Attributes:
        code: Kind of the warning, for programs.
        check: The check that it concerns; null if it concerns several.
        explainer: The explainer that it concerns; null if it concerns several.
        variant: Sub-case, such as `rotate`; null if it concerns all.
        message: What was found and what it means, in one or two sentences.
        model: In an audit of several models, which one; absent in an audit of one.
    """

    code: WarningCode
    model: ModelName = None
    check: str | None = None
    explainer: str | None = None
    variant: str | None = None
    message: str


@final
class Manifest(Contract):
    """What is needed to repeat the audit.

    Attributes:
        auditcore_version: Version of auditcore that computed the report.
        seed: Seed of the plan.
        preset: Name of the preset that the plan was made from; null if none.
        request_digest: sha256 of the request in canonical JSON.
        plan_digest: sha256 of the plan in canonical JSON.
        environment: Versions of libraries and of the machine.
        shards: Groups of images that were computed separately.
        attempts: Attempts at these groups, repeated ones included.
        started_at: When the audit started, RFC 3339; null for an audit without a service.
        finished_at: When it ended, RFC 3339; null for an audit without a service.
    """

    auditcore_version: str
    seed: int
    preset: str | None
    request_digest: Sha256
    plan_digest: Sha256
    environment: dict[str, str]
    interval: str = Field(description="How confidence intervals were computed.")
    shards: int
    attempts: int
    micro_batches: tuple[int, ...] = Field(
        default=(),
        description="Images per pass, every size that ran; different sizes change scores by rounding.",
    )
    started_at: str | None = None
    finished_at: str | None = None


@final
class UpgradedFrom(Contract):
    """The document that a report was read from, if it has an earlier schema.

    Attributes:
        schema_version: Schema version of the document.
        definitions: Definitions of its numbers that have changed since.
    """

    schema_version: str
    definitions: tuple[str, ...]


@final
class AuditReport(Contract):
    """Result of one audit. A verdict of `fail` is a finished audit, not a broken one.

    Attributes:
        audit_id: Id of the audit.
        verdict: Outcome of the policy; `not_evaluated` without one.
        verdict_reason: Why the verdict is what it is, in one sentence; absent in reports of earlier versions.
        statistics: How many conditions ended how.
        images: The images, used and excluded.
        plan: The plan in full, with every default.
        intervals: What every `interval: auto` came to.
        results: Every metric of every explainer under every check.
        slices: Headline metrics over parts of the images.
        conditions: What became of every condition of the policy.
        controls: Results of controls, such as repeatability.
        cost: What the audit cost.
        manifest: What is needed to repeat the audit.
    """

    schema_version: Literal["2.0"] = SCHEMA_VERSION
    upgraded_from: Annotated[UpgradedFrom | None, Field(exclude_if=_missing)] = Field(
        default=None, description="Absent unless the report was read from a document of an earlier schema."
    )
    audit_id: str
    verdict: Verdict
    verdict_reason: Annotated[str | None, Field(exclude_if=_missing)] = None
    statistics: ReportStatistics
    model: ReportModel | None = Field(description="The model under audit; null in an audit of several.")
    models: tuple[ReportModel, ...] = Field(default=(), description="The models of an audit of several, else empty.")
    images: ReportImages
    plan: AuditPlan
    intervals: tuple[CalibratedInterval, ...]
    not_applicable: dict[str, str] = Field(
        description="Explainer -> why it could not run on this model; in an audit of several, model/explainer."
    )
    results: tuple[Result, ...]
    slices: tuple[Slice, ...] = ()
    comparisons: tuple[Comparison, ...] = Field(default=(), description="Every pair of models on every metric.")
    leads: Annotated[tuple[ExplainerLead, ...], Field(exclude_if=_empty)] = Field(
        default=(),
        description="For each headline metric, the best explainer against the second best; absent with fewer than two.",
    )
    reliability: tuple[MeasureReliability, ...] = Field(
        default=(),
        description="Whether each metric orders the explainers the same way: for all models, and for each architecture "
        "of several models.",
    )
    averages: tuple[ExplainerAverage, ...] = Field(
        default=(), description="Every metric of every model, averaged over the explainers."
    )
    rankings: tuple[ModelRanking, ...] = Field(
        default=(), description="Models ranked by these averages, with a test of the best model against the second."
    )
    occlusion_correlations: tuple[OcclusionCorrelation, ...] = Field(
        default=(), description="Over several models: correlation of deletion scores with robustness to deletion."
    )
    policy: Annotated[ReportPolicy | None, Field(exclude_if=_missing)] = Field(
        default=None, description="Name, version and digest of the policy; absent for conditions without a name."
    )
    conditions: tuple[ConditionOutcome, ...]
    baseline: Annotated[ReportBaseline | None, Field(exclude_if=_missing)] = Field(
        default=None, description="The earlier audit that changes are relative to; absent without one."
    )
    baseline_model: Annotated[BaselineModel | None, Field(exclude_if=_missing)] = Field(
        default=None,
        description="The model with which checks that compare models compared the only model; absent without any.",
    )
    stopping: Annotated[Stopping | None, Field(exclude_if=_missing)] = Field(
        default=None, description="How a stop rule ended the audit; absent without a rule."
    )
    controls: tuple[Result, ...]
    warnings: tuple[ReportWarning, ...] = Field(
        default=(), description="Warnings that some numbers of this report can mislead."
    )
    notes: tuple[str, ...] = Field(default=(), description="Notes for the reader on how the audit ran.")
    deviation: Annotated[
        Deviation | None,
        Field(exclude_if=_missing, description="Deviation of faster modes from exact float32; absent without them."),
    ] = None
    artifacts: tuple[Artifact, ...] = Field(
        default=(), description="Photos and maps of the first images, in the order of images and explainers."
    )
    cost: Cost
    manifest: Manifest

    @property
    def audited_models(self) -> tuple[ReportModel, ...]:
        """All models of the audit."""
        return self.models if self.model is None else (self.model,)

    def to_frame(self, *, per_image: bool = False) -> pd.DataFrame:
        """The results as a data frame of pandas. Needs the extra `pandas`.

        What is undefined is `pd.NA`, never 0, and a column says why.

        Args:
            per_image: False for one row per result, with the columns of `report_rows.ResultRow`: `model`, `check`,
                `explainer`, `metric`, `variant`, `unit`, `higher_is_better`, `control`, `n`, `n_not_applicable`,
                `mean`, `std`, `sem`, `ci_low`, `ci_high`, `floor`, `small_sample`, `ranked_by`, `reason`, `ci_reason`.
                True for one row per result and image, with those of `report_rows.ImageRow`: `model`, `check`,
                `explainer`, `metric`, `variant`, `unit`, `control`, `image`, `name`, `label`, `labels`, `target`,
                `target_name`, `value`, `reason`.

        Returns:
            Results in the order of the report, controls last. Texts have the type `string`, counts, indices and classes
            `Int64`, numbers `Float64`, and yes or no `boolean`.

        Raises:
            ImportError: pandas is not installed; the message names the extra.
        """
        from auditcore.contracts.report_frame import result_frame  # noqa: PLC0415 - rows are made of reports

        return result_frame(self, per_image=per_image)


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of the report, which is committed under `openapi/`."""
    return AuditReport.model_json_schema(mode="serialization")
