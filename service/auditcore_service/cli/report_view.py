"""A report as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditcore.contracts.report import AuditReport, ConditionOutcome
from auditcore.report.table import SummaryCell, SummaryColumn, SummaryRow, summary_columns, summary_rows

_VERDICT_STYLE = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red", "inconclusive": "bold yellow"}
_STATUS_STYLE = {"passed": "green", "warned": "yellow", "failed": "red", "not_applicable": "dim"}


def show_report(report: AuditReport, console: Console) -> None:
    """Print what was audited, one table a check, the conditions, what was left out, and the verdict."""
    images = report.images
    console.print(
        f"{images.used} of {images.count} images, {report.model.parameters / 1e6:.1f} M parameters, "
        f"{report.model.classes} classes{'' if report.model.trained else ', UNTRAINED weights'}; "
        f"mean ± standard error over images",
        highlight=False,
    )
    columns, rows = summary_columns(report), summary_rows(report)
    for check in report.plan.checks:
        chosen = [number for number, column in enumerate(columns) if column.check == check.label]
        if chosen:
            console.print()
            console.print(_check_table(check.label, chosen, columns, rows))
    if report.conditions:
        console.print()
        console.print(_conditions_table(report.conditions))
    _show_gaps(report, console)
    cost = report.cost
    console.print()
    console.print(
        f"{cost.forward_images} images forward and {cost.backward_images} backward through the model "
        f"in {cost.seconds:.0f} s on {cost.device}",
        style="dim",
        highlight=False,
    )
    console.print(Text.assemble("verdict: ", (report.verdict, _VERDICT_STYLE.get(report.verdict, "bold"))))


def _check_table(
    check: str, chosen: Iterable[int], columns: tuple[SummaryColumn, ...], rows: tuple[SummaryRow, ...]
) -> Table:
    table = Table(title=check, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("explainer", no_wrap=True)
    numbers = list(chosen)
    for number in numbers:
        column = columns[number]
        arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
        table.add_column(f"{column.title}{arrow}", justify="right")
    for row in rows:
        if row.not_applicable is None:
            table.add_row(row.explainer, *(_cell_text(row.cells[number]) for number in numbers), style=_row_style(row))
    return table


def _row_style(row: SummaryRow) -> str:
    return "dim" if row.control else ""


def _cell_text(cell: SummaryCell | None) -> Text:
    if cell is None:
        return Text("")
    return Text(cell.text, style="bold" if cell.best else "")


def _conditions_table(conditions: Iterable[ConditionOutcome]) -> Table:
    table = Table(title="conditions", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    table.add_column("condition", overflow="fold")
    table.add_column("observed", justify="right")
    table.add_column("wanted", justify="right")
    table.add_column("")
    for condition in conditions:
        parts = (condition.check, condition.explainer, condition.metric, condition.variant)
        table.add_row(
            " ".join(part for part in parts if part),
            "-" if condition.observed is None else f"{condition.observed:.3f}",
            f"{'>=' if condition.comparison == 'at_least' else '<='} {condition.threshold:g}",
            Text(condition.status.replace("_", " "), style=_STATUS_STYLE[condition.status]),
        )
    return table


def _show_gaps(report: AuditReport, console: Console) -> None:
    """What the tables do not show, and why."""
    for explainer, reason in report.not_applicable.items():
        console.print(f"not applicable: {explainer}: {reason}", style="yellow", highlight=False, markup=False)
    for image in report.images.excluded:
        name = image.name or f"image {image.index}"
        console.print(f"excluded: {name}: {image.reason}", style="yellow", highlight=False, markup=False)
