"""What the metrics of a report mean: a list, and a popover for each name of a metric."""

from __future__ import annotations

from dataclasses import dataclass

from auditcore.contracts.metrics import METRICS
from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import all_results, check_kinds


@dataclass(frozen=True)
class Meaning:
    """What one metric means.

    Attributes:
        anchor: Id of its popover.
        metric: Its name.
        unit: Unit of its numbers.
        direction: Which numbers are better, in words.
        text: One sentence.
        bounds: Its range, such as `from -1 to 1`; empty if it has no bound.
    """

    anchor: str
    metric: str
    unit: str
    direction: str
    text: str
    bounds: str


DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither is better"}


def glossary(report: AuditReport) -> tuple[Meaning, ...]:
    """Every metric of the page once for each kind of check, in the order of the results."""
    kinds = check_kinds(report)
    used = dict.fromkeys((kinds[result.check], result.metric) for result in all_results(report))
    return tuple(_meaning(kind, metric) for kind, metric in used)


def meaning_anchor(kind: str, metric: str) -> str:
    """Id of the popover of a metric."""
    return f"meaning-{kind}-{metric}".replace("_", "-")


def _meaning(kind: str, metric: str) -> Meaning:
    found = METRICS[kind][metric]
    return Meaning(
        anchor=meaning_anchor(kind, metric),
        metric=metric,
        unit=found.unit,
        direction=DIRECTIONS[found.higher_is_better],
        text=found.meaning,
        bounds=_bounds(found.lowest, found.highest),
    )


def _bounds(lowest: float | None, highest: float | None) -> str:
    match lowest, highest:
        case None, None:
            return ""
        case None, float(high):
            return f"at most {high:g}"
        case float(low), None:
            return f"at least {low:g}"
        case _:
            return f"from {lowest:g} to {highest:g}"
