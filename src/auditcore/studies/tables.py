"""The rows of a study as tables: methods down, explainers across, as the papers print them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from auditcore.contracts.studies.report import StudyReport, StudyRow

AVERAGE = "average"
SIGNIFICANT = 0.05


class StudyTable(NamedTuple):
    """A table of a study.

    Attributes:
        title: What was measured.
        about: Unit, direction and seeds, or the source.
        columns: Names of the columns.
        rows: A cell for each column.
    """

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def in_markdown(self) -> str:
        """The table in Markdown."""
        head, *rows = (f"| {' | '.join(cells)} |" for cells in (self.columns, *self.rows))
        return "\n".join((f"**{self.title}** ({self.about})", "", head, f"|{'---|' * len(self.columns)}", *rows))


def study_tables(report: StudyReport) -> tuple[StudyTable, ...]:
    """All tables of a study: accuracy, then one table for each metric and sub-case, then correlations."""
    methods = [method.name for method in report.request.plan.methods]
    keys = dict.fromkeys((row.check, row.metric, row.variant) for row in report.rows)
    found = [metric_table(report, check, metric, variant, methods=methods) for check, metric, variant in keys]
    return (*found, *((correlation_table(report),) if report.correlations else ()))


def in_markdown(tables: Iterable[StudyTable]) -> str:
    """Tables as one file of Markdown."""
    return "\n\n".join(table.in_markdown() for table in tables) + "\n"


def metric_table(
    report: StudyReport,
    check: str,
    metric: str,
    variant: str | None,
    *,
    methods: Iterable[str],
    scale: float = 1.0,
) -> StudyTable:
    """One metric: a line per method, a column per explainer and, of several, one for their average.

    A cell is the mean over seeds and its 95 % interval's half width. `*` marks a difference from the baseline with
    p < 0.05 by the paired t-test over seeds; no correction for the number of comparisons is made.

    Args:
        report: The study.
        check: The check.
        metric: The metric.
        variant: Sub-case, or None.
        methods: Names of the methods to show, in order.
        scale: Factor of the printed numbers, such as 100 for probabilities in percent.
    """
    rows = [row for row in report.rows if (row.check, row.metric, row.variant) == (check, metric, variant)]
    explained = {row.explainer for row in rows if row.explainer is not None and not row.control}
    columns = list(dict.fromkeys(_column(row) for row in rows if not row.averaged or len(explained) > 1))
    cells = {(row.method, _column(row)): _cell(row, scale) for row in rows}
    arrow = {True: "higher is better", False: "lower is better", None: "no better direction"}[rows[0].higher_is_better]
    title = " ".join(part for part in (check, metric, variant) if part)
    times = "" if scale == 1 else f", times {scale:g}"
    return StudyTable(
        title,
        f"{rows[0].unit}{times}; {arrow}; {len(report.request.plan.seeds)} seeds",
        ("method", *columns),
        tuple(
            (method, *(cells.get((method, column), "") for column in columns))
            for method in methods
            if any((method, column) in cells for column in columns)
        ),
    )


def correlation_table(report: StudyReport) -> StudyTable:
    """Correlation of robustness to random deletion with scores of deletion; without a row if there are none."""
    return StudyTable(
        "Correlation with `rao_auc` over models",
        "Won et al. 2025, table 4",
        ("check", "score", "all models", "n", "means of methods"),
        tuple(
            (
                " ".join(part for part in (one.check, one.variant) if part),
                one.metric,
                _number(one.pearson),
                str(one.n),
                _number(one.over_methods),
            )
            for one in report.correlations
        ),
    )


def _column(row: StudyRow) -> str:
    return row.explainer or (AVERAGE if row.averaged else "value")


def _cell(row: StudyRow, scale: float) -> str:
    if row.mean is None:
        return "-"
    width = "" if row.ci is None else f" ± {_number((row.ci[1] - row.ci[0]) / 2 * scale)}"
    difference = row.difference
    marked = difference is not None and difference.p_value is not None and difference.p_value < SIGNIFICANT
    return f"{_number(row.mean * scale)}{width}{'*' if marked else ''}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
