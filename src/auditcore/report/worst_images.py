"""Images of a report in the order in which a person should look at them: the worst first."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditcore.contracts.report import AuditReport, ConditionOutcome, Result, UsedImage
from auditcore.report.headlines import all_results, check_kinds, is_headline

_OPEN = frozenset({"failed", "warned", "inconclusive"})
"""Conditions that somebody has to look into."""


@dataclass(frozen=True)
class RankedImage:
    """An image, how bad it is among those of the audit, and why.

    Attributes:
        position: Its position in `images.items`, and so in every `per_image`.
        image: The image.
        badness: Mean of its ranks among the images in the results that count, in [0, 1]: 1 if it is the worst of all in
            each; None if it has no value in any.
        worst: The result in which it ranks worst; None without a value.
        value: Its value there.
    """

    position: int
    image: UsedImage
    badness: float | None
    worst: Result | None
    value: float | None


@dataclass(frozen=True)
class _Ranking:
    """A result whose images have an order.

    Attributes:
        result: The result.
        higher_is_better: Direction of its values.
        ascending: Its values that are not missing, in ascending order.
    """

    result: Result
    higher_is_better: bool
    ascending: tuple[float, ...]

    def share(self, value: float) -> float:
        """Share of the other images that are better than one with this value, in [0, 1]; equal ones count half."""
        others = len(self.ascending) - 1
        if others == 0:
            return 0.5
        below, above = bisect_left(self.ascending, value), len(self.ascending) - bisect_right(self.ascending, value)
        better = above if self.higher_is_better else below
        equal = others - below - above
        return (better + equal / 2) / others


def worst_first(report: AuditReport, model: str | None = None) -> tuple[RankedImage, ...]:
    """The images that a model used, the worst first.

    The results that count are those of the conditions that failed, warned or could not be decided. If there are none,
    those of all conditions; without conditions, the headline metrics of all explainers but controls. In each, images
    are ranked by their value; an image is as bad as its mean rank. No number of the report depends on this order.

    Args:
        report: The audit's report.
        model: Name of the model in an audit of several; None in an audit of one.

    Returns:
        All images that the model used. Images without a value in the results that count come last; equal ones keep the
        order of the batch.
    """
    rankings = tuple(_rankings(report, model))
    found = [
        _ranked(position, image, rankings)
        for position, image in enumerate(report.images.items)
        if model is None or not image.by_model or model in image.by_model
    ]
    return tuple(sorted(found, key=lambda one: (one.badness is None, -(one.badness or 0.0))))


def _ranked(position: int, image: UsedImage, rankings: Sequence[_Ranking]) -> RankedImage:
    shares = [
        (ranking.share(value), ranking.result, value)
        for ranking in rankings
        if (value := ranking.result.per_image[position]) is not None
    ]
    if not shares:
        return RankedImage(position, image, None, None, None)
    _, worst, value = max(shares, key=lambda one: one[0])
    return RankedImage(position, image, sum(share for share, _, _ in shares) / len(shares), worst, value)


def _rankings(report: AuditReport, model: str | None) -> Iterator[_Ranking]:
    for result, higher_is_better in _counting(report, model):
        values = tuple(sorted(value for value in result.per_image if value is not None))
        if values:
            yield _Ranking(result, higher_is_better, values)


def _counting(report: AuditReport, model: str | None) -> Sequence[tuple[Result, bool]]:
    """The results that count, with the direction of their values."""
    results = {_key(result): result for result in all_results(report) if result.model == model}
    judged = [one for one in report.conditions if one.model == model and _key(one) in results]
    open_ = [one for one in judged if one.status in _OPEN]
    if judged:
        wanted = {
            _key(one): direction
            for one in open_ or judged
            if (direction := _direction(one, results[_key(one)])) is not None
        }
        return [(results[key], direction) for key, direction in wanted.items()]
    kinds = check_kinds(report)
    # controls are not among them
    return [
        (result, result.higher_is_better)
        for result in report.results
        if result.model == model
        and result.higher_is_better is not None
        and is_headline(kinds[result.check], result.metric, result.variant)
    ]


def _key(named: Result | ConditionOutcome) -> tuple[str, str | None, str, str | None]:
    return named.check, named.explainer, named.metric, named.variant


def _direction(outcome: ConditionOutcome, result: Result) -> bool | None:
    """Whether higher values are better, for a condition: it may want a metric high that has no direction of its own."""
    return {"at_least": True, "at_most": False}.get(outcome.comparison, result.higher_is_better)
