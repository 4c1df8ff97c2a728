"""Two finished audits side by side: what the report code finds of the second with the first as its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from auditcore.contracts.report import AuditReport, BaselineChange, ConditionOutcome, Result
from auditcore.report.baseline import Baseline, Compared
from auditcore.report.headlines import all_results, check_kinds, is_headline
from auditcore.report.outcomes import result_name
from auditcore.report.result_keys import ResultKey, result_key

NO_SHARED_IMAGE = "the audits share no image"
NO_DIRECTION = "neither direction is better, so no difference is judged"


@final
@dataclass(frozen=True)
class MetricPair:
    """A headline metric of both audits.

    Attributes:
        result: The result of one of them; it says what is measured.
        first: Of the first audit; None where it has no such result.
        second: Of the second audit.
        change: The second minus the first, paired by image, above 0 for an improvement; None where `reason` says why.
        reason: Why there is no difference; None where there is one.
    """

    result: Result
    first: Result | None
    second: Result | None
    change: BaselineChange | None
    reason: str | None

    @property
    def trend(self) -> Literal["better", "worse", "open", "none"]:
        """What the interval of the difference says; `open` if it contains 0."""
        if self.change is None or self.change.ci is None:
            return "none"
        low, high = self.change.ci
        if low > 0:
            return "better"
        return "worse" if high < 0 else "open"


@final
@dataclass(frozen=True)
class ConditionPair:
    """A condition that one of the audits or both have judged.

    Attributes:
        name: Its id, with the result that it judges.
        first: What became of it in the first audit; None where it was not judged.
        second: In the second.
    """

    name: str
    first: ConditionOutcome | None
    second: ConditionOutcome | None


@final
@dataclass(frozen=True)
class TwoAudits:
    """Everything that a comparison shows.

    Attributes:
        shared_images: Distinct images that both audits used.
        differences: What differs besides the models, one phrase each.
        conditions: Conditions of either, those of the second audit first.
        metrics: Headline metrics of either, those of the first audit first.
    """

    shared_images: int
    differences: tuple[str, ...]
    conditions: tuple[ConditionPair, ...]
    metrics: tuple[MetricPair, ...]


def compare_audits(first: AuditReport, second: AuditReport) -> TwoAudits:
    """Put two reports side by side.

    Differences are those that a policy would judge with the first audit as the baseline of the second: paired by image,
    over the images of both, with the same intervals. Without shared images there are none.

    Args:
        first: The earlier audit.
        second: The later one.
    """
    baseline = Baseline(
        first,
        plan=second.plan,
        models=second.audited_models,
        digests=[item.digest for item in second.images.items],
    )
    described = baseline.describe()
    return TwoAudits(
        shared_images=described.shared_images,
        differences=described.differences,
        conditions=_conditions(first, second),
        metrics=_metrics(first, second, baseline if described.shared_images else None),
    )


def _conditions(first: AuditReport, second: AuditReport) -> tuple[ConditionPair, ...]:
    by_name = [{_condition_name(one): one for one in report.conditions} for report in (first, second)]
    names = dict.fromkeys([*by_name[1], *by_name[0]])
    return tuple(ConditionPair(" · ".join(name), by_name[0].get(name), by_name[1].get(name)) for name in names)


def _condition_name(outcome: ConditionOutcome) -> tuple[str, str]:
    return outcome.id, result_name(outcome)


def _headlines(report: AuditReport) -> dict[ResultKey, Result]:
    kinds = check_kinds(report)
    return {
        result_key(one): one
        for one in all_results(report)
        if one.explainer is not None and is_headline(kinds[one.check], one.metric, one.variant)
    }


def _metrics(first: AuditReport, second: AuditReport, baseline: Baseline | None) -> tuple[MetricPair, ...]:
    before, after = _headlines(first), _headlines(second)
    judged = [key for key, one in after.items() if one.higher_is_better is not None]
    changes = {} if baseline is None else dict(zip(judged, baseline.changes(_compared(judged, after)), strict=True))
    pairs = []
    for key, result in {**before, **after}.items():
        change = changes.get(key)
        reason = NO_SHARED_IMAGE if baseline is None else _why_none(after.get(key), change)
        pairs.append(
            MetricPair(
                result=result,
                first=before.get(key),
                second=after.get(key),
                change=change if reason is None else None,
                reason=reason,
            )
        )
    return tuple(pairs)


def _compared(keys: Sequence[ResultKey], after: dict[ResultKey, Result]) -> list[Compared]:
    return [
        Compared(
            model=after[key].model,
            row=key[1],
            values=after[key].per_image,
            higher_is_better=bool(after[key].higher_is_better),
            kind="absolute",
        )
        for key in keys
    ]


def _why_none(after: Result | None, change: BaselineChange | None) -> str | None:
    if after is None:
        return "the second audit has no such result"
    return NO_DIRECTION if change is None else change.reason
