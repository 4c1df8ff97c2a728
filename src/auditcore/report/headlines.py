"""The headline numbers of a report as plain rows: one per explainer and model, for terminals and for the HTML page.

No torch, no numpy, no terminal library: the caller decides how a cell looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from auditcore.contracts.checks import CHECK_OF_KIND
from auditcore.contracts.explainers import CONTROL, Explainer
from auditcore.contracts.metric import Metric
from auditcore.contracts.metrics import METRICS
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.report import AuditReport, Result
from auditcore.report.bounds import kinds_of

ORDER_WORDS: dict[str, frozenset[RankingOrder]] = {
    "by signed relevance": frozenset({"signed"}),
    "by magnitude": frozenset({"magnitude"}),
    "both ways": frozenset({"signed", "magnitude"}),
}
"""How a summary names the orders of an explainer's pixels or cells."""

Key = tuple[str | None, str, str, str | None, str | None]
"""Model, check, metric, sub-case and explainer of a result."""


@dataclass(frozen=True)
class SummaryColumn:
    """One number every explainer has.

    Attributes:
        check: Name of the check.
        metric: Name of the metric.
        variant: Sub-case, such as `rotate`; None where the metric has none.
        unit: Unit of the number.
        higher_is_better: Direction; None where neither is better.
        meaning: One sentence for a reader.
        floor_shown: Whether what a map without knowledge gets is shown beside the number.
        expectation: Metric that says how high the number can be expected to be; None if there is none.
    """

    check: str
    metric: str
    variant: str | None
    unit: str
    higher_is_better: bool | None
    meaning: str
    floor_shown: bool = False
    expectation: str | None = None

    @property
    def title(self) -> str:
        """Metric and sub-case, such as `s_pearson rotate`."""
        return self.metric if self.variant is None else f"{self.metric} {self.variant}"

    @property
    def arrow(self) -> str:
        """Where better numbers lie: `↑`, `↓`, or nothing."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


@dataclass(frozen=True)
class SummaryCell:
    """One number of one explainer.

    Attributes:
        mean: Mean over images; None where no image has a value.
        sem: Standard error of the mean; None below two values.
        ci: 95 % confidence interval of the mean; None where it cannot be given.
        n: Distinct images with a value.
        n_not_applicable: Distinct images without.
        small_sample: Whether so few images have a value that the interval may cover less than it promises.
        best: Whether it is the best of its model in this column, and the 95 % paired interval of its lead over the
            second best leaves out 0. Controls are left out.
        reason: Why there is no mean; None where there is one.
        floor: Mean of the random control; None where a summary does not show it beside the number.
        expected: Mean of the metric that says how high the number can be expected to be; None where there is none.
    """

    mean: float | None
    sem: float | None
    ci: tuple[float, float] | None
    n: int
    n_not_applicable: int
    small_sample: bool
    best: bool
    reason: str | None
    floor: float | None
    expected: float | None

    @property
    def text(self) -> str:
        """Mean and standard error, such as `0.874 ± 0.012`; a dash where there is no mean."""
        return mean_text(self.mean, self.sem)

    @property
    def interval(self) -> str:
        """Confidence interval, such as `[0.851, 0.896]`; empty where there is none."""
        return interval_text(self.ci)

    @property
    def floor_text(self) -> str:
        """The floor, such as `0.841`; empty where none is shown."""
        return "" if self.floor is None else number_text(self.floor, abs(self.floor))

    @property
    def expected_text(self) -> str:
        """What can be expected, such as `0.984`; empty where none is shown."""
        return "" if self.expected is None else number_text(self.expected, abs(self.expected))


@dataclass(frozen=True)
class SummaryRow:
    """One explainer on one model.

    Attributes:
        model: Name of the model in an audit of several.
        explainer: Its name in the report.
        control: Whether it is the random control, which knows nothing of the model.
        not_applicable: Why it could not run on this model; None where it ran.
        cells: One per column of `summary_columns`, in its order; None where the report has no such number.
    """

    model: str | None
    explainer: str
    control: bool
    not_applicable: str | None
    cells: tuple[SummaryCell | None, ...]


@dataclass(frozen=True)
class SummaryTable:
    """Columns that are shown together.

    Attributes:
        check: Name of the check they belong to; a table never mixes checks.
        title: The check, with the metric where the check has too many columns for one table.
        positions: Numbers of the columns in `summary_columns`.
        by_variant: Whether the title names the metric, so that the sub-case is heading enough.
    """

    check: str
    title: str
    positions: tuple[int, ...]
    by_variant: bool

    def heading(self, column: SummaryColumn) -> str:
        """What a column of this table needs to be called."""
        return column.variant if self.by_variant and column.variant is not None else column.title


def mean_text(mean: float | None, sem: float | None) -> str:
    """Mean and standard error, such as `0.874 ± 0.012`; a dash where there is no mean."""
    if mean is None:
        return "-"
    size = max(abs(mean), sem or 0.0)
    return number_text(mean, size) if sem is None else f"{number_text(mean, size)} ± {number_text(sem, size)}"


def interval_text(ci: tuple[float, float] | None) -> str:
    """Confidence interval, such as `[0.851, 0.896]`; empty where there is none."""
    if ci is None:
        return ""
    size = max(abs(end) for end in ci)
    return f"[{number_text(ci[0], size)}, {number_text(ci[1], size)}]"


def number_text(value: float, size: float) -> str:
    """A number with three decimals, or in powers of ten where these would show nothing but zeros or do not fit.

    Args:
        value: The number.
        size: Absolute value of the largest number it is shown with, so that they all end at the same digit.
    """
    # most metrics are shares and probabilities; infidelity may be 1e-7
    fixed = size == 0 or 0.0005 <= size < 10_000  # noqa: PLR2004 - half of the last decimal; nine characters
    return f"{value:.3f}" if fixed else f"{value:.1e}"


def check_kinds(report: AuditReport) -> dict[str, str]:
    """Name of every check of the plan -> its kind. `explainer` holds what explainers report about themselves."""
    return kinds_of(report.plan)


def metric_of(report: AuditReport, result: Result) -> Metric:
    """What the metric of a result means."""
    return METRICS[check_kinds(report)[result.check]][result.metric]


def is_headline(kind: str, metric: str, variant: str | None) -> bool:
    """Whether a summary shows this number of a check of this kind; of what explainers report it shows none."""
    return kind in CHECK_OF_KIND and CHECK_OF_KIND[kind].is_headline(metric, variant)


def summary_columns(report: AuditReport) -> tuple[SummaryColumn, ...]:
    """The headline metrics of the report's checks with their sub-cases, in the order of the plan."""
    kinds = check_kinds(report)
    found: dict[tuple[str, str, str | None], SummaryColumn] = {}
    for result in all_results(report):
        if result.explainer is not None and is_headline(kinds[result.check], result.metric, result.variant):
            found.setdefault((result.check, result.metric, result.variant), column_of(report, result))
    return tuple(
        column
        for check in report.plan.checks
        for metric in check.headlines
        for column in found.values()
        if (column.check, column.metric) == (check.label, metric)
    )


