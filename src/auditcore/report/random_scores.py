"""What a map without knowledge scores where a condition judges an explainer: the random control and a random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from auditcore.contracts.checks import Check
from auditcore.contracts.policy import Row
from auditcore.contracts.report import Result
from auditcore.metrics.statistics import Summary
from auditcore.report.result_keys import Results


@final
@dataclass(frozen=True)
class RandomScore:
    """The score of something that knows nothing of the image.

    Attributes:
        name: What it is, for a reader.
        values: Its value for each image of the report; null where undefined.
        summary: Its mean, with its interval.
        expected: Whether it is known only on average; it then reaches a threshold at its mean only by chance.
    """

    name: str
    values: Sequence[float | None]
    summary: Summary
    expected: bool = False


def random_scores(model: str | None, row: Row, check: Check, control: str, results: Results) -> tuple[RandomScore, ...]:
    """Return what a random map and, where a check deletes in a known order, a random order score in place of a map.

    Args:
        model: Name of the model in an audit of several.
        row: Result of an explainer.
        check: Its check.
        control: Name of the random control.
        results: All results of the audit, including those of the control.
    """
    label, explainer, metric, variant = row
    found = []
    of_control = results.get((model, (label, control, metric, variant)))
    if of_control is not None and of_control.mean is not None:
        found.append(RandomScore("a random map", of_control.per_image, summary_of(of_control)))
    order = check.random_order.get(metric)
    if isinstance(order, str):
        of_order = results.get((model, (label, explainer, order, None)))
        if of_order is not None and of_order.mean is not None:
            found.append(RandomScore("a random order", of_order.per_image, summary_of(of_order)))
    elif order is not None:
        images = len(results[model, row].per_image)
        found.append(
            RandomScore(
                "a random order", [order] * images, Summary(images, order, 0.0, 0.0, (order, order)), expected=True
            )
        )
    return tuple(found)


def summary_of(result: Result) -> Summary:
    """Return the statistics of a result."""
    return Summary(result.n, result.mean, result.std, result.sem, result.ci, result.ci_reason)
