"""Policies: the conditions for a pass, on confidence intervals or means of results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn, final

from pydantic import Field, model_validator

from auditcore.contracts.checks import Check
from auditcore.contracts.contract import Contract, Name
from auditcore.contracts.metric import Metric
from auditcore.contracts.name_patterns import is_pattern, matching
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import InvalidRequest

Severity = Literal["fail", "warn"]
"""Effect on the verdict of a condition that does not pass."""

Statistic = Literal["ci", "mean"]
"""The statistic of a result that a condition compares with its threshold."""

OnNotApplicable = Literal["fail", "warn", "skip", "inconclusive"]
"""Effect on the verdict of a condition on a result without any value."""

Criterion = Literal["at_least", "at_most", "min_absolute_change", "min_relative_change", "non_inferiority_margin"]
"""How a condition compares: a value with a threshold, or the change since a baseline with what is wanted of it."""

CHANGES: tuple[Criterion, ...] = ("min_absolute_change", "min_relative_change", "non_inferiority_margin")
"""Criteria that need a baseline."""

LEAST_IMAGES = 8
"""Distinct images that a condition needs by default; `docs/intervals.md` shows the coverage of intervals from here."""

MOST_QUESTIONS = 10_000
"""Most results that a policy may be judged by; each is an entry of the report."""


def _absent(value: object) -> bool:
    """Return whether a field is not set; omitted from the JSON, so that older requests keep their digests."""
    return value is None


def _undecided(value: object) -> bool:
    """Return whether a field has its default; omitted from the JSON, so that older requests keep their digests."""
    return value == "inconclusive"


@final
class Condition(Contract):
    """One criterion on one result, or on each result that its patterns match.

    `model`, `check`, `explainer`, `metric` and `variant` may be shell-style patterns: `*` stands for any characters,
    `?` for one, `[ab]` for one of these. A condition with a pattern is judged for each match. A pattern never matches
    the random control, and all matched metrics must have one unit and one direction.

    With `at_least` or `at_most`, the condition compares the 95 % confidence interval of the mean over distinct images.
    It passes if the whole interval meets the threshold. It is missed if the whole interval is on the wrong side. If the
    interval contains the threshold, the images do not decide, and the condition is `inconclusive`.

    With `min_absolute_change`, `min_relative_change` or `non_inferiority_margin`, it compares in the same way the
    change since a baseline: the mean of paired differences over the images of both audits. A positive change is an
    improvement, so the sign follows the direction of the metric.

    A condition never passes without evidence. It is `inconclusive` if the result has no interval, if fewer than
    `min_images` distinct images have a value, or if more than half of the distinct images have none. It is `vacuous`
    if a random map meets it too; it then cannot make a verdict pass.

    With `statistic: mean` the observed mean decides. If the threshold equals the true mean, this passes half of the
    time by chance, so use it to compare with older reports, not to release a model. The three rules on evidence apply
    too, but they only prevent a pass: a mean that misses its threshold is a miss, even with few images.

    A condition of severity `warn` gives advice: if it does not pass, the verdict is `warn` at worst.

    Attributes:
        metric: Name of the metric, or a pattern; the catalogue says what it means.
        at_least: Threshold that the value must reach; give exactly one criterion.
        at_most: Threshold that the value must not exceed; give exactly one criterion.
    """

    id: Name | None = Field(default=None, description="Its name in the report; its number in the list if null.")
    model: str | None = Field(
        default=None,
        max_length=64,
        description="In an audit of several models, the model to judge, or a pattern; each of them if null.",
    )
    check: str = Field(max_length=64, description="Name of a check of the plan, or a pattern.")
    explainer: str | None = Field(
        default=None,
        max_length=64,
        description="Name of an explainer of the plan, or a pattern; null for a property of the model.",
    )
    metric: str = Field(max_length=64)
    variant: str | None = Field(
        default=None,
        max_length=64,
        description="Sub-case, such as `rotate` or `top_15`, or a pattern; `*` also stands for a metric without any.",
    )
    statistic: Statistic = Field(
        default="ci",
        description="What is compared with the threshold: the unfavorable end of the 95 % interval, which is the lower "
        "end for `at_least` and for changes, and the upper end for `at_most`; or the observed mean.",
    )
    min_images: int = Field(
        default=LEAST_IMAGES,
        ge=1,
        le=1_000_000,
        description="Distinct images that must have a value; with fewer images the condition cannot pass.",
    )
    at_least: float | None = None
    at_most: float | None = None
    min_absolute_change: float | None = Field(
        default=None,
        exclude_if=_absent,
        description="Smallest change since the baseline, in the unit of the metric; above 0 is an improvement.",
    )
    min_relative_change: float | None = Field(
        default=None,
        exclude_if=_absent,
        description="Smallest change since the baseline as a share of the baseline's mean; 0.1 is 10 %.",
    )
    non_inferiority_margin: float | None = Field(
        default=None,
        ge=0,
        exclude_if=_absent,
        description="How much worse than the baseline is acceptable, in the unit of the metric.",
    )
    severity: Severity = Field(
        default="fail",
        description="Effect on the verdict if the condition does not pass. `fail`: the verdict is `fail` if the "
        "condition is missed, and `inconclusive` if it is undecided. `warn`: the condition makes it at worst `warn`.",
    )
    on_not_applicable: OnNotApplicable = Field(
        default="inconclusive",
        exclude_if=_undecided,
        description="Effect on the verdict if no image has a value. `fail`: the same as a miss. `warn`: a warning. "
        "`skip`: none. `inconclusive`: with severity `fail`, the verdict cannot be `pass`.",
    )
    # omitted if null, so that requests without one keep the digests they had before rationales existed
    rationale: str | None = Field(
        default=None,
        max_length=2000,
        exclude_if=lambda text: text is None,
        description="Where the threshold comes from, for the reader of the policy. It has no effect on the verdict.",
    )

    @model_validator(mode="after")
    def _one_criterion(self) -> Condition:
        given = self._criteria()
        if len(given) != 1:
            msg = (
                "give exactly one of at_least and at_most, or, with a baseline, of min_absolute_change, "
                f"min_relative_change and non_inferiority_margin; got {len(given)}"
            )
            raise ValueError(msg)
        return self

    def _criteria(self) -> dict[Criterion, float]:
        values: dict[Criterion, float | None] = {
            "at_least": self.at_least,
            "at_most": self.at_most,
            "min_absolute_change": self.min_absolute_change,
            "min_relative_change": self.min_relative_change,
            "non_inferiority_margin": self.non_inferiority_margin,
        }
        return {name: value for name, value in values.items() if value is not None}

    @property
    def criterion(self) -> Criterion:
        """How it compares."""
        (name,) = self._criteria()
        return name

    @property
    def threshold(self) -> float:
        """The number that its criterion gives."""
        (value,) = self._criteria().values()
        return value

    @property
    def needs_baseline(self) -> bool:
        """Whether it compares the change since a baseline."""
        return self.criterion in CHANGES


Policy = Annotated[tuple[Condition, ...], Field(max_length=1000)]

Row = tuple[str, str | None, str, str | None]
"""Check, explainer, metric and variant of a result."""


@final
@dataclass(frozen=True)
class Question:
    """One condition of a policy about one result.

    Attributes:
        number: Position of the condition in the policy, counted from 0.
        condition: The condition.
        model: Name of the model in an audit of several; None in an audit of one.
        row: The result.
    """

    number: int
    condition: Condition
    model: str | None
    row: Row

    @property
    def id(self) -> str:
        """Name of the condition in the report."""
        return self.condition.id or str(self.number)


def validate_policy(
    policy: Sequence[Condition], plan: AuditPlan, models: Sequence[str] = (), *, baseline: bool = False
) -> None:
    """Refuse conditions that an audit of this plan cannot judge.

    Args:
        policy: The conditions.
        plan: The full plan.
        models: Names of the models in an audit of several; empty in an audit of one.
        baseline: Whether there is a baseline.

    Raises:
        InvalidRequest: As by `questions_of`. Or no value of a metric can reach the threshold. Or a condition compares
            with a baseline, and there is none.
    """
    checks = {check.label: check for check in plan.checks}
    for question in questions_of(policy, plan, models):
        at = f"policy.{question.number}"
        check, _, name, _ = question.row
        condition, metric = question.condition, checks[check].measured_metrics[name]
        if condition.needs_baseline:
            _refuse_incomparable(at, condition, name, metric, baseline=baseline)
        _refuse_unreachable(at, condition, name, metric)


def questions_of(policy: Sequence[Condition], plan: AuditPlan, models: Sequence[str] = ()) -> tuple[Question, ...]:
    """Return every result that the conditions are judged by; a condition with a pattern has one for each match.

    Args:
        policy: The conditions.
        plan: The full plan.
        models: Names of the models in an audit of several; empty in an audit of one. A condition that names none is
            judged for each of which its check has results.

    Returns:
        The questions in the order of the policy; those of one condition in the order of the plan and the models.

    Raises:
        InvalidRequest: A model, check, explainer, metric or variant is not in the audit, or a pattern matches none; the
            message lists the valid ones. Or the metrics that a pattern matches differ in unit or direction. Or there
            are more than `MOST_QUESTIONS` questions.
    """
    references = {check.label: check.reference_model for check in plan.checks}
    found: list[Question] = []
    for number, condition in enumerate(policy):
        at = f"policy.{number}"
        named = _models_named(at, condition, models)
        judged = 0
        for row in _rows(at, condition, plan):
            for model in named:
                if model is None or model != references[row[0]]:
                    judged += 1
                    found.append(Question(number, condition, model, row))
            if len(found) > MOST_QUESTIONS:
                msg = (
                    f"the patterns of the policy match more than {MOST_QUESTIONS} results; name checks, explainers or "
                    "metrics instead of `*`"
                )
                raise InvalidRequest(msg, field=at)
        if not judged:
            msg = (
                f"check {condition.check!r} compares the other models with model {condition.model!r}, which has no "
                "results of its own under it; name another model, or null for each of the others"
            )
            raise InvalidRequest(msg, field=f"{at}.model")
    return tuple(found)


def _models_named(at: str, condition: Condition, models: Sequence[str]) -> tuple[str | None, ...]:
    """Return the models that a condition names, or else all; None stands for the model of an audit of one."""
    if condition.model is None:
        return tuple(models) or (None,)
    return matching(condition.model, models) or _refuse(at, "model", condition.model, [None, *models])


@dataclass(frozen=True)
class _Listed:
    """A metric that a check of the plan lists."""

    check: Check
    name: str
    metric: Metric

    @property
    def variants(self) -> tuple[str | None, ...]:
        """Its sub-cases; None stands for a metric without any."""
        return self.check.variants_of(self.name) or (None,)


def _rows(at: str, condition: Condition, plan: AuditPlan) -> Iterator[Row]:
    """Yield the results that a condition names, in the order of the plan.

    Raises:
        InvalidRequest: There is none, or their metrics differ in unit or direction.
    """
    labels = [check.label for check in plan.checks]
    checks = matching(condition.check, labels) or _refuse(at, "check", condition.check, labels)
    listed = [
        _Listed(check, name, metric)
        for check in plan.checks
        if check.label in checks
        for name, metric in check.measured_metrics.items()
        if not metric.control
    ]
    names = list(dict.fromkeys(one.name for one in listed))
    metrics = matching(condition.metric, names) or _refuse(at, "metric", condition.metric, names)
    listed = [one for one in listed if one.name in metrics]
    named = _explainers_named(condition, plan)
    explained = [(one, found) for one in listed if (found := _explainers_of(one, named))]
    if not explained:
        known = (name for one in listed for name in _explainers_of(one, [None, *_labels(plan)]))
        _refuse(at, "explainer", condition.explainer, list(dict.fromkeys(known)))
    varied = [(one, own, found) for one, own in explained if (found := matching(condition.variant, one.variants))]
    if not varied:
        known = (name for one, _ in explained for name in one.variants)
        _refuse(at, "variant", condition.variant, list(dict.fromkeys(known)))
    _refuse_mixed(at, condition, [one for one, _, _ in varied])
    for one, explainers, variants in varied:
        for explainer in explainers:
            for variant in variants:
                yield one.check.label, explainer, one.name, variant


def _labels(plan: AuditPlan, *, controls: bool = True) -> list[str]:
    return [explainer.label for explainer in plan.explainers if controls or not explainer.is_control]


def _explainers_named(condition: Condition, plan: AuditPlan) -> tuple[str | None, ...]:
    """Return the explainers that a condition names, None for a property of the model; a pattern means no control."""
    if is_pattern(condition.explainer):
        return matching(condition.explainer, _labels(plan, controls=False))
    return matching(condition.explainer, [None, *_labels(plan)])


def _explainers_of(listed: _Listed, named: Sequence[str | None]) -> tuple[str | None, ...]:
    """Return those of some explainers, None for a property of the model, that the metric is listed for."""
    if not listed.metric.of_explainer:
        return tuple(name for name in named if name is None)
    return tuple(name for name in named if name is not None and listed.check.runs_on(name))


def _refuse_mixed(at: str, condition: Condition, listed: Sequence[_Listed]) -> None:
    """Refuse a pattern that matches metrics which one threshold cannot judge together."""
    kinds: dict[tuple[str, bool | None], str] = {}
    for one in listed:
        kinds.setdefault((one.metric.unit, one.metric.higher_is_better), f"{one.name} of {one.check.label}")
    if len(kinds) > 1:
        words = {True: "higher is better", False: "lower is better", None: "neither is better"}
        found = "; ".join(f"{name} ({unit}, {words[better]})" for (unit, better), name in kinds.items())
        msg = (
            f"one threshold cannot judge metrics of different units or directions: {found}; write a condition for each "
            "kind"
        )
        raise InvalidRequest(msg, field=f"{at}.{'metric' if is_pattern(condition.metric) else 'check'}")


def _refuse_incomparable(at: str, condition: Condition, name: str, metric: Metric, *, baseline: bool) -> None:
    """Refuse a change without a baseline, or of a metric for which no change is an improvement."""
    field = f"{at}.{condition.criterion}"
    if not baseline:
        msg = (
            f"{condition.criterion} compares with an earlier audit, but the request names none; add `baseline`, or use "
            "at_least or at_most"
        )
        raise InvalidRequest(msg, field=field)
    if metric.higher_is_better is None:
        msg = (
            f"{name} has no direction, so no change of it is an improvement; choose another metric, or use at_least or "
            "at_most"
        )
        raise InvalidRequest(msg, field=field)


def _refuse_unreachable(at: str, condition: Condition, name: str, metric: Metric) -> None:
    """Refuse a threshold outside of the values that a metric can have, on the side on which every value misses it."""
    lowest, highest = metric.lowest, metric.highest
    if condition.at_least is not None and highest is not None and condition.at_least > highest:
        side, threshold, last = "at_least", condition.at_least, f"is at most {highest:g}"
    elif condition.at_most is not None and lowest is not None and condition.at_most < lowest:
        side, threshold, last = "at_most", condition.at_most, f"is at least {lowest:g}"
    elif (
        condition.min_absolute_change is not None
        and lowest is not None
        and highest is not None
        and condition.min_absolute_change > highest - lowest
    ):
        side, threshold = "min_absolute_change", condition.min_absolute_change
        last = f"is between {lowest:g} and {highest:g}"
    else:
        return
    percent = side == "at_least" and highest == 1 and threshold <= 100  # noqa: PLR2004 - percent
    hint = f"for {threshold:g} %, write {threshold / 100:g}" if percent else "choose another threshold"
    msg = f"{name} {last} (unit: {metric.unit}), so no value can be {side} {threshold:g}; {hint}"
    raise InvalidRequest(msg, field=f"{at}.{side}")


def _refuse(at: str, what: str, got: str | None, known: Sequence[str | None]) -> NoReturn:
    names = ", ".join("null" if name is None else name for name in known)
    found = "null" if got is None else repr(got)
    lacks = f"the pattern {found} matches no {what} of this audit" if is_pattern(got) else ""
    msg = f"{lacks or f'{what} {found} is not part of this audit'}; use one of: {names}"
    raise InvalidRequest(msg, field=f"{at}.{what}")
