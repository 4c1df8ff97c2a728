"""Policies: the conditions for a pass, on confidence intervals or means of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract, Name
from auditcore.contracts.metric import Metric
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import InvalidRequest

Severity = Literal["fail", "warn"]
"""Effect on the verdict of a condition that does not pass."""

Statistic = Literal["ci", "mean"]
"""The statistic of a result that a condition compares with its threshold."""

LEAST_IMAGES = 8
"""Distinct images that a condition needs by default; `docs/intervals.md` shows the coverage of intervals from here."""


@final
class Condition(Contract):
    """One threshold on one result: it must be `at_least` or `at_most` a value.

    The condition compares the 95 % confidence interval of the mean over distinct images. It passes if the whole
    interval meets the threshold. It is missed if the whole interval is on the wrong side. If the interval contains the
    threshold, the images do not decide, and the condition is `inconclusive`.

    A condition never passes without evidence. It is `inconclusive` if the result has no interval, if fewer than
    `min_images` distinct images have a value, or if more than half of the distinct images have none.

    With `statistic: mean` the observed mean decides. If the threshold equals the true mean, this passes half of the
    time by chance, so use it to compare with older reports, not to release a model. The three rules on evidence apply
    too, but they only prevent a pass: a mean that misses its threshold is a miss, even with few images.

    A condition of severity `warn` gives advice: whatever becomes of it, the verdict is `warn` at worst. If an
    inconclusive one made the verdict `inconclusive`, it would be better to miss it.

    Attributes:
        metric: Name of the metric; the catalogue says what it means.
        at_least: Threshold that the value must reach; give this or `at_most`.
        at_most: Threshold that the value must not exceed; give this or `at_least`.
    """

    id: Name | None = Field(default=None, description="Its name in the report; its number in the list if null.")
    model: Name | None = Field(
        default=None, description="In an audit of several models, the model to judge; each of them if null."
    )
    check: str = Field(max_length=64, description="Name of a check of the plan.")
    explainer: str | None = Field(
        default=None, max_length=64, description="Name of an explainer of the plan; null for a property of the model."
    )
    metric: str = Field(max_length=64)
    variant: str | None = Field(default=None, max_length=64, description="Sub-case, such as `rotate` or `top_15`.")
    statistic: Statistic = Field(
        default="ci",
        description="What is compared with the threshold: the unfavorable end of the 95 % interval, which is the lower "
        "end for `at_least` and the upper end for `at_most`; or the observed mean.",
    )
    min_images: int = Field(
        default=LEAST_IMAGES,
        ge=1,
        le=1_000_000,
        description="Distinct images that must have a value; with fewer images the condition cannot pass.",
    )
    at_least: float | None = None
    at_most: float | None = None
    severity: Severity = Field(
        default="fail",
        description="Effect on the verdict if the condition does not pass. `fail`: the verdict is `fail` if the "
        "condition is missed, and `inconclusive` if it is undecided. `warn`: the verdict is at worst `warn`.",
    )
    # omitted if null, so that requests without one keep the digests they had before rationales existed
    rationale: str | None = Field(
        default=None,
        max_length=2000,
        exclude_if=lambda text: text is None,
        description="Where the threshold comes from, for the reader of the policy. It has no effect on the verdict.",
    )

    @model_validator(mode="after")
    def _one_threshold(self) -> Condition:
        if (self.at_least is None) == (self.at_most is None):
            msg = "give exactly one of at_least and at_most"
            raise ValueError(msg)
        return self


Policy = Annotated[tuple[Condition, ...], Field(max_length=1000)]


def validate_policy(policy: tuple[Condition, ...], plan: AuditPlan, models: Sequence[str] = ()) -> None:
    """Refuse conditions on results that this plan does not have.

    Args:
        policy: The conditions.
        plan: The full plan.
        models: Names of the models in an audit of several; empty in an audit of one.

    Raises:
        InvalidRequest: A model, check, explainer, metric or variant is not in the audit; the message lists the valid
            ones. Or no value of the metric can reach the threshold.
    """
    checks = {check.label: check for check in plan.checks}
    for number, condition in enumerate(policy):
        at = f"policy.{number}"
        if condition.model not in (None, *models):
            _refuse(at, "model", condition.model, [None, *models])
        if condition.check not in checks:
            _refuse(at, "check", condition.check, list(checks))
        check = checks[condition.check]
        if not models_judged(condition, models, check.reference_model):
            msg = (
                f"check {check.label!r} compares the other models with model {condition.model!r}, which has no results "
                "of its own under it; name another model, or null for each of the others"
            )
            raise InvalidRequest(msg, field=f"{at}.model")
        metrics = {name: metric for name, metric in check.measured_metrics.items() if not metric.control}
        if condition.metric not in metrics:
            _refuse(at, "metric", condition.metric, list(metrics))
        explainers = [explainer.label for explainer in plan.explainers if check.runs_on(explainer.label)]
        if metrics[condition.metric].of_explainer:
            if condition.explainer not in explainers:
                _refuse(at, "explainer", condition.explainer, explainers)
        elif condition.explainer is not None:
            _refuse(at, "explainer", condition.explainer, [None])
        variants = check.variants_of(condition.metric)
        if condition.variant not in (variants or (None,)):
            _refuse(at, "variant", condition.variant, list(variants or (None,)))
        _refuse_unreachable(at, condition, metrics[condition.metric])


def models_judged(condition: Condition, models: Sequence[str], reference: str | None) -> tuple[str | None, ...]:
    """The models for which a condition is judged: the one that it names, or else each that its check has results of.

    Args:
        condition: The condition.
        models: Names of the models in an audit of several; empty in an audit of one.
        reference: Model with which its check compares the others, of which it has no results; None if there is none.

    Returns:
        Names; None stands for the model of an audit of one. Empty if the check has no results of the model it names.
    """
    named = (condition.model,) if condition.model is not None else tuple(models) or (None,)
    return tuple(model for model in named if model is None or model != reference)


def _refuse_unreachable(at: str, condition: Condition, metric: Metric) -> None:
    """Refuse a threshold outside of the values that a metric can have, on the side on which every value misses it."""
    lowest, highest = metric.lowest, metric.highest
    if condition.at_least is not None and highest is not None and condition.at_least > highest:
        side, threshold, last = "at_least", condition.at_least, f"is at most {highest:g}"
    elif condition.at_most is not None and lowest is not None and condition.at_most < lowest:
        side, threshold, last = "at_most", condition.at_most, f"is at least {lowest:g}"
    else:
        return
    percent = side == "at_least" and highest == 1 and threshold <= 100  # noqa: PLR2004 - percent
    hint = f"for {threshold:g} %, write {threshold / 100:g}" if percent else "choose another threshold"
    msg = f"{condition.metric} {last} (unit: {metric.unit}), so no value can be {side} {threshold:g}; {hint}"
    raise InvalidRequest(msg, field=f"{at}.{side}")


def _refuse(at: str, what: str, got: str | None, known: Sequence[str | None]) -> None:
    names = ", ".join("null" if name is None else name for name in known)
    msg = f"{what} {'null' if got is None else repr(got)} is not part of this audit; use one of: {names}"
    raise InvalidRequest(msg, field=f"{at}.{what}")