def column_of(report: AuditReport, result: Result) -> SummaryColumn:
    """The column a result stands in."""
    kind = check_kinds(report)[result.check]
    return SummaryColumn(
        check=result.check,
        metric=result.metric,
        variant=result.variant,
        unit=result.unit,
        higher_is_better=result.higher_is_better,
        meaning=METRICS[kind][result.metric].meaning,
        floor_shown=kind in CHECK_OF_KIND and result.metric in CHECK_OF_KIND[kind].floors_shown,
        expectation=CHECK_OF_KIND[kind].expectations_shown.get(result.metric) if kind in CHECK_OF_KIND else None,
    )


def summary_tables(columns: Sequence[SummaryColumn], most: int) -> Iterator[SummaryTable]:
    """One table per check; where it has too many columns one per metric with its sub-cases, or several of equal width.

    Args:
        columns: The columns of `summary_columns`.
        most: Columns that fit side by side, at least 1.
    """
    for check in dict.fromkeys(column.check for column in columns):
        own = [position for position, column in enumerate(columns) if column.check == check]
        metrics = dict.fromkeys(columns[position].metric for position in own)
        if len(own) <= most or len(metrics) == len(own):
            yield from _in_parts(check, check, own, most, by_variant=False)
            continue
        for metric in metrics:
            same = [position for position in own if columns[position].metric == metric]
            yield from _in_parts(check, f"{check}: {metric}", same, most, by_variant=True)


