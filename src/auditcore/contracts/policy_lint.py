"""Advice on policies: conditions that are allowed but decide nothing, or not what their author may expect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

from auditcore.contracts.checks import CHECK_OF_KIND
from auditcore.contracts.checks.check import ABOUT_THE_MODEL, CheckContract
from auditcore.contracts.contract import Contract
from auditcore.contracts.metric import Metric
from auditcore.contracts.name_patterns import is_pattern, matching
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.policy import LEAST_IMAGES, Condition, validate_policy
from auditcore.contracts.policy_document import PolicyDocument
from auditcore.errors import InvalidRequest

LintCode = Literal[
    "not_in_plan",
    "no_evidence",
    "explainer_without_evidence",
    "always_vacuous",
    "cannot_miss",
    "against_direction",
    "mean_decides",
    "few_images",
    "repeated",
    "never_fails",
    "all_skippable",
]

REMEDY = "add a condition on faithfulness, such as `inter_model_deletion` at least 0, or on randomization"
"""What a policy without evidence on the maps lacks."""


@final
class LintFinding(Contract):
    """Advice on a policy.

    Attributes:
        code: Kind of the finding, for programs.
        message: What was found, what it means and what to do.
        field: Path in the request, such as `policy.0.at_least`.
    """

    code: LintCode
    message: str
    field: str


@dataclass(frozen=True)
class _Named:
    """A condition and the metrics that it names, as far as they are known.

    Attributes:
        field: Path of the condition in the request.
        metrics: Check, name and meaning of each metric; empty if the check is unknown without a plan.
    """

    condition: Condition
    field: str
    metrics: tuple[tuple[type[CheckContract] | CheckContract, str, Metric], ...]

    @property
    def of_maps(self) -> bool:
        """Whether it is about the maps of explainers."""
        return self.condition.explainer is not None

    @property
    def is_evidence(self) -> bool:
        """Whether it may be about faithfulness or randomization."""
        return not self.metrics or any(check.question in ABOUT_THE_MODEL for check, _, _ in self.metrics)


def lint(policy: Sequence[Condition], plan: AuditPlan | None = None) -> tuple[LintFinding, ...]:
    """Return advice on a policy, in the order of its conditions; advice on the whole policy comes last.

    Args:
        policy: The conditions.
        plan: The plan that they are for. Without it, a check is known only by its kind, and conditions on checks with
            other names get no advice on their metrics.
    """
    named = [
        _Named(condition, f"policy.{number}", tuple(_metrics(condition, plan)))
        for number, condition in enumerate(policy)
    ]
    return (
        *(() if plan is None else _not_in_plan(policy, plan)),
        *(finding for one in named for finding in _of_condition(one)),
        *_repeated(named),
        *_of_policy(named, _random_labels(plan)),
    )


def lint_document(document: PolicyDocument, plan: AuditPlan | None = None) -> tuple[LintFinding, ...]:
    """Return advice on a policy with a name; the fields are paths in its document, such as `conditions.0.at_least`.

    Args:
        document: The policy.
        plan: The plan that it is for.
    """
    found = lint(document.conditions, plan)
    return tuple(one.model_copy(update={"field": one.field.replace("policy", "conditions", 1)}) for one in found)


def _metrics(
    condition: Condition, plan: AuditPlan | None
) -> Iterator[tuple[type[CheckContract] | CheckContract, str, Metric]]:
    checks: dict[str, type[CheckContract] | CheckContract] = (
        dict(CHECK_OF_KIND) if plan is None else {check.label: check for check in plan.checks}
    )
    for label in matching(condition.check, checks):
        check = checks[label or ""]
        for name in matching(condition.metric, check.metrics):
            yield check, name or "", check.metrics[name or ""]


def _not_in_plan(policy: Sequence[Condition], plan: AuditPlan) -> Iterator[LintFinding]:
    for number, condition in enumerate(policy):
        try:
            # names of models are part of a request, not of its plan
            validate_policy((condition.model_copy(update={"model": None}),), plan, baseline=True)
        except InvalidRequest as error:
            field = error.field.replace("policy.0", f"policy.{number}", 1)
            yield LintFinding(code="not_in_plan", message=error.message, field=field)


def _of_condition(one: _Named) -> Iterator[LintFinding]:
    condition = one.condition
    at = f"{one.field}.{condition.criterion}"
    if any(_met_by_random_order(condition, check.random_order.get(name)) for check, name, _ in one.metrics):
        yield LintFinding(
            code="always_vacuous",
            message=f"a random order meets {condition.criterion} {condition.threshold:g}, so the condition is always "
            "vacuous; choose a threshold on the better side of 0",
            field=at,
        )
    if any(_cannot_miss(condition, metric) for _, _, metric in one.metrics):
        yield LintFinding(
            code="cannot_miss",
            message=f"every value of {condition.metric} is {condition.criterion} {condition.threshold:g}, so the "
            "condition cannot be missed; choose another threshold",
            field=at,
        )
    wrong = {"at_least": False, "at_most": True}.get(condition.criterion)
    if any(metric.higher_is_better is wrong for _, _, metric in one.metrics if wrong is not None):
        better = "higher" if wrong else "lower"
        yield LintFinding(
            code="against_direction",
            message=f"{condition.criterion} limits {condition.metric} on its good side, because {better} values are "
            "better; use the other limit, unless this is what you want",
            field=at,
        )
    if condition.statistic == "mean":
        yield LintFinding(
            code="mean_decides",
            message="with `statistic: mean`, a true mean at the threshold passes half of the time by chance; remove "
            "`statistic`, so that the interval decides",
            field=f"{one.field}.statistic",
        )
    if condition.min_images < LEAST_IMAGES:
        yield LintFinding(
            code="few_images",
            message=f"with {condition.min_images} images, intervals hold the mean less often than they promise; use at "
            f"least {LEAST_IMAGES}",
            field=f"{one.field}.min_images",
        )


def _met_by_random_order(condition: Condition, score: float | str | None) -> bool:
    if not isinstance(score, float) or condition.needs_baseline:
        return False
    distance = score - condition.threshold if condition.criterion == "at_least" else condition.threshold - score
    # by the interval, a threshold at the expected score is not met
    return distance >= 0 if condition.statistic == "mean" else distance > 0


def _cannot_miss(condition: Condition, metric: Metric) -> bool:
    match condition.criterion:
        case "at_least":
            return metric.lowest is not None and condition.threshold <= metric.lowest
        case "at_most":
            return metric.highest is not None and condition.threshold >= metric.highest
        case _:
            return False


def _repeated(named: Sequence[_Named]) -> Iterator[LintFinding]:
    first: dict[Condition, str] = {}
    for one in named:
        what = one.condition.model_copy(update={"id": None, "rationale": None})
        earlier = first.setdefault(what, one.field)
        if earlier != one.field:
            yield LintFinding(
                code="repeated", message=f"this is the same condition as {earlier}; remove one", field=one.field
            )


def _of_policy(named: Sequence[_Named], random: frozenset[str]) -> Iterator[LintFinding]:
    on_maps = [one for one in named if one.of_maps and one.condition.explainer not in random]
    evidence = [one for one in on_maps if one.is_evidence]
    if on_maps and not evidence:
        yield LintFinding(
            code="no_evidence",
            message="a map that ignores the model can meet every condition of this policy, so the verdict cannot be "
            f"`pass`; {REMEDY}",
            field="policy",
        )
    elif on_maps:
        for explainer in dict.fromkeys(one.condition.explainer for one in on_maps):
            if not is_pattern(explainer) and not any(
                matching(one.condition.explainer, [explainer]) for one in evidence
            ):
                yield LintFinding(
                    code="explainer_without_evidence",
                    message=f"a map that ignores the model can meet every condition on {explainer}; for it, {REMEDY}",
                    field="policy",
                )
    if named and all(one.condition.severity == "warn" for one in named):
        yield LintFinding(
            code="never_fails",
            message="every condition has the severity `warn`, so the verdict is never `fail`; give one of them the "
            "severity `fail`",
            field="policy",
        )
    if named and all(one.condition.on_not_applicable == "skip" for one in named):
        yield LintFinding(
            code="all_skippable",
            message="every condition is skipped if no image has a value, so the policy may decide nothing; let one of "
            "them count with another `on_not_applicable`",
            field="policy",
        )


def _random_labels(plan: AuditPlan | None) -> frozenset[str]:
    explainers = () if plan is None else plan.explainers
    return frozenset({"random"} | {explainer.label for explainer in explainers if explainer.is_control})
