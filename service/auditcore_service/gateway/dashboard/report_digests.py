"""What the history of a model needs of a report, kept by the report's digest: a report never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, final

from fastapi import Depends, Request

from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import check_kinds, is_headline
from auditcore.report.reading import read_report

SeriesKey = tuple[str, str, str, str]
"""Check, explainer, metric and sub-case; the sub-case is empty where the metric has none."""

_MOST_KEPT: Final = 1000
"""Reports; a summary takes some kilobytes."""


@final
@dataclass(frozen=True)
class Reading:
    """One number of a report.

    Attributes:
        model: Name of the model in an audit of several.
        mean: Mean over images; None where there is none.
        ci: Its 95 % interval; None where there is none.
        n: Distinct images with a value.
        at_least: Thresholds that conditions want it to reach.
        at_most: Thresholds that conditions want it not to exceed.
    """

    model: str | None
    mean: float | None
    ci: tuple[float, float] | None
    n: int
    at_least: tuple[float, ...]
    at_most: tuple[float, ...]

    @property
    def limits(self) -> tuple[float, ...]:
        """All thresholds."""
        return self.at_least + self.at_most


@final
@dataclass(frozen=True)
class ReportDigest:
    """Headline numbers of a report.

    Attributes:
        directions: Series -> whether larger values are better; None if neither is.
        readings: Series -> its numbers, one for each model.
    """

    directions: dict[SeriesKey, bool | None]
    readings: dict[SeriesKey, tuple[Reading, ...]]


def digest_of_report(report: AuditReport) -> ReportDigest:
    """The headline numbers of a report, with the thresholds of its policy."""
    kinds = check_kinds(report)
    directions: dict[SeriesKey, bool | None] = {}
    readings: dict[SeriesKey, list[Reading]] = {}
    for one in report.results:
        if one.explainer is None or not is_headline(kinds[one.check], one.metric, one.variant):
            continue
        key = (one.check, one.explainer, one.metric, one.variant or "")
        of_result = [
            outcome
            for outcome in report.conditions
            if (outcome.model, outcome.check, outcome.explainer, outcome.metric, outcome.variant)
            == (one.model, one.check, one.explainer, one.metric, one.variant)
        ]
        directions[key] = one.higher_is_better
        readings.setdefault(key, []).append(
            Reading(
                model=one.model,
                mean=one.mean,
                ci=one.ci,
                n=one.n,
                at_least=tuple(sorted({o.threshold for o in of_result if o.comparison == "at_least"})),
                at_most=tuple(sorted({o.threshold for o in of_result if o.comparison == "at_most"})),
            )
        )
    return ReportDigest(directions, {key: tuple(found) for key, found in readings.items()})


@final
class ReportDigests:
    """Remembers those that were asked for last."""

    def __init__(self) -> None:
        self._kept = OrderedDict[tuple[str, str], ReportDigest]()
        self._lock = threading.Lock()

    def of(self, tenant: str, digest: str, read: Callable[[], bytes]) -> ReportDigest:
        """The headline numbers of a report.

        Args:
            tenant: Whose report it is.
            digest: sha256 of its bytes.
            read: Returns its bytes; called only if it is not remembered.
        """
        with self._lock:
            known = self._kept.get((tenant, digest))
            if known is not None:
                self._kept.move_to_end((tenant, digest))
                return known
        found = digest_of_report(read_report(read()))
        with self._lock:
            self._kept[(tenant, digest)] = found
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found


async def _report_digests(request: Request) -> ReportDigests:
    """Those that `create_app` attached. Asynchronous, since FastAPI would look this up in a thread."""
    found: ReportDigests = request.app.state.report_digests
    return found


ReportDigestsDep = Annotated[ReportDigests, Depends(_report_digests)]
