"""The summary of explainers as the page shows it: tables that fit a page, tinted by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from auditcore.contracts.report import AuditReport
from auditcore.report.headlines import SummaryColumn, SummaryRow, SummaryTable, summary_tables, why_not
from auditcore.report.page.tint import Tint, tints

COLUMNS_ON_A_PAGE = 6
"""Numbers with their intervals that fit side by side on a printed page."""

CellKey = tuple[str | None, str, int]
"""Model, explainer and number of a column."""


@dataclass(frozen=True)
class ModelRows:
    """The rows of one model; its name is None in an audit of one."""

    model: str | None
    rows: tuple[SummaryRow, ...]


def packed_tables(columns: Sequence[SummaryColumn]) -> tuple[tuple[SummaryTable, ...], ...]:
    """Tables that stand side by side: neighbors that fit on a page, so that many checks are not as many tables."""
    return tuple(_packed(summary_tables(columns, COLUMNS_ON_A_PAGE)))


def _packed(tables: Iterable[SummaryTable]) -> Iterator[tuple[SummaryTable, ...]]:
    row: list[SummaryTable] = []
    for table in tables:
        if row and sum(len(one.positions) for one in (*row, table)) > COLUMNS_ON_A_PAGE:
            yield tuple(row)
            row = []
        row.append(table)
    if row:
        yield tuple(row)


def rows_by_model(rows: Sequence[SummaryRow]) -> tuple[ModelRows, ...]:
    """The rows of each model, in the order of the report."""
    return tuple(ModelRows(model, tuple(same)) for model, same in groupby(rows, key=lambda row: row.model))


def cell_tints(columns: Sequence[SummaryColumn], rows: Sequence[SummaryRow]) -> Mapping[CellKey, Tint]:
    """Colors of all cells with a value, column by column over all models; the random control has none.

    A control that scores far from all explainers would make their colors alike.
    """
    found: dict[CellKey, Tint] = {}
    for position, column in enumerate(columns):
        values = {
            (row.model, row.explainer, position): cell.mean
            for row in rows
            if not row.control and (cell := row.cells[position]) is not None
        }
        found |= tints(values, higher_is_better=column.higher_is_better)
    return found


def explainers_run(report: AuditReport) -> int:
    """Explainers of the plan that could run on at least one model."""
    return sum(
        any(why_not(report, model.name, explainer.label) is None for model in report.audited_models)
        for explainer in report.plan.explainers
    )