def _in_parts(check: str, title: str, own: Sequence[int], most: int, *, by_variant: bool) -> Iterator[SummaryTable]:
    parts = math.ceil(len(own) / most)
    width = math.ceil(len(own) / parts)
    for number, start in enumerate(range(0, len(own), width), 1):
        share = f" ({number} of {parts})" if parts > 1 else ""
        yield SummaryTable(check, f"{title}{share}", tuple(own[start : start + width]), by_variant)


def summary_rows(report: AuditReport) -> tuple[SummaryRow, ...]:
    """Model by model, one row per explainer in the order of the plan, then controls that ran unasked."""
    columns = summary_columns(report)
    by_key = results_by_key(report)
    explainers = listed_explainers(report)
    clear = {(one.model, one.check, one.metric, one.variant, one.best) for one in report.leads if one.clear}
    return tuple(
        SummaryRow(
            model=model,
            explainer=name,
            control=explainer.is_control,
            not_applicable=why_not(report, model, name),
            cells=tuple(
                cell_of(
                    by_key,
                    column,
                    model,
                    name,
                    best=(model, column.check, column.metric, column.variant, name) in clear,
                )
                for column in columns
            ),
        )
        for model in (one.name for one in report.audited_models)
        for name, explainer in explainers.items()
    )


def listed_explainers(report: AuditReport) -> dict[str, Explainer]:
    """Name -> explainer: those of the plan, then the control if checks ran it although the plan has none."""
    planned = {explainer.label: explainer for explainer in report.plan.explainers}
    # what belongs to explainers and not to a check says of no check that it ran the control
    of_checks = (r.explainer for r in report.controls if r.check != "explainer")
    extra = {name: CONTROL for name in of_checks if name is not None and name not in planned}
    return {**planned, **extra}


def why_not(report: AuditReport, model: str | None, explainer: str) -> str | None:
    """Why an explainer could not run on a model; None where it ran."""
    return report.not_applicable.get(explainer if model is None else f"{model}/{explainer}")


def all_results(report: AuditReport) -> Iterable[Result]:
    """Results, then controls; a control that the plan asked for is in both."""
    return (*report.results, *report.controls)


def results_by_key(report: AuditReport) -> dict[Key, Result]:
    """Every number of the report."""
    return {(r.model, r.check, r.metric, r.variant, r.explainer): r for r in all_results(report)}


def orders_used(report: AuditReport) -> tuple[str, ...]:
    """One sentence for each check that orders pixels or cells: which explainers' maps, by what."""
    sentences = []
    for check in report.plan.checks:
        of_explainer: dict[str, set[RankingOrder]] = {}
        for result in all_results(report):
            if result.check == check.label and result.explainer is not None and result.ranked_by is not None:
                of_explainer.setdefault(result.explainer, set()).add(result.ranked_by)
        parts = [
            f"{words} for {', '.join(names)}"
            for words, orders in ORDER_WORDS.items()
            if (names := [name for name, own in of_explainer.items() if own == orders])
        ]
        if parts:
            sentences.append(f"{check.label} orders {'; '.join(parts)}.")
    return tuple(sentences)


def small_samples(report: AuditReport) -> Literal["none", "some", "all"]:
    """How many means of the report rest on so few images that their intervals may cover less than they promise.

    A mark that every number has tells a reader nothing, so `all` calls for one sentence instead.
    """
    small = [result.small_sample for result in all_results(report) if result.mean is not None]
    if not any(small):
        return "none"
    return "all" if all(small) else "some"


def cell_of(
    results: Mapping[Key, Result],
    column: SummaryColumn,
    model: str | None,
    explainer: str | None,
    *,
    best: bool = False,
) -> SummaryCell | None:
    """A result as a cell; None where there is none.

    Args:
        results: Every number of the report.
        column: What to show.
        model: Of which model; None in an audit of one.
        explainer: Of which explainer; None for properties of the model.
        best: Whether its lead in the column is clear.
    """
    result = results.get((model, column.check, column.metric, column.variant, explainer))
    if result is None:
        return None
    expected = None
    if column.expectation is not None:
        expected = results.get((model, column.check, column.expectation, column.variant, explainer))
    return SummaryCell(
        mean=result.mean,
        sem=result.sem,
        ci=result.ci,
        n=result.n,
        n_not_applicable=result.n_not_applicable,
        small_sample=result.small_sample,
        best=best,
        reason="; ".join(sorted(set(result.reasons.values()))) if result.mean is None else None,
        floor=result.floor if column.floor_shown else None,
        expected=None if expected is None else expected.mean,
    )
